"""How values of the ledger are distributed: histograms by status, and the commonest ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests.schema import Status

Floats = npt.NDArray[np.float64]

HISTOGRAM_BINS = 36


@dataclass(frozen=True)
class Distribution:
    """A measure's histogram, by status, as shares of each. Values beyond the ends lie in them."""

    edges: Floats
    shares: dict[str, Floats]
    numbers: dict[str, int]
    quantiles: dict[str, tuple[float, float, float]]  # 5 %, median, 95 %


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
    for name in (Status.KEPT.value, Status.USED.value, Status.DROPPED.value):
        chosen = values[measured & pc.fill_null(pc.equal(status, name), False).to_numpy()]
        if len(chosen):
            held = np.histogram(np.clip(chosen, edges[0], edges[-1]), edges)[0]
            shares[name], numbers[name] = held / len(chosen), len(chosen)
            five, middle, ninety_five = np.percentile(chosen, [5, 50, 95]).tolist()
            quantiles[name] = (five, middle, ninety_five)
    return Distribution(edges, shares, numbers, quantiles) if shares else None
