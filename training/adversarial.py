"""One update of each network.

A network is called in two ways: by itself, and as `averaged`, which is the same network, wrapped where several workers
train so that a backward pass averages its gradients. D's updates go through D's wrapper; in G's update D is frozen and
called by itself, so none of its gradients are computed or sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training import losses
from training.networks import Discriminator, Generator, build
from training.presets import Preset
from training.ranks import adding_up, averaging

Measures = dict[str, Tensor]
"""Scalars left on the device: loss_g, loss_d, the mean D(x) of real and of generated images (d_real, d_fake), and the
L2 norms of the gradients over all of a network's parameters (grad_g, grad_d)."""

Precision = Literal["float32", "bfloat16", "float64"]


@dataclass
class Players:
    """Both networks, their optimisers, and how they are computed."""

    preset: Preset
    device: torch.device
    precision: Precision
    generator: Generator
    discriminator: Discriminator
    generator_averaged: nn.Module
    discriminator_averaged: nn.Module
    generator_adam: torch.optim.Adam
    discriminator_adam: torch.optim.Adam
    micro_images: int | None = None  # images of a worker that go through a network at a time; None: all

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, z and images; under bfloat16 the convolutions' products alone are shorter."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def computing(self) -> torch.autocast:
        """The context in which networks are called."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def set_learning_rate(self, learning_rate: float) -> None:
        """Let both optimisers take steps of another size from now on."""
        for adam in (self.generator_adam, self.discriminator_adam):
            for group in adam.param_groups:
                group["lr"] = learning_rate


def new_players(
    preset: Preset,
    seed: int,
    device: torch.device,
    precision: Precision = "float32",
    compiled: bool = False,
    micro_images: int | None = None,
) -> Players:
    """Both networks with the seed's initial weights, equal on all workers, and their optimisers."""
    generator, discriminator = build(preset, seed, device)
    if precision == "float64":
        generator.double()
        discriminator.double()
    if compiled:
        generator.compile()
        discriminator.compile()
    return Players(
        preset,
        device,
        precision,
        generator,
        discriminator,
        averaging(generator, device),
        averaging(discriminator, device),
        _adam(generator.parameters(), preset, device),
        _adam(discriminator.parameters(), preset, device),
        micro_images,
    )


def _adam(parameters: Iterable[nn.Parameter], preset: Preset, device: torch.device) -> torch.optim.Adam:
    return torch.optim.Adam(
        parameters,
        lr=preset.learning_rate,
        betas=(preset.beta1, preset.beta2),
        eps=preset.adam_eps,
        weight_decay=preset.weight_decay,
        fused=True,
        capturable=device.type == "cuda",  # counts its steps on the device, which a CUDA graph needs
    )


