"""The audit page: one HTML file that opens offline, of whatever a run folder holds so far.

Each section stands only where its data is there; what is missing is said at the top. The bytes depend on the run
folder's files alone.
"""

from typing import Any

import yaml

from manifests.pages import duplicates, evaluation, ledger, people, training
from manifests.pages.template import environment
from manifests.store import Folder

STAGES = {
    "fetch": "fetched",
    "ingest": "samples",
    "encode": "codes",
    "deduplicate": "groups",
    "shard": "shards",
    "train": "training",
    "evaluate": "evaluation",
}
WITHOUT = {
    "fetch": "images are still to be fetched",
    "ingest": "no records have been counted",
    "encode": "there are no codes to compare images by",
    "deduplicate": "repeats and near-duplicates still count as kept",
    "shard": "there is nothing to train on yet",
    "train": "there are no curves and no samples",
    "evaluate": "nothing that the networks learned is measured",
}
TITLES = {
    "funnel": "Funnel",
    "reasons": "Reasons",
    "measures": "Measures",
    "faces": "Faces",
    "people": "People",
    "origins": "Origins",
    "duplicates": "Near-duplicates",
    "shards": "Shards",
    "training": "Training",
    "evaluation": "What the networks learned",
    "run": "Run and recipe",
}


def write_report(run: Folder) -> None:
    """Write report/index.html of a run folder, finished or not."""
    # A lone surrogate in a name must not cost the whole page.
    run.child("report").write_bytes("index.html", render(run).encode("utf-8", "backslashreplace"))


def render(run: Folder) -> str:
    """The audit page of a run folder as HTML."""
    recipe = yaml.safe_load(run.read_bytes("recipe.yaml")) if run.exists("recipe.yaml") else None
    shards = _json(run.child("shards"), "dataset.json")
    page: dict[str, Any] = {
        "funnel": ledger.funnel(run, shards),
        "reasons": ledger.reason_table(run),
        "measures": ledger.measures(run),
        **people.sections(run, recipe),
        "duplicates": duplicates.section(run),
        "shards": shards,
        "training": training.section(run.child("training")),
        "evaluation": evaluation.section(run.child("evaluation")),
        "run": {"recipe": recipe, "yaml": _recipe_text(recipe), "stages": _stages(run, recipe)},
    }
    settings = (recipe or {}).get("recipe") or {}
    return (
        environment()
        .get_template("page.html")
        .render(
            **page,
            titles={key: title for key, title in TITLES.items() if page[key]},
            name=settings.get("name") or run.address.rstrip("/").rsplit("/", 1)[-1],
            without=WITHOUT,
            after_deduplication=run.exists("manifest.parquet"),
        )
    )


def _stages(run: Folder, recipe: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A row for each stage of the run: whether it is done, and its record."""
    # A run has no fingerprints of what it leaves out: one that only de-duplicates, or one that fetches nothing.
    wanted = (recipe or {}).get("fingerprints") or STAGES.keys() - {"fetch"}
    rows = []
    for stage, folder in STAGES.items():
        if stage not in wanted:
            continue
        record = _json(run.child(folder), "stage.json")
        rows.append({"stage": stage, "done": record is not None, **(record or {})})
    return rows


def _recipe_text(recipe: dict[str, Any] | None) -> str:
    if not recipe:
        return ""
    return str(yaml.safe_dump(recipe.get("recipe"), sort_keys=False, allow_unicode=True, width=88))


def _json(folder: Folder, name: str) -> Any:
    return folder.read_json(name) if folder.exists(name) else None
