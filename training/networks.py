"""The generator and the discriminator, built from a preset's plan."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.convolutions import Doubling, FromPixel, Halving, ToPixel
from training.draws import Stream, philox
from training.norms import BatchNorm
from training.plan import Layer, Plan, discriminator_plan, generator_plan
from training.presets import Preset

__all__ = ["BatchNorm", "Discriminator", "Generator", "build", "count_parameters", "reference_statistics"]


class _Planned(nn.Module):
    """The layers of a plan, each under its own name, so that the keys of the state dict are the plan's."""

    def __init__(self, preset: Preset, plan: Plan) -> None:
        super().__init__()
        self.preset, self.plan = preset, plan
        for layer in plan:
            self.add_module(layer.name, _weights(layer))
            if layer.norm != "none":
                norm = BatchNorm(layer.norm_features, preset.norm_eps, preset.batch_norm, preset.ghost_images)
                self.add_module(f"{layer.name}_norm", norm)

    def _run(self, layer: Layer, x: Tensor, y: Tensor | None) -> Tensor:
        weights: nn.Module = getattr(self, layer.name)
        norm: nn.Module | None = getattr(self, f"{layer.name}_norm") if layer.norm != "none" else None
        if layer.kind == "dense":
            x = x.flatten(1)
        if y is not None:
            x = _joined(x, y)
        if layer.kind == "dense":
            x = weights(x)
            if norm is not None and layer.norm == "units":
                x, norm = norm(x), None
            if layer.out_px > 1:
                x = x.view(-1, *layer.out_shape)
        else:
            x = weights(x)
        if norm is not None:
            x = norm(x)
        x = self._activate(layer, x)
        grows = layer.in_px == 1 and layer.out_px > 1
        return x.contiguous(memory_format=torch.channels_last) if grows else x

    def _activate(self, layer: Layer, x: Tensor) -> Tensor:
        # In place: neither convolutions nor batch norm need what they gave to find their gradients.
        if layer.activation == "relu":
            return F.relu(x, inplace=True)
        if layer.activation == "leaky_relu":
            return F.leaky_relu(x, self.preset.leak, inplace=True)
        return torch.tanh(x) if layer.activation == "tanh" else x


class Generator(_Planned):
    """z -> images.

    z: float32[N, z_dim] -> float32[N, C, size_px, size_px], RGB or grey, -1..1. With classes, each row of z goes on
    with its one-hot label: float32[N, z_dim + classes], as `draws.with_labels` makes it.

    Source: Radford et al. 2016, figure 1; no biases next to the weights, as in the authors' code.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset, generator_plan(preset))

    def forward(self, z: Tensor) -> Tensor:
        """z: float32[N, latent_dim] -> float32[N, C, size_px, size_px], -1..1."""
        x, y = z, None
        if self.preset.classes:
            if z.shape[1] != self.preset.latent_dim:
                raise ValueError(
                    f"z has {z.shape[1]} values, but preset {self.preset.name} takes {self.preset.z_dim} and a one-hot "
                    f"label of {self.preset.classes}; join them with draws.with_labels"
                )
            x, y = z[:, : self.preset.z_dim], z[:, self.preset.z_dim :]
        for layer in self.plan:
            x = self._run(layer, x, y)
        return x


class Discriminator(_Planned):
    """Images -> logits: positive means real.

    images: float32[N, C, size_px, size_px], -1..1 -> float32[N]. With classes it takes labels too, y: float32[N,
    classes], one-hot; where none are given, which no training does, an image is equally of each class.

    Source: Radford et al. 2016, section 3; the sigmoid is left to the loss, which is the same function, safer.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__(preset, discriminator_plan(preset))

    def forward(self, images: Tensor, y: Tensor | None = None) -> Tensor:
        """images: float32[N, C, size_px, size_px], -1..1; y: float32[N, classes] -> logits: float32[N]."""
        x, y = images, self._label(images, y)
        for layer in self.plan:
            x = self._run(layer, x, y)
        x = x.flatten(1)
        # The cross-entropy of two outputs (generated, real) is that of the sigmoid of their difference.
        return x[:, 1] - x[:, 0] if x.shape[1] == 2 else x[:, 0]

    def _label(self, images: Tensor, y: Tensor | None) -> Tensor | None:
        classes = self.preset.classes
        if not classes:
            return None
        return images.new_full((len(images), classes), 1 / classes) if y is None else y

    def activations(self, images: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """What each convolution gives after batch norm and LeakyReLU, from the image on.

        images: float32[N, C, size_px, size_px], -1..1; y: float32[N, classes] -> a float32[N, channels, side, side]
        for each.
        """
        found, x, y = [], images, self._label(images, y)
        for layer in self.plan:
            if layer.kind != "conv" or layer.activation == "none":
                break
            x = self._run(layer, x, y)
            found.append(x)
        return found


def _joined(x: Tensor, y: Tensor) -> Tensor:
    """x: float[N, C] or [N, C, H, W], with y: float[N, classes] after its channels, the same at each place."""
    y = y.to(x.dtype)
    if x.dim() == 2:
        return torch.cat([x, y], dim=1)
    images, _, height, width = x.shape
    maps = y[:, None, None].expand(images, height, width, y.shape[1])
    return torch.cat([x.permute(0, 2, 3, 1), maps], dim=3).permute(0, 3, 1, 2)  # channels last


def _weights(layer: Layer) -> nn.Module:
    if layer.kind == "dense":
        return nn.Linear(layer.entering, layer.out_units, bias=False)
    if layer.kind == "conv":
        kind = ToPixel if layer.out_px == 1 else Halving if layer.stride == 2 else nn.Conv2d
        return kind(layer.entering, layer.outside, layer.kernel, layer.stride, layer.padding, bias=False)
    transposed = FromPixel if layer.in_px == 1 else Doubling if layer.stride == 2 else nn.ConvTranspose2d
    return transposed(
        layer.entering, layer.outside, layer.kernel, layer.stride, layer.padding, layer.output_padding, bias=False
    )


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
def reference_statistics(network: Generator | Discriminator, *batch: Tensor) -> Iterator[None]:
    """Inside the block, every batch norm uses the statistics that the reference `batch` had in it.

    What comes out for one sample then depends on it and on the reference batch alone, not on its neighbours.

    batch: z, float32[N, latent_dim], for a generator; images, float32[N, C, size_px, size_px], for a discriminator, and
    with classes their labels, float32[N, classes].
    """
    norms = [m for m in network.modules() if isinstance(m, BatchNorm)]
    try:
        for norm in norms:
            norm.recording = True
        with torch.no_grad():
            network(*batch)
        for norm in norms:
            norm.recording = False
        yield
    finally:
        for norm in norms:
            norm.recording, norm.fixed = False, None
