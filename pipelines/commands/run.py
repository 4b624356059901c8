"""dcgan run: do all stages of a recipe, or go on where they stopped."""

from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from manifests.store import Folder
from pipelines.commands.address import Address
from pipelines.commands.summary import run_summary
from pipelines.dry_run import planned_work
from pipelines.progress import Reporter
from pipelines.recipe import load_recipe
from pipelines.run import check_unchanged, chosen_stages, run_recipe
from pipelines.stages import STAGES, fingerprints, stages_of, train
from training.outputs import newest_grid

STAGE_NAMES = [stage.name for stage in STAGES]


def _stage(name: str | None) -> str | None:
    if name is not None and name not in STAGE_NAMES:
        raise typer.BadParameter(f"no stage {name!r}; stages are {', '.join(STAGE_NAMES)}")
    return name


def run(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe file, or the name of a ready one: demo, lsun_bedroom, folder, faces, drawn_faces, "
            "drawn_rooms, imagenet_32, mnist, mnist_conditional, cifar10"
        ),
    ],
    run: Annotated[str, typer.Option("--run", help="The run folder: a path, or a URI such as s3://bucket/runs/1")],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Replace a setting, e.g. sources.0.path=/data/lsun; may be given often"
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(callback=_stage, metavar="STAGE", help="Stop after this stage")] = None,
    redo: Annotated[
        str | None,
        typer.Option(
            callback=_stage, metavar="STAGE", help="Delete what this stage and all after it wrote, and do them again"
        ),
    ] = None,
    address: Address = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe and what each stage would do, and do nothing")
    ] = False,
) -> None:
    """Do all stages of a recipe, from its sources to the audit page.

    A stage that is done is skipped; a run that was cut off goes on where it was when the same command is given again.
    Stages: fetch, ingest, encode, deduplicate, shard, train, evaluate, report.
    fetch is there only where a source lists URLs; with --redo it fetches only what may end better another time.
    """
    console = Console(markup=False)
    loaded = load_recipe(recipe, changes or [])
    folder = Folder(run)
    if dry_run:
        chosen = chosen_stages(until, among=stages_of(loaded))
        if redo is None:
            check_unchanged(loaded, folder, fingerprints(loaded), chosen)
        text = yaml.safe_dump(loaded.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        if console.is_terminal:
            console.print(Syntax(text, "yaml", background_color="default"))
        else:
            print(text)  # lines as they are, so that what is kept of it is a recipe again
        table = Table("stage", "would do", title=f"{folder}", title_justify="left")
        for name, work in planned_work(loaded, folder, chosen, Reporter(console)):
            again = redo is not None and STAGE_NAMES.index(name) >= STAGE_NAMES.index(redo)
            table.add_row(name, "all again (--redo)" if again else work)
        console.print(table)
        return
    with Reporter(console) as reporter:
        run_recipe(loaded, folder, reporter, until=until, redo=redo, address=address)
    console.print(run_summary(folder))
    grid = newest_grid(folder.child(train.FOLDER))
    outcome = {"audit page": "report/index.html", "sample grid": grid and f"{train.FOLDER}/{grid}"}
    for title, file in outcome.items():
        if file and folder.exists(file):
            console.print(f"{title}: {_shown(folder, file)}", highlight=False, soft_wrap=True)


def _shown(folder: Folder, name: str) -> str:
    path = folder.local_path(name)
    if path is None:
        return folder.path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
