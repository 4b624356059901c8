"""dcgan forget: takedown of a person, an address, an image or an id."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from manifests.denied import DENIED_FILE
from manifests.store import Folder
from pipelines.run import RunError, locked, recorded_recipe
from pipelines.takedown import Asked, Plan, plan, take_down


def forget(
    run: Annotated[str, typer.Argument(help="The run folder")],
    person: Annotated[str | None, typer.Option(help="All images that name this person, and their copies")] = None,
    url: Annotated[str | None, typer.Option(help="The image of this address, and its copies")] = None,
    image: Annotated[
        Path | None, typer.Option(help="This image, and what looks like it", exists=True, dir_okay=False)
    ] = None,
    id: Annotated[str | None, typer.Option(help="The image or face of this record_id or sample_id")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it reaches, and change nothing")] = False,
) -> None:
    """Take a person or an image out of a run, and keep it from coming back.

    Rows, thumbs, shards, index, pages and what was fetched are written anew without it and all of its copies; other
    tars stay as they are, byte for byte. Hashes of it go into RUN/denied.parquet, by which later starts of this run
    leave it out, and other runs that name the file under ingest.deny. Networks that were trained on it are named, and
    not changed. Where the images came from, and copies elsewhere, are not touched.
    """
    given = {"--person": person, "--url": url, "--image": image, "--id": id}
    named = [option for option, value in given.items() if value is not None]
    if len(named) != 1:
        raise RunError(f"forget takes one of {', '.join(given)}; got {', '.join(named) or 'none'}")
    folder = Folder(run)
    recipe = recorded_recipe(folder)
    asked = Asked(person, url, None if image is None else image.read_bytes(), id)
    console = Console(markup=False, soft_wrap=True, highlight=False)
    if dry_run:
        _show(console, plan(folder, recipe, asked), done=False)
        return
    with locked(folder):
        planned = plan(folder, recipe, asked)
        with console.status("taking down"):
            take_down(folder, recipe, planned)
    _show(console, planned, done=True)
    console.print(f"denied from now on: {folder.path(DENIED_FILE)}; for other runs name it under ingest.deny")
    if planned.checkpoints:
        console.print(f"trained on it: {', '.join(planned.checkpoints)}")
        console.print(f"train without it: dcgan run RECIPE --run {run} --redo train")
    if planned.encoder:
        console.print(f"the hash's network may be fitted on it; without it: dcgan run RECIPE --run {run} --redo encode")


def _show(console: Console, planned: Plan, done: bool) -> None:
    affected = planned.affected
    table = Table("what", "how many", title="Taken down" if done else "Would be taken down", title_justify="left")
    table.add_row("images asked for", f"{affected.named:,}")
    table.add_row("copies of them", f"{affected.images - affected.named:,}")
    table.add_row("faces in these", f"{affected.faces:,}")
    table.add_row("samples in shards", f"{len(affected.kept):,}")
    table.add_row("shards written anew", f"{len(planned.shards):,}")
    table.add_row("checkpoints trained on it", f"{len(planned.checkpoints):,}")
    console.print(table)
    if not affected.images:
        console.print("The run holds nothing of it; later runs that honour the list leave it out.")
