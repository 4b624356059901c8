"""dcgan sample: pictures from a checkpoint."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from manifests.store import Folder
from pipelines.commands.checkpoints import CheckpointName, read_checkpoint
from training.presets import Preset
from training.samples import Statistics, grid_columns, load_generator, png, sample_grid


def sample(
    folder: CheckpointName,
    out: Annotated[Path, typer.Option(help="The PNG to write")],
    images: Annotated[int, typer.Option(min=1, max=10_000, help="How many pictures")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of z: the same seed gives the same pictures")] = 0,
    label: Annotated[
        int | None, typer.Option(min=0, help="The class of all pictures; default: a row for each, where there are any")
    ] = None,
    statistics: Annotated[
        Statistics,
        typer.Option(help="Of batch norm. batch: each batch's own, as in training; standing: those of 512 other z"),
    ] = "batch",
) -> None:
    """Draw new pictures with a checkpoint's generator, as one grid."""
    state = read_checkpoint(folder)
    classes = Preset.model_validate(state.preset).classes
    if label is not None and label >= classes:
        has = f"has the classes 0 to {classes - 1}" if classes else "was trained without classes"
        raise typer.BadParameter(f"--label {label}: {state.name} {has}")
    labels = None if label is None else np.full(images, label)
    if classes and labels is None:
        images = grid_columns(images, classes) * classes
    picture = sample_grid(load_generator(state), seed, images, statistics, labels)
    Folder(out.parent).write_bytes(out.name, png(picture))
    said = f"{images} pictures after {state.images_seen:,} images seen, {statistics} statistics: {out}"
    Console(markup=False).print(said, highlight=False, soft_wrap=True)
