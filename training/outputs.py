"""What a training leaves in its folder: metrics, grids, measurements, checkpoints, the summary. Worker 0 writes."""

import contextlib
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from manifests.store import Folder
from training import checkpoint
from training.draws import Stream, permutation, philox
from training.likeness import LEAST_IMAGES, Yardstick
from training.metrics import MetricsLog, Row, passes
from training.networks import Generator
from training.reading import ShardReader
from training.samples import fixed_z, generate, labelled, png, sample_grid
from training.settings import TrainingSettings

SUMMARY = "summary.json"
EPOCHS = "epochs.json"
GUARD = "guard.json"
CHECKPOINTS, BEST, GRIDS = "checkpoints", "best", "grids"
SHOWN_EPOCHS = (1, 5)  # the paper shows bedrooms after these


def newest_grid(folder: Folder) -> str | None:
    """The newest sample grid of a training's folder, made with batch statistics, by its path in there."""
    grids = [name for name in folder.child(GRIDS).names() if re.fullmatch(r"grid-\d+-batch\.png", name)]
    return f"{GRIDS}/{max(grids, key=lambda name: int(name.split('-')[1]))}" if grids else None


@contextlib.contextmanager
def evaluating(network: Generator) -> Iterator[None]:
    """Inside the block, batch norm looks at the batch at hand alone, so that one worker may make pictures."""
    network.eval()
    try:
        yield
    finally:
        network.train()


class Outputs:
    """The files of a training. A context manager: leaving waits until all is written."""

    def __init__(self, folder: Folder, settings: TrainingSettings, seed: int, reader: ShardReader, update: int) -> None:
        self.folder, self.settings, self.seed = folder, settings, seed
        self.batch_images = settings.resolved().batch_images
        self.reader = reader
        self.writer = checkpoint.CheckpointWriter()
        self.log = MetricsLog(folder, update)
        self._yardstick: Yardstick | None = None
        self._bests_since = 0  # since the last checkpoint to go on from

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.writer.__exit__(kind, error, trace)
        finally:
            self.log.__exit__(kind, error, trace)

    def forget_after(self, update: int) -> None:
        """Forget rows and checkpoints of later updates, from the last on."""
        self.log.drop_after(update)
        for folder in (self.folder.child(CHECKPOINTS), self.folder.child(BEST)):
            for name in reversed(checkpoint.names(folder)):
                if checkpoint.images_of(name) > update * self.batch_images:
                    checkpoint.delete(folder, name)

    def measure(self, generator: Generator) -> dict[str, float]:
        """How far the samples are from the training images, and how much alike each other, with batch statistics.

        Nothing where there are too few images to tell.
        """
        images = min(self.settings.measure_images, len(self.reader))
        if images < LEAST_IMAGES:
            return {}
        if self._yardstick is None:
            chosen = permutation(len(self.reader), philox(self.seed, Stream.MEASURED))[:images]
            self._yardstick = Yardstick(self.reader.images(np.sort(chosen)), self.seed)
        with evaluating(generator):
            samples = generate(generator, fixed_z(generator.preset, self.seed, images))
        return self._yardstick.measure(samples)

    def draw_grids(self, generator: Generator, update: int, samples: int, last: bool) -> None:
        """Write the sample grids that are due: at intervals, at the end, and after epochs 1 and 5."""
        images_seen = update * self.batch_images
        names = []
        if last or passes(self.settings.grid_every_images, update, self.batch_images):
            names.append(f"grid-{images_seen:09d}")
        names += [
            f"epoch-{epoch:03d}"
            for epoch in SHOWN_EPOCHS
            if images_seen - self.batch_images < epoch * samples <= images_seen
        ]
        if not names:
            return
        for statistics in ("batch", "standing"):
            with evaluating(generator):
                picture = sample_grid(generator, self.seed, self.settings.grid_images, statistics)
            picture = labelled(picture, f"{images_seen:,} images seen, {statistics} statistics")
            for name in names:
                self.folder.child(GRIDS).write_bytes(f"{name}-{statistics}.png", png(picture))
            self.log.add_picture(f"samples, {statistics} statistics", picture, images_seen)

    def save(self, state: checkpoint.Checkpoint, best: bool = False) -> None:
        """Write the rows so far, then, behind the training's back, the checkpoint that makes them count."""
        self.log.save()
        if best:
            # The best of the last checkpoint's time stays until the next: whoever goes on from there needs it.
            self._bests_since += 1
            self.writer.save(self.folder.child(BEST), state, 1 + self._bests_since)
        else:
            self._bests_since = 0
            self.writer.save(self.folder.child(CHECKPOINTS), state, self.settings.keep_checkpoints)

    def write_events(self, events: list[dict[str, Any]]) -> None:
        """Write what the guard saw."""
        self.folder.write_json(GUARD, events)

    def write_epochs(self, rows: list[Row]) -> None:
        """Write the proofs of the epochs so far."""
        self.folder.write_json(EPOCHS, rows)

    def summarise(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Write summary.json once all else is written, and return what it says."""
        self.log.save()
        self.writer.wait()
        grids = [f"{GRIDS}/{name}" for name in self.folder.child(GRIDS).names()]
        summary = facts | {"last": self.log.rows[-1] if self.log.rows else None, "grids": grids}
        self.folder.write_json(SUMMARY, summary)
        return summary
