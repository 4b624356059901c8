"""dcgan dedup: which images of a folder, a tar or an LMDB to keep, which to remove, and why; no shards, no training."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from manifests.store import Folder
from pipelines.commands.address import Address
from pipelines.dry_run import planned_work
from pipelines.lists import KEEP_FILE, REMOVE_FILE, delete_lists, write_lists
from pipelines.progress import Reporter
from pipelines.recipe import Recipe, made_recipe
from pipelines.run import check_unchanged, chosen_stages, is_done, run_recipe
from pipelines.stages import STAGE_FILE, fingerprints

STAGES = ("ingest", "encode", "deduplicate", "report")
_FREE_ASPECT = 1e6  # of an image one pixel high
_PLANT_SOURCES = 100  # 1,900 planted changes tell recall to half a percent
_PART_IMAGES = 512  # small enough that a few thousand images keep all cores busy


def _stage(name: str | None) -> str | None:
    if name is not None and name not in STAGES:
        raise typer.BadParameter(f"no stage {name!r}; stages are {', '.join(STAGES)}")
    return name


def dedup(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER|TAR|LMDB", help="The images; several are compared with each other too", exists=True
        ),
    ],
    out: Annotated[str, typer.Option("--out", help="The folder to write: a path, or a URI such as s3://bucket/dedup")],
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="What an earlier dedup or run wrote: its images stay, and are not encoded again; may be given often",
        ),
    ] = None,
    radius: Annotated[
        str, typer.Option(metavar="auto|N", help="Hash bits that images may differ in to be looked at; auto: measured")
    ] = "auto",
    rule: Annotated[
        str,
        typer.Option(metavar="joint|code", help="joint: hashes nominate, aligned images decide; code: the hash alone"),
    ] = "joint",
    keep_first: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Keep images of this source (a name of FOLDER, TAR or LMDB without its ending) before larger ones",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same result")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Cores to use; default: all")] = None,
    address: Address = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Replace a setting of the recipe that --dry-run shows; may be given often",
        ),
    ] = None,
    redo: Annotated[
        str | None,
        typer.Option(
            callback=_stage, metavar="STAGE", help="Delete what this stage and all after it wrote, and do them again"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the recipe and what each stage would do, and do nothing")
    ] = False,
) -> None:
    """Find exact repeats and near-duplicates: what to keep, what to remove and why, and how wrong that is.

    Nothing is deleted. OUT gets keep.txt and remove.csv, the same as Parquet with all else that is known, and a page to
    look at. Cut off, it goes on where it was when the same command is given again.
    Stages: ingest, encode, deduplicate, report.
    """
    console = Console(markup=False, highlight=False, soft_wrap=True)
    recipe = made_recipe(
        recipe_values(images, against or [], radius, rule, keep_first or [], seed, workers),
        changes or [],
        "dcgan dedup",
    )
    folder = Folder(out)
    if dry_run:
        _show_plan(console, recipe, folder, redo)
        return
    with Reporter(console) as reporter:
        # Of an earlier outcome; whoever deletes by them must not have them beside new groups.
        if redo is not None or not all(is_done(folder, stage) for stage in chosen_stages(only=STAGES)):
            delete_lists(folder)
        run_recipe(recipe, folder, reporter, redo=redo, address=address, only=STAGES)
    write_lists(folder)
    console.print(figures(folder))
    for title, name in (
        ("keep", KEEP_FILE),
        ("remove", REMOVE_FILE),
        ("all images", "manifest.parquet"),
        ("groups", "groups/groups.parquet"),
        ("page", "report/index.html"),
    ):
        console.print(f"{title}: {folder.path(name)}")


def recipe_values(
    images: list[Path],
    against: list[str],
    radius: str,
    rule: str,
    keep_first: list[str],
    seed: int,
    workers: int | None,
) -> dict[str, Any]:
    """The recipe of a de-duplication: every image that can be read is compared, whatever its size and shape."""
    sources: list[dict[str, str]] = []
    for path in images:
        sources.append(source_of(path, {source["name"] for source in sources}))
    return {
        "name": f"De-duplication of {', '.join(source['name'] for source in sources)}"[:100],
        "seed": seed,
        "sources": sources,
        "ingest": {
            "filters": {"smallest_side_px": 1, "largest_aspect": _FREE_ASPECT, "animated": True},
            # Nobody trains on them: they are looked at on the page and in a review.
            "image_format": "jpeg",
            "jpeg_quality": 90,
            "plant_sources": _PLANT_SOURCES,
        },
        "deduplicate": {
            "verdict": {"rule": rule, "radius": int(radius) if radius.removeprefix("-").isdecimal() else radius},
            "keep": {"prefer_sources": keep_first},
            # Absolute, so that the same command means the same from any folder.
            "against": [Folder(run).address for run in against],
        },
        "resources": {"workers": workers, "part_images": _PART_IMAGES},
    }


def source_of(path: Path, taken: set[str]) -> dict[str, str]:
    """The source that a path is, under a name that is not taken."""
    whole = Path(os.path.abspath(path))
    kind = "folder"
    if path.is_file():
        kind = "lsun" if path.suffix in (".mdb", ".lmdb") else "tar"
    elif (path / "data.mdb").is_file():
        kind = "lsun"
    stem = whole.name if whole.is_dir() and kind == "folder" else whole.name.partition(".")[0]
    named = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:60] or "images"
    name, number = named, 2
    while name in taken:
        name, number = f"{named}-{number}", number + 1
    return {"name": name, "kind": kind, "path": str(whole)}


def _show_plan(console: Console, recipe: Recipe, folder: Folder, redo: str | None) -> None:
    stages = chosen_stages(only=STAGES)
    prints = fingerprints(recipe)
    if redo is None:
        check_unchanged(recipe, folder, prints, stages)
    # Lines as they are, so that what is kept of it is a recipe.
    print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    table = Table("stage", "would do", title=f"{folder}", title_justify="left")
    for name, work in planned_work(recipe, folder, stages, Reporter(console)):
        again = redo is not None and STAGES.index(name) >= STAGES.index(redo)
        table.add_row(name, "all again (--redo)" if again else work)
    console.print(table)


def figures(run: Folder) -> Table:
    """What came out, in a few lines."""
    quality = run.child("groups").read_json("quality.json")
    ingested = run.child("samples").read_json(STAGE_FILE)["counts"]
    expected = quality["expected"]
    recall = quality["plants"]["recall"]
    raised = f", border {quality['correlation_min']:.2f}" if quality["correlation_raised"] else ""
    radius = f"radius {quality['radius']}{raised}{', set by itself' if quality['radius_set_itself'] else ''}"
    rows = [
        ("images", f"{ingested['read']:,}", f"{ingested['failed']:,} could not be read" if ingested["failed"] else ""),
        ("exact repeats", f"{ingested['kept'] - quality['samples']:,}", ""),
        ("near-duplicates removed", f"{quality['removed']:,}", f"{quality['rule']}, {radius}"),
        ("groups", f"{quality['groups']:,}", f"the largest of {quality['largest_group']:,}"),
        (
            "recall on planted changes",
            "-" if recall is None else f"{recall:.1%}",
            f"{quality['plants']['sources']:,} images changed",
        ),
    ]
    if expected is not None:
        at = expected[0]
        rows.append(
            (
                "expected wrong",
                f"{at['wrong']:.2g}",
                f"upper 95 % limit, of {at['removals']:,} removed among {at['images']:,}",
            )
        )
    for of in quality["against"]:
        rows.append(
            (
                "of them for an image of",
                f"{of['removed'] + of['repeated']:,}",
                f"{of['run']} ({of['samples']:,} images)",
            )
        )
    speeds = speed(run)
    if speeds is not None:
        rows.append(("images/s", f"{speeds[0]:,.0f}", f"{speeds[1]:,.0f} without fitting the hash"))
    shown = Table("", "", "", show_header=False)
    shown.columns[1].justify = "right"
    for row in rows:
        shown.add_row(*row)
    return shown


def speed(run: Folder) -> tuple[float, float] | None:
    """Images a second of the data stages, with and without fitting; None where they were not done in one go."""
    stages = [
        run.child(stage.folder).read_json(STAGE_FILE) for stage in chosen_stages(until="deduplicate", only=STAGES)
    ]
    if any(stage["resumed"] for stage in stages):
        return None
    images, seconds = stages[0]["counts"]["read"], sum(stage["seconds"] for stage in stages)
    fitting = run.child("codes").read_json("fit.json").get("seconds", 0.0)
    return images / max(seconds, 0.01), images / max(seconds - fitting, 0.01)
