"""What a measurement is given, and what it gives: figures, pictures, and a line that says what they mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from training.checkpoint import Checkpoint
from training.networks import Discriminator, Generator
from training.presets import Preset
from training.samples import Images, load_discriminator, load_generator


class Unmeasurable(Exception):
    """What was asked for can't be measured on this checkpoint or with what was given; the message says what to do."""


def _silent(text: str) -> None:
    pass


@dataclass(frozen=True)
class Subject:
    """The networks of a checkpoint, whose learning is measured.

    seed: of all that the measurement draws by chance, not the training's.
    say: is told now and then how far long work is.
    """

    checkpoint: Checkpoint
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    say: Callable[[str], None] = _silent

    @property
    def preset(self) -> Preset:
        """The settings that the networks were built from."""
        return self.generator.preset

    @cached_property
    def generator(self) -> Generator:
        """The generator, in evaluation mode: batch norm has the statistics of the batch at hand."""
        return load_generator(self.checkpoint, self.device)

    @cached_property
    def discriminator(self) -> Discriminator:
        """The discriminator, in evaluation mode: batch norm has the statistics of the batch at hand."""
        return load_discriminator(self.checkpoint, self.device)


@dataclass(frozen=True)
class Measured:
    """A measurement's result.

    says: one sentence with the figure and its control, such as "Removing 12 maps: 0.3 windows a picture instead of 1.4;
        12 maps by chance: 1.3"
    statistics: what batch norm used
    figures: plain values for JSON, controls among them
    settings: plain values for JSON: all that the figures depend on but the checkpoint and the seed
    pictures: uint8[H, W, C], RGB or grey, by name; the first is shown on the page
    captions: a sentence for each picture
    paper: what the paper reports, in a few words; None where it has no figure
    """

    says: str
    statistics: str
    figures: Mapping[str, Any]
    settings: Mapping[str, Any]
    pictures: Mapping[str, Images] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    paper: str | None = None
