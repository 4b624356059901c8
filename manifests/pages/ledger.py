"""The ledger's sections: the funnel with its checks, reasons, and what the images measure."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from manifests import charts
from manifests.audit import SourceCounts, contradictions, counts, is_face, read_ledger, reasons, total
from manifests.distribution import Distribution, common, distribution
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
    Reason.NOT_FETCHED: "its address gave no image",
    Reason.REFUSED_ADDRESS: "its address is one that is never fetched from",
    Reason.OPTED_OUT: "its site asks not to be crawled or learned from",
    Reason.DENIED: "on the list of what was taken down",
    Reason.ANIMATED: "more than one frame",
    Reason.TOO_SMALL: "fewer pixels than the recipe asks for",
    Reason.ASPECT: "too long and narrow for the recipe",
    Reason.NO_FACE: "no face was found in it",
    Reason.FACE_TOO_SMALL: "fewer pixels than the recipe asks of a face",
    Reason.FACE_UNSURE: "the detector was less sure than the recipe asks",
    Reason.FACE_FALSE: "a second look took it for no face",
    Reason.FACE_AT_EDGE: "no room in its image for the square with its margin",
    Reason.FACE_BLURRED: "less sharp than the recipe asks",
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
    ledger = read_ledger(run, ["source", "status", "reason", "parent_id"])
    if not len(ledger):
        return None
    sources = counts(ledger)
    everything = total(sources)
    checks = [check for source in sources for check in _reconciled(source)]
    checks.append(Check("records whose status contradicts their reason = none", contradictions(ledger), 0))
    if everything.sought_faces:
        holding = sum(
            pc.count_distinct(part["parent_id"], mode="only_valid").as_py()
            for part in run.child("samples").read_tables("part-", ["parent_id"])
        )
        checks.append(Check("images used = images that faces were found in", everything.used, holding))
    if run.exists("manifest.parquet"):
        ingested = sum(len(part) for part in run.child("samples").read_tables("part-", ["status"]))
        rows = everything.read + everything.faces.found
        checks.append(Check("rows of the manifest = rows that ingest wrote", rows, ingested))
    if run.child("samples").exists("stage.json") and run.child("samples").exists("parts.parquet"):
        listed = pc.sum(run.child("samples").read_table("parts.parquet", ["records"])["records"]).as_py()
        checks.append(Check("images read = records that the sources listed beforehand", everything.read, listed))
    if shards:
        held = sum(shards["samples"].values())
        checks.append(Check("kept = samples in the shards", everything.samples, held))
        tars = sum(shard["samples"] for shard in shards["shards"])
        checks.append(Check("samples in the shards = sum over the listed shards", held, tars))
    shown = sources if len(sources) == 1 else [everything, *sources]
    deduplicated = run.exists("manifest.parquet")
    return {
        "sources": sources,
        "total": everything,
        "faces": everything.sought_faces,
        "cards": [(source, steps(source, deduplicated), face_steps(source, deduplicated)) for source in shown],
        "checks": checks,
        "holds": all(check.holds for check in checks),
    }


def _reconciled(source: SourceCounts) -> list[Check]:
    numbers = {"kept": source.kept, "used": source.used, "dropped": source.dropped, "failed": source.failed}
    if not source.used:
        del numbers["used"]
    checks = [_sum_check(f"{source.source}: read", source.read, numbers)]
    if source.sought_faces:
        faces = {"kept": source.faces.kept, "dropped": source.faces.dropped}
        checks.append(_sum_check(f"{source.source}: faces found", source.faces.found, faces))
    return checks


def _sum_check(words: str, left: int, numbers: dict[str, int]) -> Check:
    sums = " + ".join(f"{number:,}" for number in numbers.values())
    return Check(f"{words} = {' + '.join(numbers)}", left, sum(numbers.values()), sums)


def steps(source: SourceCounts, deduplicated: bool) -> list[dict[str, Any]]:
    """The steps that a source's images pass, in order: name, how many are left as a share of all, how many went."""
    lost = {reason: source.reasons.get(reason, 0) for reason in Reason}
    barred = lost[Reason.OPTED_OUT] + lost[Reason.DENIED]
    absent = lost[Reason.NOT_FETCHED] + lost[Reason.REFUSED_ADDRESS]
    other = source.dropped - barred - sum(lost[reason] for reason in (Reason.NO_FACE, *LATE_REASONS))
    losses = [("Permitted", "opted out or denied", barred)] if barred else []
    losses += [("Fetched", "not fetched", absent)] if absent else []
    losses += [("Decoded", "failed", source.failed - absent), ("Passed filters", "dropped", other)]
    if source.sought_faces:
        losses.append(("With a face", "without", lost[Reason.NO_FACE]))
        return _passed(source.read, losses, "Read", "With a face", source.kept + source.used)
    return _kept(source.read, losses, source.reasons, deduplicated, "Read", source.kept)


