"""The ledger's sections: the funnel with its checks, reasons, and what the images measure."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from manifests import charts
from manifests.audit import (
    Distribution,
    SourceCounts,
    common,
    contradictions,
    counts,
    distribution,
    read_ledger,
    reasons,
    total,
)
from manifests.schema import Reason
from manifests.store import Folder

LATE_REASONS = (Reason.EXACT_REPEAT, Reason.NEAR_DUPLICATE)
MEANINGS = {
    Reason.EMPTY: "no bytes",
    Reason.UNREADABLE: "the source could not give its bytes",
    Reason.TOO_MANY_BYTES: "more bytes than the recipe allows",
    Reason.TOO_MANY_PIXELS: "more pixels than the recipe allows, by the file's header",
    Reason.NOT_AN_IMAGE: "the bytes are of no known image format",
    Reason.CORRUPT: "an image by its header that does not decode",
    Reason.CRASHED: "the decoder's process died on it",
    Reason.ANIMATED: "more than one frame",
    Reason.TOO_SMALL: "fewer pixels than the recipe asks for",
    Reason.ASPECT: "too long and narrow for the recipe",
    Reason.EXACT_REPEAT: "the same bytes as a record that stays",
    Reason.NEAR_DUPLICATE: "nearly the same picture as one that stays",
}
ASPECT_TICKS = {1 / 3: "1:3", 1 / 2: "1:2", 3 / 4: "3:4", 1.0: "1:1", 4 / 3: "4:3", 2.0: "2:1", 3.0: "3:1"}


class Check(NamedTuple):
    """An equation that must hold: both sides, with their words."""

    words: str
    left: int
    right: int
    sums: str = ""

    @property
    def holds(self) -> bool:
        """Whether both sides are equal."""
        return self.left == self.right


def funnel(run: Folder, shards: dict[str, Any] | None) -> dict[str, Any] | None:
    """The counts of each source and of all, and the checks that they must pass; None where nothing was read."""
    ledger = read_ledger(run, ["source", "status", "reason"])
    if not len(ledger):
        return None
    sources = counts(ledger)
    checks = [
        Check(
            f"{source.source}: read = kept + dropped + failed",
            source.read,
            source.kept + source.dropped + source.failed,
            f"{source.kept:,} + {source.dropped:,} + {source.failed:,}",
        )
        for source in sources
    ]
    everything = total(sources)
    checks.append(Check("records whose status contradicts their reason = none", contradictions(ledger), 0))
    if run.exists("manifest.parquet"):
        ingested = sum(len(part) for part in run.child("samples").read_tables("part-", ["status"]))
        checks.append(Check("rows of the manifest = rows that ingest wrote", everything.read, ingested))
    if run.child("samples").exists("stage.json") and run.child("samples").exists("parts.parquet"):
        listed = pc.sum(run.child("samples").read_table("parts.parquet", ["records"])["records"]).as_py()
        checks.append(Check("rows = records that the sources listed beforehand", everything.read, listed))
    if shards:
        held = sum(shards["samples"].values())
        checks.append(Check("kept = samples in the shards", everything.kept, held))
        tars = sum(shard["samples"] for shard in shards["shards"])
        checks.append(Check("samples in the shards = sum over the listed shards", held, tars))
    shown = sources if len(sources) == 1 else [everything, *sources]
    return {
        "sources": sources,
        "total": everything,
        "cards": [(source, steps(source, run.exists("manifest.parquet"))) for source in shown],
        "checks": checks,
        "holds": all(check.holds for check in checks),
    }


def steps(source: SourceCounts, deduplicated: bool) -> list[dict[str, Any]]:
    """The steps that a source's records pass, in order: name, how many are left as a share of all, how many went."""
    late = {reason: source.reasons.get(reason, 0) for reason in LATE_REASONS}
    losses = [("Decoded", "failed", source.failed), ("Passed filters", "dropped", source.dropped - sum(late.values()))]
    if deduplicated:
        losses.append(("Distinct bytes", "exact repeats", late[Reason.EXACT_REPEAT]))
        losses.append(("Distinct pictures", "near-duplicates", late[Reason.NEAR_DUPLICATE]))
    left = source.read
    rows: list[dict[str, Any]] = [{"name": "Read", "left": left, "lost": 0, "why": ""}]
    for name, why, lost in losses:
        left -= lost
        rows.append({"name": name, "left": left, "lost": lost, "why": why})
    rows[-1] |= {"name": "Kept" if deduplicated else "Kept so far", "left": source.kept}
    return [{**row, "share": row["left"] / source.read if source.read else 0.0} for row in rows]


def reason_table(run: Folder) -> list[dict[str, Any]]:
    """A row for each reason, the most frequent first, with its meaning."""
    return [{"reason": row, "meaning": MEANINGS.get(row.reason, "")} for row in reasons(run)]  # type: ignore[call-overload]


def measures(run: Folder) -> dict[str, Any] | None:
    """Distributions of what was measured, kept against dropped, and the common formats and sizes."""
    ledger = read_ledger(run, ["status", "format", "width", "height", "mean", "sharpness"])
    decoded = ledger.filter(ledger["width"].is_valid())
    if not len(decoded):
        return None
    status = decoded["status"]
    width, height = _floats(decoded, "width"), _floats(decoded, "height")
    brightness, sharpness = _floats(decoded, "mean"), _floats(decoded, "sharpness")
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = width / height
    side = np.minimum(width, height)
    # All of the range: what is dropped for being small lies at its very end.
    sides = (float(side.min()), float(side.max()))
    found = [
        ("resolution", "Resolution", "shorter side, px", 0, distribution(side, status, True, sides), True),
        ("aspect", "Aspect ratio", "width : height", 2, distribution(aspect, status, True, (1 / 3, 3)), True),
        ("sharpness", "Sharpness", "variance of the Laplacian", 0, distribution(sharpness, status, True), True),
        (
            "brightness",
            "Brightness",
            "mean luma, 0 to 255",
            0,
            distribution(brightness, status, False, (0, 255)),
            False,
        ),
    ]
    cards = [
        {
            "title": title,
            "unit": unit,
            "digits": digits,
            "quantiles": held.quantiles,
            "chart": _histogram(name, title, unit, held, log, ASPECT_TICKS if name == "aspect" else None),
        }
        for name, title, unit, digits, held, log in found
        if held is not None
    ]
    return {
        "cards": cards,
        "records": len(ledger),
        "formats": common(ledger, ["format"], 12),
        "sizes": common(decoded, ["width", "height"], 6),
        "decoded": len(decoded),
    }


def _histogram(
    name: str, title: str, unit: str, held: Distribution, log: bool, ticks: dict[float, str] | None
) -> Markup:
    medians = "; ".join(
        f"{status}: {held.numbers[status]:,} images, median {held.quantiles[status][1]:,.4g}" for status in held.shares
    )
    shares = {f"{status} ({held.numbers[status]:,})": share for status, share in held.shares.items()}
    description = f"Histogram of {title.lower()} ({unit}). {medians}."
    return charts.histogram(name, description, held.edges, shares, unit, log=log, ticks=ticks)


def _floats(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    """A column as float64, NaN for null."""
    values: npt.NDArray[np.float64] = table[column].cast(pa.float64()).to_numpy()
    return values
