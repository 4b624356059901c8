"""A discriminator that saw only noise: what the training itself, without pictures, makes of a network."""

from collections.abc import Callable

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from training.adversarial import new_players, pixels_to_unit, update_both, update_discriminator, update_generator
from training.draws import Stream, by_turns, draw_labels, draw_z, one_hot, philox, with_labels
from training.networks import Discriminator
from training.presets import Preset
from training.turns import uses_images

_SAID_EVERY_UPDATES = 100


class NoiseSettings(BaseModel):
    """How long a discriminator is trained on noise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(default=50_000, ge=1, description="images of noise, counted as a training counts")


def train_on_noise(
    preset: Preset,
    seed: int,
    settings: NoiseSettings,
    device: torch.device,
    say: Callable[[str], None] | None = None,
) -> Discriminator:
    """The preset's discriminator after a training of both networks on noise, in evaluation mode.

    Each value of each pixel is drawn by itself, evenly from 0..255; where there are classes, the noise is of each by
    turns. All else is as the preset says: initial weights of the seed, turns, batches, Adam.

    Raises:
        FloatingPointError: its weights are no finite numbers any more.
    """
    players = new_players(preset, seed, device)
    shape = (preset.batch_images, preset.size_px, preset.size_px, preset.image_channels)
    updates = -(-settings.images // preset.batch_images)
    for update in range(updates):
        drawn, told = draw_z(seed, update, preset.batch_images, preset.z_dim, preset.z_distribution), None
        if classes := preset.classes:
            drawn = with_labels(drawn, draw_labels(seed, update, preset.batch_images, classes), classes)
            told = torch.from_numpy(one_hot(by_turns(preset.batch_images, classes), classes)).to(device)
        z = torch.from_numpy(drawn).to(device)
        if uses_images(preset, update):
            noise = np.random.Generator(philox(seed, Stream.NOISE, update)).integers(0, 256, shape, dtype=np.uint8)
            real = pixels_to_unit(torch.from_numpy(noise).permute(0, 3, 1, 2), device)
            (update_both if preset.alternate == "both" else update_discriminator)(players, real, z, told)
        else:
            update_generator(players, z)
        if say is not None and (update + 1) % _SAID_EVERY_UPDATES == 0:
            say(f"trained on {(update + 1) * preset.batch_images:,} of {settings.images:,} images of noise")
    if not all(torch.isfinite(p).all() for p in players.discriminator.parameters()):
        raise FloatingPointError(
            f"a training on noise of {settings.images:,} images came to weights that are no finite numbers; "
            "set features.noise.images lower, or leave the row noise out"
        )
    return players.discriminator.eval()
