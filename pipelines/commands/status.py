"""dcgan status: what of a run is done, and whether its counts reconcile."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from manifests.store import Folder
from pipelines.cluster import is_cluster
from pipelines.commands.summary import funnel
from pipelines.progress import Reporter
from pipelines.run import RECIPE_FILE, is_done, read_description, read_training, recorded_recipe
from pipelines.stages import STAGE_FILE, STAGES, STARTED_FILE
from pipelines.stages.context import Context
from pipelines.trainer import PROGRESS_FILE, TRAIN_FILE
from training.outputs import SUMMARY


def status(run: Annotated[str, typer.Argument(help="The run folder")]) -> None:
    """Show the stages of a run, how much of each is done, and the counts of every source.

    Of a training of its own, as dcgan train writes it: how far it is.
    """
    folder = Folder(run)
    if folder.exists(TRAIN_FILE) and not folder.exists(RECIPE_FILE):
        Console(markup=False).print(_training(folder))
        return
    recipe = recorded_recipe(folder)
    fingerprints = read_description(folder)["fingerprints"]
    console = Console(markup=False)
    context = Context(folder, recipe, Reporter(console), is_cluster(None))
    table = Table("stage", "state", "done", "counts", "seconds", title=f"{recipe.name}: {folder}", title_justify="left")
    for stage in STAGES:
        if stage.name not in fingerprints:
            continue  # dcgan dedup leaves out what trains
        own = folder.child(stage.folder)
        if is_done(folder, stage):
            said = own.read_json(STAGE_FILE)
            counts = ", ".join(f"{value:,} {name}" for name, value in said["counts"].items())
            table.add_row(stage.name, "done", "all", counts, f"{said['seconds']:,.1f}")
        elif own.exists(STARTED_FILE):
            finished, total = stage.progress(context)
            table.add_row(stage.name, "begun", f"{finished:,} of {total:,}" if total else "", "", "")
        else:
            table.add_row(stage.name, "to do", "", "", "")
    console.print(table)
    console.print(funnel(folder))


def _training(folder: Folder) -> Table:
    """How far a training of its own is."""
    described, own = read_training(folder), folder.child("training")
    seen = own.read_json(PROGRESS_FILE)["images_seen"] if own.exists(PROGRESS_FILE) else 0
    total = seen
    if not own.exists(SUMMARY):
        asked = described["train"]
        total = asked.get("images") or round((asked.get("epochs") or 0) * described["samples"])
    table = Table("what", "value", title=f"{folder}: a training of its own, by dcgan train", title_justify="left")
    for what, value in {
        "preset": described["train"].get("preset"),
        "shards": f"{described['shards']}, {described['samples']:,} samples",
        "state": "done" if own.exists(SUMMARY) else "begun" if seen else "to do",
        "images seen": f"{seen:,}" if own.exists(SUMMARY) else f"{seen:,} of {total:,}",
    }.items():
        table.add_row(what, str(value))
    return table
