"""The short tables that end a run: the funnel, what the planted duplicates say, and how fast each stage was."""

from collections import Counter

from rich.console import Group
from rich.table import Table

from manifests.schema import Status
from manifests.store import Folder
from pipelines.stages import STAGE_FILE, STAGES


def funnel(run: Folder) -> Table:
    """read = kept + dropped + failed, of each source; from the manifest, or from what ingest has so far."""
    counted: Counter[tuple[str, str]] = Counter()
    if run.exists("manifest.parquet"):
        tables = iter([run.read_table("manifest.parquet", ["source", "status"])])
    else:
        tables = run.child("samples").read_tables("part-", ["source", "status"])
    for table in tables:
        for row in table.group_by(["source", "status"]).aggregate([([], "count_all")]).to_pylist():
            counted[row["source"], row["status"]] += row["count_all"]
    shown = Table("source", "read", "failed", "dropped", "kept", "reconciles", title="Images", title_justify="left")
    for source in sorted({source for source, _ in counted}):
        failed, dropped, kept = (counted[source, s] for s in (Status.FAILED, Status.DROPPED, Status.KEPT))
        read = sum(count for (of, _), count in counted.items() if of == source)
        sign = "yes" if read == failed + dropped + kept else "NO"
        shown.add_row(source, f"{read:,}", f"{failed:,}", f"{dropped:,}", f"{kept:,}", sign)
    return shown


def run_summary(run: Folder) -> Group:
    """All that is worth a line at the end of a run."""
    return Group(funnel(run), _quality(run), _speeds(run))


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
        shown.caption = f"{quality['removed']:,} removed at radius {quality['radius']} in {quality['groups']:,} groups"
    return shown


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _speeds(run: Folder) -> Table:
    shown = Table("stage", "seconds", "images/s", "", title="Stages", title_justify="left")
    for stage in STAGES:
        folder = run.child(stage.folder)
        if folder.exists(STAGE_FILE):
            said = folder.read_json(STAGE_FILE)
            rate = said["images_per_s"]
            counts = ", ".join(f"{value:,} {name}" for name, value in said["counts"].items())
            shown.add_row(stage.name, f"{said['seconds']:,.1f}", "" if rate is None else f"{rate:,.0f}", counts)
    return shown
