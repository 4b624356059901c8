"""The generator and the discriminator, built from a preset."""

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.draws import Stream, philox
from training.presets import Preset

_START_PX = 4


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * gain + bias, with the batch's own mean and biased variance, always.

    There are no running statistics. Sampling may fix the statistics for a while: see `reference_statistics`.

    Source: Radford et al. 2016, the authors' code.
    """

    def __init__(self, features: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.eps = eps
        self.recording = False
        self.fixed: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x: float32[N, C] or [N, C, H, W] -> the same shape, normalised over all but C."""
        if self.recording:
            axes = [0, *range(2, x.dim())]
            variance, mean = torch.var_mean(x, dim=axes, correction=0)
            self.fixed = (mean, variance)
        if self.fixed is not None:
            return F.batch_norm(x, *self.fixed, self.weight, self.bias, training=False, eps=self.eps)
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


class Generator(nn.Module):
    """z -> images.

    z: float32[N, z_dim] -> float32[N, 3, size_px, size_px], RGB, -1..1. ReLU, batch norm on all but the output, tanh.

    Source: Radford et al. 2016, figure 1; no biases next to the weights, as in the authors' code.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        channels = preset.widths
        start = channels[0]
        dense = preset.architecture == "paper"
        self.project: nn.Module = (
            nn.Linear(preset.z_dim, start * _START_PX**2, bias=False)
            if dense
            else nn.ConvTranspose2d(preset.z_dim, start, _START_PX, bias=False)
        )
        units = start * _START_PX**2 if preset.first_norm == "units" else start
        self.first_norm = BatchNorm(units, preset.norm_eps)
        layers: list[nn.Module] = []
        for inside, outside in pairwise(channels):
            layers += [_doubling(inside, outside, preset.kernel), BatchNorm(outside, preset.norm_eps)]
            layers.append(nn.ReLU(inplace=True))
        self.layers = nn.Sequential(*layers, _doubling(channels[-1], 3, preset.kernel), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """z: float32[N, z_dim] -> float32[N, 3, size_px, size_px], -1..1."""
        if isinstance(self.project, nn.Linear):
            x = self.project(z)
            if self.preset.first_norm == "units":
                x = self.first_norm(x)
            x = x.view(len(z), -1, _START_PX, _START_PX)
        else:
            x = self.project(z[:, :, None, None])
        if self.preset.first_norm == "channels":
            x = self.first_norm(x)
        x = F.relu(x).contiguous(memory_format=torch.channels_last)
        return cast(Tensor, self.layers(x))


class Discriminator(nn.Module):
    """Images -> logits: positive means real.

    images: float32[N, 3, size_px, size_px], -1..1 -> float32[N]. LeakyReLU, batch norm on all but the first layer.

    Source: Radford et al. 2016, section 3; the sigmoid is left to the loss, which is the same function, safer.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        channels = preset.widths[::-1]
        layers: list[nn.Module] = []
        for depth, (inside, outside) in enumerate(zip((3, *channels[:-1]), channels, strict=True)):
            layers.append(nn.Conv2d(inside, outside, preset.kernel, 2, (preset.kernel - 1) // 2, bias=False))
            if depth > 0:
                layers.append(BatchNorm(outside, preset.norm_eps))
            layers.append(nn.LeakyReLU(preset.leak, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.judge: nn.Module = (
            nn.Linear(channels[-1] * _START_PX**2, 1, bias=False)
            if preset.architecture == "paper"
            else nn.Conv2d(channels[-1], 1, _START_PX, bias=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        """images: float32[N, 3, size_px, size_px], -1..1 -> logits: float32[N]."""
        x = self.layers(images)
        if isinstance(self.judge, nn.Linear):
            x = x.flatten(1)
        return cast(Tensor, self.judge(x)).flatten()


def _doubling(inside: int, outside: int, kernel: int) -> nn.ConvTranspose2d:
    """A fractionally strided convolution that doubles the side."""
    padding = (kernel - 1) // 2
    return nn.ConvTranspose2d(inside, outside, kernel, 2, padding, output_padding=kernel % 2, bias=False)


def build(preset: Preset, seed: int, device: torch.device) -> tuple[Generator, Discriminator]:
    """Both networks with the initial weights of `seed`, the same on every device and worker.

    Weights are N(0, 0.02); batch norm's gains N(1, 0.02), its biases 0.
    """
    generator, discriminator = Generator(preset), Discriminator(preset)
    draw = torch.Generator().manual_seed(int(philox(seed, Stream.WEIGHTS).random_raw()) >> 1)
    with torch.no_grad():
        for module in (*generator.modules(), *discriminator.modules()):
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                module.weight.normal_(0.0, preset.deviation, generator=draw)
            elif isinstance(module, BatchNorm):
                module.weight.normal_(1.0, preset.deviation, generator=draw)
    for network in (generator, discriminator):
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return generator, discriminator


def count_parameters(network: nn.Module) -> int:
    """The number of trained values in a network."""
    return sum(p.numel() for p in network.parameters())


@contextlib.contextmanager
def reference_statistics(generator: Generator, z: Tensor) -> Iterator[None]:
    """Inside the block, every batch norm uses the statistics that the reference batch `z` had in it.

    A picture then depends on its own z and on the reference batch alone, not on its neighbours.

    z: float32[N, z_dim].
    """
    norms = [m for m in generator.modules() if isinstance(m, BatchNorm)]
    try:
        for norm in norms:
            norm.recording = True
        with torch.no_grad():
            generator(z)
        for norm in norms:
            norm.recording = False
        yield
    finally:
        for norm in norms:
            norm.recording, norm.fixed = False, None
