"""One update of each network."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from training.networks import Discriminator, Generator, build
from training.presets import Preset

Measures = dict[str, Tensor]
"""Scalars left on the device: loss_g, loss_d, and the mean D(x) of real and of generated images (d_real, d_fake)."""


@dataclass
class Players:
    """Both networks and their optimisers."""

    generator: Generator
    discriminator: Discriminator
    generator_adam: torch.optim.Adam
    discriminator_adam: torch.optim.Adam


def new_players(preset: Preset, seed: int, device: torch.device) -> Players:
    """Both networks with the seed's initial weights, equal on all workers, and their optimisers."""
    generator, discriminator = build(preset, seed, device)
    broadcast([*generator.parameters(), *discriminator.parameters()])
    return Players(
        generator, discriminator, _adam(generator.parameters(), preset), _adam(discriminator.parameters(), preset)
    )


def _adam(parameters: Iterable[torch.nn.Parameter], preset: Preset) -> torch.optim.Adam:
    return torch.optim.Adam(
        parameters,
        lr=preset.learning_rate,
        betas=(preset.beta1, preset.beta2),
        eps=preset.adam_eps,
        weight_decay=preset.weight_decay,
        fused=True,
    )


def pixels_to_unit(images: Tensor, device: torch.device) -> Tensor:
    """images: uint8[N, 3, H, W], 0..255 -> float32 of the same shape on the device, -1..1, channels last."""
    moved = images.to(device, non_blocking=True)
    return moved.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1.0)


def update_discriminator(players: Players, real: Tensor, z: Tensor) -> Measures:
    """Update D by BCE(D(real), 1) + BCE(D(G(z)), 0). Real and generated images go through D apart.

    real: float32[N, 3, H, W], -1..1; z: float32[N, z_dim].

    Source: Radford et al. 2016, section 4; Goodfellow et al. 2014, algorithm 1.
    Departs: batch norm's statistics are those of each worker's part of the batch.
    """
    with torch.no_grad():
        fake = players.generator(z)
    return _update_discriminator(players, real, fake)


def update_generator(players: Players, z: Tensor) -> Measures:
    """Update G by BCE(D(G(z)), 1), the loss that does not saturate. No gradient of D's parameters is computed.

    z: float32[N, z_dim].
    """
    return _update_generator(players, players.generator(z))


def update_both(players: Players, real: Tensor, z: Tensor) -> Measures:
    """Update D, then G, on one batch and one z: the generated images are made once, and serve both.

    Departs: the paper's code alternates; this is what the ports do.
    """
    fake = players.generator(z)
    measures = _update_discriminator(players, real, fake.detach())
    return measures | _update_generator(players, fake)


def _update_discriminator(players: Players, real: Tensor, fake: Tensor) -> Measures:
    D = players.discriminator
    players.discriminator_adam.zero_grad(set_to_none=True)
    real_logits = D(real)
    loss_real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    torch.autograd.backward(loss_real)  # before the second pass, so that one graph is held at a time
    fake_logits = D(fake)
    loss_fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    torch.autograd.backward(loss_fake)
    average_gradients(D.parameters())
    players.discriminator_adam.step()
    return {
        "loss_d": (loss_real + loss_fake).detach(),
        "d_real": real_logits.detach().sigmoid().mean(),
        "d_fake": fake_logits.detach().sigmoid().mean(),
    }


def _update_generator(players: Players, fake: Tensor) -> Measures:
    D = players.discriminator
    players.generator_adam.zero_grad(set_to_none=True)
    D.requires_grad_(False)
    try:
        logits = D(fake)
        loss = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
        torch.autograd.backward(loss)
    finally:
        D.requires_grad_(True)
    average_gradients(players.generator.parameters())
    players.generator_adam.step()
    return {"loss_g": loss.detach()}


def workers() -> int:
    """The number of processes that train together."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if together else 1


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over the workers, in one flat all-reduce. Alone: nothing to do."""
    world = workers()
    if world == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    torch.distributed.all_reduce(flat)
    flat.div_(world)
    for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Replace every tensor by that of worker 0. Alone: nothing to do."""
    if workers() == 1:
        return
    with torch.no_grad():
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            torch.distributed.broadcast(whole, src=0)
            tensor.copy_(whole)


def mean_over_workers(values: Tensor) -> Tensor:
    """The mean of each value over the workers."""
    if workers() > 1:
        torch.distributed.all_reduce(values)
        values /= workers()
    return values


def largest_of_workers(values: Tensor) -> Tensor:
    """The largest of each value over the workers."""
    if workers() > 1:
        torch.distributed.all_reduce(values, op=torch.distributed.ReduceOp.MAX)
    return values
