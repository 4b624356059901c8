"""The ledger -> figures. Reads columns, never whole tables.

Nothing here loops over rows: 3 million of them are counted by Arrow and NumPy.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests.schema import LEDGER, Reason, Status, status_of
from manifests.store import Folder

Floats = npt.NDArray[np.float64]

HISTOGRAM_BINS = 36
NO_REASON = "no reason given"


@dataclass(frozen=True)
class SourceCounts:
    """What became of a source's records. `reasons` counts those not kept, by their reason."""

    source: str
    read: int
    kept: int
    dropped: int
    failed: int
    reasons: dict[str, int]

    @property
    def reconciles(self) -> bool:
        """Whether every record read is kept, dropped or failed."""
        return self.read == self.kept + self.dropped + self.failed


@dataclass(frozen=True)
class ReasonCount:
    """How many records one reason took, with the first of them (by place in the ledger) as an example."""

    reason: str
    status: str
    count: int
    share: float
    example_key: str
    example_detail: str


@dataclass(frozen=True)
class Distribution:
    """A measure's histogram, kept and dropped apart, as shares of each. Values beyond the ends lie in them."""

    edges: Floats
    shares: dict[str, Floats]
    numbers: dict[str, int]
    quantiles: dict[str, tuple[float, float, float]]  # 5 %, median, 95 %


def read_ledger(run: Folder, columns: list[str]) -> pa.Table:
    """Columns of the ledger: of the manifest, or before it exists of the ingested parts."""
    if run.exists("manifest.parquet"):
        return run.read_table("manifest.parquet", columns)
    empty = pa.schema([LEDGER.field(name) for name in columns]).empty_table()
    return pa.concat_tables([empty, *run.child("samples").read_tables("part-", columns)])


def counts(ledger: pa.Table) -> list[SourceCounts]:
    """The counts of each source, in order of name, from the columns source, status and reason.

    `read` counts the source's rows; the other three count by status. A row with any other status shows as a difference.
    """
    read: Counter[str] = Counter()
    by_status: Counter[tuple[str, str]] = Counter()
    reasons: dict[str, Counter[str]] = {}
    for row in _grouped(ledger, ["source", "status", "reason"]):
        source, status, number = row["source"], row["status"], row["count_all"]
        read[source] += number
        by_status[source, status] += number
        held = reasons.setdefault(source, Counter())
        if status != Status.KEPT:
            held[row["reason"] or NO_REASON] += number
    return [
        SourceCounts(
            source=source,
            read=read[source],
            kept=by_status[source, Status.KEPT],
            dropped=by_status[source, Status.DROPPED],
            failed=by_status[source, Status.FAILED],
            reasons=dict(reasons[source]),
        )
        for source in sorted(read)
    ]


def total(sources: list[SourceCounts]) -> SourceCounts:
    """The counts of all sources together."""
    reasons: Counter[str] = Counter()
    for source in sources:
        reasons.update(source.reasons)
    return SourceCounts(
        source="all sources",
        read=sum(source.read for source in sources),
        kept=sum(source.kept for source in sources),
        dropped=sum(source.dropped for source in sources),
        failed=sum(source.failed for source in sources),
        reasons=dict(reasons),
    )


def contradictions(ledger: pa.Table) -> int:
    """The number of rows whose status is not the one that their reason stands for."""
    known = {str(reason): status_of(reason) for reason in Reason}
    return sum(
        row["count_all"]
        for row in _grouped(ledger, ["status", "reason"])
        if row["status"] != (Status.KEPT if row["reason"] is None else known.get(row["reason"], row["status"]))
    )


def reasons(run: Folder) -> list[ReasonCount]:
    """Every reason of the ledger with its count and an example, the most frequent first."""
    ledger = read_ledger(run, ["status", "reason"])
    ledger = ledger.append_column("row", pa.array(np.arange(len(ledger))))
    lost = ledger.filter(pc.invert(pc.equal(ledger["status"], Status.KEPT.value)))
    found = lost.group_by(["status", "reason"]).aggregate([([], "count_all"), ("row", "min")])
    found = found.sort_by([("count_all", "descending"), ("row_min", "ascending")])
    keys = texts(read_ledger(run, ["source_key"]).column(0).take(found["row_min"]))
    details = texts(read_ledger(run, ["detail"]).column(0).take(found["row_min"]))
    return [
        ReasonCount(row["reason"] or NO_REASON, row["status"], row["count_all"], row["count_all"] / len(ledger), *e)
        for row, e in zip(found.to_pylist(), zip(keys, details, strict=True), strict=True)
    ]


def common(ledger: pa.Table, columns: list[str], limit: int) -> list[tuple[tuple[Any, ...], int]]:
    """The most common values of one or more columns with their counts, the most common first."""
    order = [("count_all", "descending"), *((name, "ascending") for name in columns)]
    found = ledger.group_by(columns).aggregate([([], "count_all")]).sort_by(order).slice(0, limit)
    return [(tuple(row[name] for name in columns), row["count_all"]) for row in found.to_pylist()]


def distribution(
    values: Floats, status: pa.ChunkedArray, log: bool = False, limits: tuple[float, float] | None = None
) -> Distribution | None:
    """The histogram of a measure by status, or None where nothing was measured.

    `values`: float64[rows], NaN where not measured. `limits` are the ends, by default the 0.5 and 99.5 percentiles.
    """
    measured = np.isfinite(values) & (values > 0 if log else True)
    if not measured.any():
        return None
    low, high = limits or np.percentile(values[measured], [0.5, 99.5])
    if low == high:  # all images measure the same: one bar in the middle
        low, high = (low / 1.5, high * 1.5) if log or low > 0 else (low - 1, high + 1)
    edges = np.geomspace(low, high, HISTOGRAM_BINS + 1) if log else np.linspace(low, high, HISTOGRAM_BINS + 1)
    shares, numbers, quantiles = {}, {}, {}
    for name in (Status.KEPT.value, Status.DROPPED.value):
        chosen = values[measured & pc.fill_null(pc.equal(status, name), False).to_numpy()]
        if len(chosen):
            held = np.histogram(np.clip(chosen, edges[0], edges[-1]), edges)[0]
            shares[name], numbers[name] = held / len(chosen), len(chosen)
            five, middle, ninety_five = np.percentile(chosen, [5, 50, 95]).tolist()
            quantiles[name] = (five, middle, ninety_five)
    return Distribution(edges, shares, numbers, quantiles) if shares else None


def _grouped(table: pa.Table, columns: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.select(columns).group_by(columns).aggregate([([], "count_all")]).to_pylist()
    return rows


def texts(column: pa.ChunkedArray) -> list[str]:
    """Text from data that may not be valid UTF-8: what isn't shows as an escape."""
    return [(value or b"").decode("utf-8", "backslashreplace") for value in column.cast(pa.binary()).to_pylist()]


def few(value: float) -> str:
    """A small expected number, to two digits, or a large one as a whole number: 0.013, 17, 18,706."""
    if 0 < value < 0.0001:
        return "< 0.0001"
    if value >= 10:
        return f"{value:,.0f}"
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")
