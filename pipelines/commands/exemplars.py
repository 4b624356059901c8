"""dcgan exemplars: a page on which exemplars of concepts are chosen by hand."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from manifests.pages.exemplars import exemplars_page
from manifests.pages.template import image_uri
from manifests.store import Folder
from pipelines.commands.checkpoints import CheckpointName, read_checkpoint
from training.draws import Stream
from training.evaluation.exemplars import generator_digest
from training.evaluation.measured import Unmeasurable
from training.samples import fixed_z, generate, load_generator, png


def exemplars(
    folder: CheckpointName,
    out: Annotated[Path, typer.Option(help="The page to write, an HTML file")],
    images: Annotated[int, typer.Option(min=1, max=5000, help="How many samples to choose among")] = 200,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seed of z; the measurement that uses the choice needs the same. Default: that of the training, as "
            "runs and dcgan evaluate have it",
        ),
    ] = None,
) -> None:
    """Write a page of a checkpoint's samples on which exemplars of concepts are chosen by hand.

    It works offline and by keyboard alone, and saves exemplars.json, which the settings arithmetic.exemplars and
    turn.exemplars of the measurements take.
    """
    state = read_checkpoint(folder)
    seed = state.seed if seed is None else seed
    generator = load_generator(state)
    if generator.preset.classes:
        raise Unmeasurable(
            f"{state.name} is told one of {generator.preset.classes} classes beside z, and sums of concepts are of z "
            "alone; take a checkpoint of a training without classes"
        )
    pictures = generate(generator, fixed_z(generator.preset, seed, images, Stream.ARITHMETIC), "standing", seed)
    uris = [image_uri(png(picture)) for picture in pictures]
    page = exemplars_page(generator_digest(state), state.name, seed, uris)
    Folder(out.parent).write_bytes(out.name, page.encode())
    said = f"{images:,} samples after {state.images_seen:,} images seen, seed {seed}, standing statistics: {out}"
    Console(markup=False).print(said, highlight=False, soft_wrap=True)