def pixels_to_unit(images: Tensor, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """images: uint8[N, C, H, W], 0..255 -> dtype of the same shape on the device, -1..1, channels last."""
    moved = images.to(device, non_blocking=True)
    return moved.to(dtype, memory_format=torch.channels_last).div_(127.5).sub_(1.0)


def update_discriminator(players: Players, real: Tensor, z: Tensor, labels: Tensor | None = None) -> Measures:
    """Update D on real images and on generated ones, which go through D apart.

    real: float[N, C, H, W], -1..1; z: float[N, latent_dim]; labels: of the real images, float[N, classes], one-hot,
    where there are classes; N images of this worker.

    Source: Radford et al. 2016, section 4; Goodfellow et al. 2014, algorithm 1.
    """
    with torch.no_grad(), players.computing():
        fake = torch.cat([players.generator(*part) for part in _parts(players, z)])
    return _update_discriminator(players, _parts(players, real, labels), _parts(players, fake, _labels_of(players, z)))


def update_generator(players: Players, z: Tensor) -> Measures:
    """Update G, with D frozen.

    z: float[N, latent_dim], of this worker.

    Source: as `update_discriminator`.
    """
    parts = _parts(players, z)
    players.generator_adam.zero_grad(set_to_none=True)
    measured = []
    for number, (part,) in enumerate(parts):
        with adding_up(players.generator_averaged, more=number + 1 < len(parts)):
            with players.computing():
                fake = players.generator_averaged(part)
            measured.append(_teach_generator(players, fake, part, len(part) / len(z)))
    return _step_generator(players, torch.stack(measured).sum(0))


def update_both(players: Players, real: Tensor, z: Tensor, labels: Tensor | None = None) -> Measures:
    """Update D, then G, on one batch and one z: the generated images are made once, and serve both.

    Departs: the paper's code alternates; this is what the ports do.
    """
    if len(_parts(players, z)) > 1:  # graphs of all parts at once are what micro-batches are to avoid
        return update_discriminator(players, real, z, labels) | update_generator(players, z)
    players.generator_adam.zero_grad(set_to_none=True)
    with players.computing():
        fake = players.generator_averaged(z)
    generated = _parts(players, fake.detach(), _labels_of(players, z))
    measures = _update_discriminator(players, _parts(players, real, labels), generated)
    return measures | _step_generator(players, _teach_generator(players, fake, z, 1.0))


Part = tuple[Tensor, ...]
"""What a network is called with at a time: z; or images, and where there are classes, their labels."""


def _parts(players: Players, images: Tensor, labels: Tensor | None = None) -> list[Part]:
    given = [images] if labels is None else [images, labels]
    return list(zip(*(torch.split(each, players.micro_images or len(images)) for each in given), strict=True))


def _labels_of(players: Players, z: Tensor) -> Tensor | None:
    """The labels that are joined to z."""
    return z[:, players.preset.z_dim :] if players.preset.classes else None


def _update_discriminator(players: Players, real: list[Part], fake: list[Part]) -> Measures:
    """A backward pass for each part, so that one graph is held at a time; then one step."""
    players.discriminator_adam.zero_grad(set_to_none=True)
    parts = [(part, losses.of_real) for part in real] + [(part, losses.of_fake) for part in fake]
    images = sum(len(part[0]) for part in real)
    total, judged = torch.zeros((), device=players.device, dtype=players.dtype), []
    for number, (part, loss_of) in enumerate(parts):
        with adding_up(players.discriminator_averaged, more=number + 1 < len(parts)):
            with players.computing():
                logits = players.discriminator_averaged(*part)
            loss = loss_of(players.preset.loss, logits.to(players.dtype)) * (len(part[0]) / images)
            torch.autograd.backward(loss)
        total += loss.detach()
        judged.append(logits.detach().to(players.dtype).sigmoid().mean())
    norm = _gradient_norm(players.discriminator)
    players.discriminator_adam.step()
    half = len(judged) // 2
    d_real, d_fake = (torch.stack(means).mean() for means in (judged[:half], judged[half:]))
    return {"loss_d": total, "d_real": d_real, "d_fake": d_fake, "grad_d": norm}


def _teach_generator(players: Players, fake: Tensor, z: Tensor, weight: float) -> Tensor:
    """Leave G's gradients of the weighted loss of its images of z, which is returned, a scalar."""
    D, labels = players.discriminator, _labels_of(players, z)
    D.requires_grad_(False)
    try:
        with players.computing():
            logits = D(fake) if labels is None else D(fake, labels)
        loss = losses.of_generator(players.preset.loss, logits.to(players.dtype)) * weight
        torch.autograd.backward(loss)
    finally:
        D.requires_grad_(True)
    return loss.detach()


def _step_generator(players: Players, loss: Tensor) -> Measures:
    norm = _gradient_norm(players.generator)
    players.generator_adam.step()
    return {"loss_g": loss, "grad_g": norm}


def _gradient_norm(network: nn.Module) -> Tensor:
    """The L2 norm of all gradients together, a scalar on the device."""
    return torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
