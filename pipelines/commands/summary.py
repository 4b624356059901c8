"""The short tables that end a run: the funnel, how good and how wrong de-duplication is, how fast each stage was."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from manifests.audit import counts, few, read_ledger
from manifests.store import Folder
from pipelines.evaluation import faults
from pipelines.stages import STAGE_FILE, STAGES, evaluate
from pipelines.stages.context import PARTS_FILE


def funnel(run: Folder) -> Group:
    """Images read = kept + used + dropped + failed, of each source; and faces found = kept + dropped, where sought.

    Counted from the manifest, or from what ingest has so far. Once ingest is done, `read` is what the source listed
    before any of it was read, so that a lost record would show.
    """
    counted = counts(read_ledger(run, ["source", "status", "reason", "parent_id"]))
    listed = _listed(run) if run.child("samples").exists(STAGE_FILE) else {}
    sought = any(source.sought_faces for source in counted)
    columns = ("source", "read", "failed", "dropped", *(("used",) if sought else ()), "kept", "reconciles")
    shown = Table(*columns, title="Images", title_justify="left")
    for source in counted:
        read = listed.get(source.source, source.read)
        parts = (source.failed, source.dropped, *((source.used,) if sought else ()), source.kept)
        _add(shown, source.source, read, parts, read == source.failed + source.dropped + source.used + source.kept)
    if not sought:
        return Group(shown)
    faces = Table("source", "found", "dropped", "kept", "reconciles", title="Faces", title_justify="left")
    for source in counted:
        of = source.faces
        _add(faces, source.source, of.found, (of.dropped, of.kept), of.reconciles)
    return Group(shown, faces)


def _add(table: Table, source: str, whole: int, parts: tuple[int, ...], reconciles: bool) -> None:
    numbers = (f"{number:,}" for number in (whole, *parts))
    table.add_row(source, *numbers, "yes" if reconciles else "NO")


def _listed(run: Folder) -> dict[str, int]:
    """How many records each source listed when its parts were frozen."""
    parts = run.child("samples").read_table(PARTS_FILE, ["source", "records"])
    sums = parts.group_by("source").aggregate([("records", "sum")]).to_pylist()
    return {row["source"]: row["records_sum"] for row in sums}


def run_summary(run: Folder) -> Group:
    """All that is worth a line at the end of a run."""
    unmeasured = _unmeasured(run)
    return Group(funnel(run), _quality(run), _speeds(run), *([] if unmeasured is None else [unmeasured]))


def _quality(run: Folder) -> Table:
    shown = Table("near-duplicates", "recall", "precision", "of", title="De-duplication", title_justify="left")
    groups = run.child("groups")
    if groups.exists("quality.json"):
        quality = groups.read_json("quality.json")
        plants, truth = quality["plants"], quality["truth"]
        if plants["sources"]:
            planted = sum(of["planted"] for of in plants["by_change"].values())
            shown.add_row(
                "planted at ingest",
                _share(plants["recall"]),
                f"{plants['wrong_merges']:,} wrong merges",
                f"{planted:,}",
            )
        if truth:
            shown.add_row(
                "known to the source", _share(truth["recall"]), _share(truth["precision"]), f"{truth['variants']:,}"
            )
        for point in quality["expected"] or []:
            share = f" ({few(100 * point['wrong'] / point['removals'])}%)" if point["removals"] else ""
            shown.add_row(
                f"{point['images']:,} images, {_rule(point['radius'], point['correlation_min'])}",
                _share(point["recall"]),
                f"at most {few(point['wrong'])} wrong{share}",
                f"{point['removals']:,} removals",
            )
        shown.caption = (
            f"{quality['removed']:,} removed in {quality['groups']:,} groups; rule {quality['rule']}, "
            f"{_rule(quality['radius'], quality['correlation_min'])}"
            f"{', which set itself' if quality['radius_set_itself'] else ''}; "
            f"{quality['pairs']:,} pairs nominated, {quality['judged']:,} judged"
        )
    return shown


def _rule(radius: int, border: float | None) -> str:
    return f"radius {radius}" if border is None else f"radius {radius}, border {border:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _unmeasured(run: Folder) -> Table | None:
    """The measurements that can't be taken; None where all were."""
    shown = Table("measurement", "why", title="Not measurable", title_justify="left")
    for name, fault in faults(run.child(evaluate.FOLDER)).items():
        shown.add_row(name, Text(fault))
    return shown if shown.row_count else None


def _speeds(run: Folder) -> Table:
    shown = Table("stage", "seconds", "images/s", "", title="Stages", title_justify="left")
    for stage in STAGES:
        folder = run.child(stage.folder)
        if folder.exists(STAGE_FILE):
            said = folder.read_json(STAGE_FILE)
            rate = said["images_per_s"]
            done = ", ".join(f"{value:,} {name}" for name, value in said["counts"].items())
            shown.add_row(stage.name, f"{said['seconds']:,.1f}", "" if rate is None else f"{rate:,.0f}", done)
    return shown
