"""Whose turn an update is, and what it is made with: z by its number, real images as they come."""

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from training.adversarial import Measures, Players, pixels_to_unit, update_both, update_discriminator, update_generator
from training.batches import Batch
from training.draws import draw_labels, draw_z, one_hot, with_labels
from training.order import SampleOrder, Share
from training.presets import Preset
from training.proof import Proof


def uses_images(preset: Preset, update: int) -> bool:
    """Whether an update looks at real images; G's turns of an alternating preset don't, yet count as a batch seen."""
    return preset.alternate == "both" or update % 2 == 1


def take_turn(
    players: Players,
    update: int,
    seed: int,
    share: Share,
    order: SampleOrder,
    batches: Iterator[Batch],
    proof: Proof,
    labels: npt.NDArray[np.int64] | None = None,
) -> tuple[Measures, float]:
    """Make update number `update`, mark in `proof` what it dealt, and return its measures and the seconds it waited.

    labels: int64[samples], of all real images, where the preset has classes.
    """
    preset = players.preset
    drawn = draw_z(seed, update, share.batch_images, preset.z_dim, preset.z_distribution)
    if preset.classes:
        drawn = with_labels(drawn, draw_labels(seed, update, share.batch_images, preset.classes), preset.classes)
    z = _moved(drawn[share.rows()], players)
    positions = share.positions(update)
    if not uses_images(preset, update):
        proof.deal(positions, order.samples_at(positions), looked_at=False)
        return update_generator(players, z), 0.0
    asked = time.perf_counter()
    batch = next(batches)
    waited_s = time.perf_counter() - asked
    proof.deal(positions, batch.samples, looked_at=True)
    real = pixels_to_unit(batch.images, players.device, players.dtype)
    told = None if labels is None else _moved(one_hot(labels[batch.samples], preset.classes), players)
    both = preset.alternate == "both"
    return (update_both if both else update_discriminator)(players, real, z, told), waited_s


def _moved(values: npt.NDArray[np.float32], players: Players) -> torch.Tensor:
    rows = torch.from_numpy(values)
    if players.device.type == "cuda":
        rows = rows.pin_memory()  # or the copy would wait for what the device has yet to do
    return rows.to(players.device, players.dtype, non_blocking=True)
