"""What a measurement may use beside the networks: the run's shards and codes, and pictures with truth."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from manifests.store import Folder
from pipelines.measurements.unfinished import Unfinished
from pipelines.recipe import EvaluateSettings, MeasurementName
from training.checkpoint import Checkpoint
from training.draws import Stream, permutation, philox
from training.evaluation.measured import Measured, Subject, Unmeasurable
from training.presets import Preset
from training.reading import ShardReader
from training.samples import Images

DATASET = "dataset.json"
_IMAGES = 1 << 16  # a place of each stream that nothing else is drawn from
_SPLITS = ("train", "heldout")


@dataclass(frozen=True)
class Given:
    """All that a measurement works on.

    shards: RUN/shards, of which the networks were trained; None where only a checkpoint was named
    codes: RUN/codes, where the run's autoencoder is; None likewise
    unfinished: where pieces of long work are kept; None: nowhere
    """

    subject: Subject
    settings: EvaluateSettings
    shards: Folder | None = None
    codes: Folder | None = None
    unfinished: Unfinished | None = None

    def images(self, split: Literal["train", "heldout"], most: int | None, stream: Stream) -> Images:
        """Pictures of the run's shards, drawn by the seed without repeats; all of a split where it has fewer.

        Returns:
            images: uint8[N, size_px, size_px, C], RGB or grey.
        """
        reader = self._reader(split)
        drawn = permutation(len(reader), philox(self.subject.seed, stream, _IMAGES, _SPLITS.index(split)))[:most]
        return reader.images(np.sort(drawn))

    def count(self, split: Literal["train", "heldout"], most: int | None) -> int:
        """How many pictures `images` would return; none is read."""
        there = len(self._reader(split))
        return there if most is None else min(there, most)

    def _reader(self, split: Literal["train", "heldout"]) -> ShardReader:
        if self.shards is None:
            raise Unmeasurable("real pictures are needed: name a run, or the shards with --shards")
        preset = self.subject.preset
        image_px = self.shards.read_json(DATASET)["image_px"] if self.shards.exists(DATASET) else preset.size_px
        if image_px != preset.size_px:
            raise Unmeasurable(
                f"{self.shards} holds images of {image_px} px, and the networks of preset {preset.name} are of "
                f"{preset.size_px} px; name the shards that they were trained on"
            )
        return ShardReader(self.shards, preset.size_px, split, channels=preset.image_channels)


@contextmanager
def measurable() -> Iterator[None]:
    """For numeric work on given data alone: raise Unmeasurable, with its own words, where it can't be done with them.

    Nothing else belongs into the block: a ValueError of our own making has to show where it comes from.
    """
    try:
        yield
    except (ValueError, FloatingPointError) as error:
        raise Unmeasurable(str(error)) from error


@dataclass(frozen=True)
class Readiness:
    """What is known before any work begins, to say what can't be measured and why.

    checkpoint: reads the one that is measured, None where it is still to be trained; seed: None where it isn't known
    """

    preset: Preset
    settings: EvaluateSettings
    has_shards: bool
    has_codes: bool
    seed: int | None = None
    checkpoint: Callable[[], Checkpoint] | None = None


def _nothing_to_check(ready: Readiness) -> None:
    pass


@dataclass(frozen=True)
class Measurement:
    """A measurement: its title on the page, how it is taken, and what has to be there.

    check: raises Unmeasurable, with what to set, before any work begins
    reads: the settings that it depends on beside its own
    codes: whether it looks at a run's autoencoder where there is one
    shards: whether it looks at the shards, whose images its pictures then show
    """

    name: MeasurementName
    title: str
    take: Callable[[Given], Measured]
    check: Callable[[Readiness], None] = _nothing_to_check
    reads: tuple[str, ...] = ()
    codes: bool = False
    shards: bool = False
