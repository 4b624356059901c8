"""dcgan import-authors: the authors' released networks as a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from manifests.store import Folder
from pipelines.commands.checkpoints import check_empty
from training import authors, checkpoint
from training.export import IMPORTED
from training.presets import resolve


def import_authors(
    generator: Annotated[
        Path, typer.Argument(metavar="GEN.npz", help="The generator's arrays, in order of layers", exists=True)
    ],
    discriminator: Annotated[
        Path, typer.Argument(metavar="DISCRIM.npz", help="The discriminator's arrays, in order of layers", exists=True)
    ],
    out: Annotated[str, typer.Option(help="The folder to write the checkpoint into; it must be new or empty")],
    preset: Annotated[str, typer.Option(help="The preset that the arrays are of: svhn-32 or imagenet-32")] = "svhn-32",
) -> None:
    """Turn the authors' arrays into a checkpoint that dcgan sample and dcgan export take."""
    check_empty(Folder(out))
    settings = resolve(preset)
    state_g = authors.generator_weights(settings, authors.read_arrays(generator), str(generator))
    state_d = authors.discriminator_weights(settings, authors.read_arrays(discriminator), str(discriminator))
    made = checkpoint.Checkpoint(
        update=0,
        images_seen=0,
        seconds=0.0,
        seed=0,
        samples=0,
        preset=settings.model_dump(),
        precision="float32",
        generator=state_g,
        discriminator=state_d,
        state={IMPORTED: {"origin": authors.ORIGIN, "licence": authors.LICENCE}},
    )
    checkpoint.save(Folder(out), made, keep=1)
    Console(markup=False).print(
        f"{len(state_g)} and {len(state_d)} arrays of {preset}: {Folder(out).child(made.name)}",
        highlight=False,
        soft_wrap=True,
    )
