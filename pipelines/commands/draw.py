"""dcgan draw: pictures of which everything is known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from manifests.store import Folder
from pipelines.cluster import cores
from pipelines.progress import Bar, Reporter
from pipelines.sources.drawn import Drawing, DrawnFaceSettings, DrawnSettings, RoomSettings, draw_all, truth_table
from pipelines.sources.lsun import write_lmdb

TRUTH_FILE = "truth.parquet"
app = typer.Typer(help="Draw pictures with known truth.", no_args_is_help=True)

Out = Annotated[Path, typer.Argument(help="The LMDB to write; truth.parquet goes beside it")]
Images = Annotated[int, typer.Option(min=1, help="How many pictures")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes")]
PlantedShare = Annotated[float, typer.Option(min=0, max=0.5, help="Share of near-duplicates of another")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core")]


@app.callback()
def _draw() -> None:
    """Draw pictures with known truth."""


@app.command("rooms")
def rooms(
    out: Out,
    images: Images = 3000,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=96, max=512, help="Side of the pictures, pixels")] = 96,
    planted_share: PlantedShare = 0.05,
    workers: Workers = None,
) -> None:
    """Draw bedrooms into an LSUN-format LMDB, with truth.parquet: boxes of windows and bed, planted duplicates."""
    settings = RoomSettings(images=images, seed=seed, size_px=size, planted_share=planted_share)
    _write(out, settings, "bedrooms", workers)


@app.command("faces")
def faces(
    out: Out,
    images: Images = 3000,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=32, max=512, help="Side of the pictures, pixels")] = 64,
    planted_share: PlantedShare = 0.05,
    workers: Workers = None,
) -> None:
    """Draw faces into an LSUN-format LMDB, with truth.parquet: pose, smile, glasses, hair, skin, planted duplicates."""
    settings = DrawnFaceSettings(images=images, seed=seed, size_px=size, planted_share=planted_share)
    _write(out, settings, "faces", workers)


def _write(out: Path, settings: DrawnSettings, called: str, workers: int | None) -> None:
    console = Console(markup=False)
    truth = out.parent / TRUTH_FILE
    if truth.exists():
        raise FileExistsError(f"{truth} is there already, the truth of another LMDB; delete it or name another folder")
    drawn: list[Drawing] = []
    with Reporter(console) as reporter, reporter.bar("draw", settings.images) as bar:
        count = write_lmdb(out, _pictures(settings, workers or cores(), drawn, bar))
    Folder(out.parent).write_table(TRUTH_FILE, truth_table(settings, drawn))
    console.print(f"{count:,} {called} in {out}, their truth in {truth}", highlight=False)


def _pictures(settings: DrawnSettings, workers: int, drawn: list[Drawing], bar: Bar) -> Iterator[tuple[str, bytes]]:
    for key, data, drawing in draw_all(settings, workers):
        drawn.append(drawing)
        bar.advance(1)
        yield key, data
