"""The ledger -> figures. Reads columns, never whole tables.

Nothing here loops over rows: 3 million of them are counted by Arrow and NumPy.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests.schema import MANIFEST, Reason, Status, status_of
from manifests.store import Folder

BATCH_ROWS = 1 << 17
NO_REASON = "no reason given"


@dataclass(frozen=True)
class FaceCounts:
    """What became of the faces that were found in a source's images. `reasons` counts those not kept."""

    found: int
    kept: int
    dropped: int
    reasons: dict[str, int]

    @property
    def reconciles(self) -> bool:
        """Whether every face found is kept or dropped."""
        return self.found == self.kept + self.dropped


@dataclass(frozen=True)
class SourceCounts:
    """What became of a source's images, and of the faces in them. `reasons` counts the images dropped or failed."""

    source: str
    read: int
    kept: int
    used: int
    dropped: int
    failed: int
    reasons: dict[str, int]
    faces: FaceCounts

    @property
    def reconciles(self) -> bool:
        """Whether every image read is kept, used, dropped or failed, and every face found kept or dropped."""
        return self.read == self.kept + self.used + self.dropped + self.failed and self.faces.reconciles

    @property
    def samples(self) -> int:
        """Images and faces kept: what there is to train on."""
        return self.kept + self.faces.kept

    @property
    def sought_faces(self) -> bool:
        """Whether faces were looked for in the images."""
        return bool(self.used or self.faces.found or self.reasons.get(Reason.NO_FACE))


@dataclass(frozen=True)
class ReasonCount:
    """How many images or faces one reason took, with the first of them (by place in the ledger) as an example.

    `share` is of all images, or of all faces.
    """

    reason: str
    status: str
    faces: bool
    count: int
    share: float
    example_key: str
    example_detail: str


def read_ledger(run: Folder, columns: list[str]) -> pa.Table:
    """Columns of the ledger: of the manifest, or before it exists of the ingested parts."""
    empty = pa.schema([MANIFEST.field(name) for name in columns]).empty_table()
    return pa.concat_tables([empty, *ledger_batches(run, columns)])


def ledger_batches(run: Folder, columns: list[str]) -> Iterator[pa.Table]:
    """The same, a stretch of rows at a time. A column that an earlier version did not write is null."""
    schema = pa.schema([MANIFEST.field(name) for name in columns])
    folder, names = run, ["manifest.parquet"]
    if not run.exists(names[0]):
        folder = run.child("samples")
        names = [name for name in folder.names() if name.startswith("part-") and name.endswith(".parquet")]
    for name in names:
        with folder.open_input(name) as file:
            parquet = pq.ParquetFile(file)
            there = [column for column in columns if column in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(BATCH_ROWS, columns=there):
                held = {field.name: batch.column(field.name) for field in schema if field.name in there}
                nulls = {field.name: pa.nulls(len(batch), field.type) for field in schema if field.name not in there}
                yield pa.table({column: (held | nulls)[column] for column in columns}, schema=schema)


def is_face(ledger: pa.Table) -> pa.ChunkedArray:
    """Which rows are a face's, by the column parent_id; the others are an image's."""
    return pc.is_valid(ledger["parent_id"])


def counts(ledger: pa.Table) -> list[SourceCounts]:
    """The counts of each source, in order of name, from the columns source, status, reason and parent_id.

    `read` counts the source's images and `found` their faces; the others count by status. A row with any other status
    shows as a difference.
    """
    by_status: Counter[tuple[str, bool, str]] = Counter()
    rows: Counter[tuple[str, bool]] = Counter()
    reasons: dict[tuple[str, bool], Counter[str]] = defaultdict(Counter)
    ledger = ledger.append_column("face", is_face(ledger))
    for row in _grouped(ledger, ["source", "face", "status", "reason"]):
        whose, status, number = (row["source"], row["face"]), row["status"], row["count_all"]
        rows[whose] += number
        by_status[*whose, status] += number
        if status not in (Status.KEPT, Status.USED):
            reasons[whose][row["reason"] or NO_REASON] += number
    return [
        SourceCounts(
            source=source,
            read=rows[source, False],
            kept=by_status[source, False, Status.KEPT],
            used=by_status[source, False, Status.USED],
            dropped=by_status[source, False, Status.DROPPED],
            failed=by_status[source, False, Status.FAILED],
            reasons=dict(reasons[source, False]),
            faces=FaceCounts(
                found=rows[source, True],
                kept=by_status[source, True, Status.KEPT],
                dropped=by_status[source, True, Status.DROPPED],
                reasons=dict(reasons[source, True]),
            ),
        )
        for source in sorted({source for source, _ in rows})
    ]


def total(sources: list[SourceCounts]) -> SourceCounts:
    """The counts of all sources together."""
    faces = [source.faces for source in sources]
    return SourceCounts(
        source="all sources",
        read=sum(source.read for source in sources),
        kept=sum(source.kept for source in sources),
        used=sum(source.used for source in sources),
        dropped=sum(source.dropped for source in sources),
        failed=sum(source.failed for source in sources),
        reasons=_sum_of([source.reasons for source in sources]),
        faces=FaceCounts(
            found=sum(face.found for face in faces),
            kept=sum(face.kept for face in faces),
            dropped=sum(face.dropped for face in faces),
            reasons=_sum_of([face.reasons for face in faces]),
        ),
    )


def _sum_of(numbers: list[dict[str, int]]) -> dict[str, int]:
    summed: Counter[str] = Counter()
    for of in numbers:
        summed.update(of)
    return dict(summed)


def contradictions(ledger: pa.Table) -> int:
    """The number of rows whose status is not the one that their reason stands for; a used image has no reason."""
    known = {str(reason): {status_of(reason)} for reason in Reason}
    ledger = ledger.append_column("face", is_face(ledger))
    return sum(
        row["count_all"]
        for row in _grouped(ledger, ["face", "status", "reason"])
        if row["status"] not in _possible(row["face"], row["reason"], known)
    )


def _possible(face: bool, reason: str | None, known: dict[str, set[Status]]) -> Collection[str]:
    """The statuses that a row may have; a reason of another version may stand for any."""
    if reason is None:
        return {Status.KEPT} if face else {Status.KEPT, Status.USED}
    return known.get(reason, {Status.DROPPED, Status.FAILED})


def reasons(run: Folder) -> list[ReasonCount]:
    """Every reason of the ledger with its count and an example, the most frequent first; of images and faces apart."""
    ledger = read_ledger(run, ["status", "reason", "parent_id"])
    face = is_face(ledger)
    faces = pc.sum(face).as_py() or 0
    ledger = pa.table(
        {"status": ledger["status"], "reason": ledger["reason"], "face": face, "row": np.arange(len(ledger))}
    )
    stays = pc.is_in(ledger["status"], pa.array([Status.KEPT.value, Status.USED.value]))
    lost = ledger.filter(pc.invert(stays))
    found = lost.group_by(["status", "reason", "face"]).aggregate([([], "count_all"), ("row", "min")])
    found = found.sort_by([("count_all", "descending"), ("row_min", "ascending")])
    keys = texts(read_ledger(run, ["source_key"]).column(0).take(found["row_min"]))
    details = texts(read_ledger(run, ["detail"]).column(0).take(found["row_min"]))
    return [
        ReasonCount(
            reason=row["reason"] or NO_REASON,
            status=row["status"],
            faces=row["face"],
            count=row["count_all"],
            share=row["count_all"] / (faces if row["face"] else len(ledger) - faces),
            example_key=key,
            example_detail=detail,
        )
        for row, key, detail in zip(found.to_pylist(), keys, details, strict=True)
    ]


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
