"""dcgan sample: pictures from a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from manifests.store import Folder
from pipelines.commands.checkpoints import CheckpointName, read_checkpoint
from training.samples import Statistics, load_generator, png, sample_grid


def sample(
    folder: CheckpointName,
    out: Annotated[Path, typer.Option(help="The PNG to write")],
    images: Annotated[int, typer.Option(min=1, max=10_000, help="How many pictures")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of z: the same seed gives the same pictures")] = 0,
    statistics: Annotated[
        Statistics,
        typer.Option(help="Of batch norm. batch: each batch's own, as in training; standing: those of 512 other z"),
    ] = "batch",
) -> None:
    """Draw new pictures with a checkpoint's generator, as one grid."""
    state = read_checkpoint(folder)
    picture = sample_grid(load_generator(state), seed, images, statistics)
    Folder(out.parent).write_bytes(out.name, png(picture))
    said = f"{images} pictures after {state.images_seen:,} images seen, {statistics} statistics: {out}"
    Console(markup=False).print(said, highlight=False, soft_wrap=True)
