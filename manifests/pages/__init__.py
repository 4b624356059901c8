"""The audit page: one HTML file that opens offline, of whatever a run folder holds so far.

Each section stands only where its data is there; what is missing is said at the top. The bytes depend on the run
folder's files alone.
"""

import math
from typing import Any

import jinja2
import yaml

from manifests.pages import duplicates, ledger, people, training
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
DASH = "\N{EN DASH}"
WITHOUT = {
    "fetch": "images are still to be fetched",
    "ingest": "no records have been counted",
    "encode": "there are no codes to compare images by",
    "deduplicate": "repeats and near-duplicates still count as kept",
    "shard": "there is nothing to train on yet",
    "train": "there are no curves and no samples",
    "evaluate": "there is no latent walk",
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
    "walk": "Latent walk",
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
        "walk": training.walk(run.child("evaluation")),
        "run": {"recipe": recipe, "yaml": _recipe_text(recipe), "stages": _stages(run, recipe)},
    }
    settings = (recipe or {}).get("recipe") or {}
    return (
        _environment()
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


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("manifests", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        number=number, percent=percent, printable=printable, duration=duration, megabytes=megabytes
    )
    return environment


def number(value: float | None, digits: int = 0) -> str:
    """12345 -> 12,345; nothing -> an en dash."""
    return DASH if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """0.0421 -> 4.2 %. What is not all is never shown as all, nor what is not nothing as nothing."""
    if value is None or not math.isfinite(value):
        return DASH
    if 0 < value < 0.001:
        return "< 0.1\N{NO-BREAK SPACE}%"
    if 0.999 < value < 1:
        return "> 99.9\N{NO-BREAK SPACE}%"
    digits = 0 if value in (0, 1) else 1
    return f"{value * 100:.{digits}f}\N{NO-BREAK SPACE}%"


def printable(text: str, limit: int = 120) -> str:
    """Text from data that can be shown: control marks as escapes, the middle of long text left out."""
    if len(text) > limit:
        text = text[: limit * 2 // 3] + " … " + text[-limit // 3 :]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float) -> str:
    """Seconds in words: 7.4 s, 3 min 12 s, 5 h 04 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(size_bytes: int) -> str:
    """Bytes as MB (10^6)."""
    return f"{size_bytes / 1e6:,.2f}" if size_bytes < 1e8 else f"{size_bytes / 1e6:,.0f}"