def face_steps(source: SourceCounts, deduplicated: bool) -> list[dict[str, Any]]:
    """The same of the faces that were found in its images; empty where none were looked for."""
    if not source.sought_faces:
        return []
    faces = source.faces
    late = sum(faces.reasons.get(reason, 0) for reason in LATE_REASONS)
    losses = [("Passed filters", "dropped", faces.dropped - late)]
    return _kept(faces.found, losses, faces.reasons, deduplicated, "Found", faces.kept)


def _kept(
    all_: int, losses: list[tuple[str, str, int]], reasons: dict[str, int], deduplicated: bool, first: str, kept: int
) -> list[dict[str, Any]]:
    if deduplicated:
        repeats = ("Distinct bytes", "exact repeats", reasons.get(Reason.EXACT_REPEAT, 0))
        near = ("Distinct pictures", "near-duplicates", reasons.get(Reason.NEAR_DUPLICATE, 0))
        losses = [*losses, repeats, near]
    return _passed(all_, losses, first, "Kept" if deduplicated else "Kept so far", kept)


def _passed(all_: int, losses: list[tuple[str, str, int]], first: str, last: str, remain: int) -> list[dict[str, Any]]:
    """Rows of the steps; the last is named `last`, and shows what the ledger says, not what the losses leave."""
    left = all_
    rows: list[dict[str, Any]] = [{"name": first, "left": left, "lost": 0, "why": ""}]
    for name, why, lost in losses:
        left -= lost
        rows.append({"name": name, "left": left, "lost": lost, "why": why})
    rows[-1] |= {"name": last, "left": remain}
    return [{**row, "share": row["left"] / all_ if all_ else 0.0} for row in rows]


def reason_table(run: Folder) -> list[dict[str, Any]]:
    """A row for each reason, the most frequent first, with its meaning."""
    return [{"reason": row, "meaning": MEANINGS.get(row.reason, "")} for row in reasons(run)]  # type: ignore[call-overload]


def measures(run: Folder) -> dict[str, Any] | None:
    """Distributions of what was measured, kept against dropped, and the common formats and sizes.

    Sizes are the images'. Sharpness and brightness are of what could be trained on: where faces were found, of those.
    """
    ledger = read_ledger(run, ["status", "format", "width", "height", "mean", "sharpness", "parent_id"])
    faces = is_face(ledger)
    crops = ledger.filter(faces) if pc.any(faces).as_py() else ledger
    images = ledger.filter(pc.invert(faces))
    decoded = images.filter(images["width"].is_valid())
    if not len(decoded):
        return None
    status, crop_status = decoded["status"], crops["status"]
    width, height = _floats(decoded, "width"), _floats(decoded, "height")
    brightness, sharpness = _floats(crops, "mean"), _floats(crops, "sharpness")
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = width / height
    side = np.minimum(width, height)
    # All of the range: what is dropped for being small lies at its very end.
    sides = (float(side.min()), float(side.max()))
    of = " of faces" if crops is not ledger else ""
    found = [
        ("resolution", "Resolution", "shorter side, px", 0, distribution(side, status, True, sides), True),
        ("aspect", "Aspect ratio", "width : height", 2, distribution(aspect, status, True, (1 / 3, 3)), True),
        (
            "sharpness",
            f"Sharpness{of}",
            "variance of the Laplacian",
            0,
            distribution(sharpness, crop_status, True),
            True,
        ),
        (
            "brightness",
            f"Brightness{of}",
            "mean luma, 0 to 255",
            0,
            distribution(brightness, crop_status, False, (0, 255)),
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
        "records": len(images),
        "formats": common(images, ["format"], 12),
        "sizes": common(decoded, ["width", "height"], 6),
        "decoded": len(decoded),
    }


def _histogram(
    name: str, title: str, unit: str, held: Distribution, log: bool, ticks: dict[float, str] | None
) -> Markup:
    medians = "; ".join(
        f"{status}: {held.numbers[status]:,}, median {held.quantiles[status][1]:,.4g}" for status in held.shares
    )
    shares = {f"{status} ({held.numbers[status]:,})": share for status, share in held.shares.items()}
    description = f"Histogram of {title.lower()} ({unit}). {medians}."
    return charts.histogram(name, description, held.edges, shares, unit, log=log, ticks=ticks)


def _floats(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    """A column as float64, NaN for null."""
    values: npt.NDArray[np.float64] = table[column].cast(pa.float64()).to_numpy()
    return values
