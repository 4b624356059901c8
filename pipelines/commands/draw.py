"""dcgan draw: pictures of which everything is known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from manifests.store import Folder
from pipelines.cluster import cores
from pipelines.progress import Bar, Reporter
from pipelines.sources.bedroom import Room
from pipelines.sources.drawn import RoomSettings, draw_all, truth_table
from pipelines.sources.lsun import write_lmdb

TRUTH_FILE = "truth.parquet"
app = typer.Typer(help="Draw pictures with known truth.", no_args_is_help=True)


@app.callback()
def _draw() -> None:
    """Draw pictures with known truth."""


@app.command("rooms")
def rooms(
    out: Annotated[Path, typer.Argument(help="The LMDB to write; truth.parquet goes beside it")],
    images: Annotated[int, typer.Option(min=1, help="How many pictures")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes")] = 0,
    size: Annotated[int, typer.Option(min=96, max=512, help="Side of the pictures, pixels")] = 96,
    planted_share: Annotated[float, typer.Option(min=0, max=0.5, help="Share of near-duplicates of another")] = 0.05,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core")] = None,
) -> None:
    """Draw bedrooms into an LSUN-format LMDB, with truth.parquet: boxes of windows and bed, planted duplicates."""
    settings = RoomSettings(images=images, seed=seed, size_px=size, planted_share=planted_share)
    console = Console(markup=False)
    truth = out.parent / TRUTH_FILE
    if truth.exists():
        raise FileExistsError(f"{truth} is there already, the truth of another LMDB; delete it or name another folder")
    drawn: list[Room] = []
    with Reporter(console) as reporter, reporter.bar("draw", images) as bar:
        count = write_lmdb(out, _pictures(settings, workers or cores(), drawn, bar))
    Folder(out.parent).write_table(TRUTH_FILE, truth_table(settings, drawn))
    console.print(f"{count:,} bedrooms in {out}, their truth in {truth}", highlight=False)


def _pictures(settings: RoomSettings, workers: int, drawn: list[Room], bar: Bar) -> Iterator[tuple[str, bytes]]:
    for key, data, room in draw_all(settings, workers):
        drawn.append(room)
        bar.advance(1)
        yield key, data
