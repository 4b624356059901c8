"""The arithmetic of an update of both networks, and the time that each layer takes for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training import adversarial
from training.presets import Preset

_SGEMM_SIDES = (1024, 2048, 3072)
_KINDS = {
    "convolutions": ("conv", "mm", "linear"),
    "batch norms": ("batch_norm", "var_mean"),
    "activations": ("relu", "threshold", "tanh", "clamp_min"),
    "Adam": ("adam", "zero_grad"),
    "copies": ("copy_", "fill_", "zero_", "cat"),
}


@dataclass(frozen=True)
class Layer:
    """A layer with a matrix of weights; forward, data, weights: how often an update does each pass."""

    name: str
    module: nn.Module
    x: Tensor
    flops: float  # of one pass: two for each multiply-add
    forward: int
    data: int
    weights: int

    @property
    def passes(self) -> int:
        """All passes of an update."""
        return self.forward + self.data + self.weights


def sgemm_flops(repeats: int = 4) -> float:
    """The most float32 operations a second that this process's threads reach in products of square matrices."""
    best = 0.0
    for side in _SGEMM_SIDES:
        a, b, out = torch.randn(side, side), torch.randn(side, side), torch.empty(side, side)
        seconds = _least_seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), repeats)  # type: ignore[misc]
        best = max(best, 2 * side**3 / seconds)
    return best


def layers_of(players: adversarial.Players, preset: Preset) -> list[Layer]:
    """The layers of both networks in order, each with an input as in training, and its passes in an update of both.

    D goes forward on real images, on generated ones, and on those again for G, and back once each; only the last time
    the gradient goes on into its input, but not into its weights. G's own input needs no gradient.
    """
    z = torch.randn(preset.batch_images, preset.latent_dim)
    with torch.no_grad():
        images = players.generator(z)
        generator = _seen(players.generator, z)
        discriminator = _seen(players.discriminator, images)
    found = []
    for i, (module, x, flops) in enumerate(generator):
        found.append(Layer(f"G {i + 1}", module, x, flops, forward=1, data=int(i > 0), weights=1))
    for i, (module, x, flops) in enumerate(discriminator):
        found.append(Layer(f"D {i + 1}", module, x, flops, forward=3, data=3 if i > 0 else 1, weights=2))
    return found


def _seen(network: nn.Module, batch: Tensor) -> list[tuple[nn.Module, Tensor, float]]:
    """Each module with weights of two or more axes, its input for this batch, and the operations of a pass."""
    seen: list[tuple[nn.Module, Tensor, float]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.get_parameter("weight")
        # Strided convolutions look from each place of the output, fractionally strided ones from each of the input.
        places = min(x.numel() // x.shape[1] for x in (inputs[0], output))
        seen.append((module, inputs[0].detach(), 2.0 * weight.numel() * places))

    hooks = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(getattr(module, "weight", None), Tensor) and module.get_parameter("weight").dim() > 1
    ]
    network(batch)
    for hook in hooks:
        hook.remove()
    return seen


def layer_seconds(layer: Layer, repeats: int = 3) -> dict[str, float]:
    """The least seconds of a pass forward, back to the data, and back to the weights."""
    weight = layer.module.get_parameter("weight")
    with torch.no_grad():
        forward_s = _least_seconds(lambda: layer.module(layer.x), repeats)
    x = layer.x.detach().clone(memory_format=torch.preserve_format).requires_grad_(True)
    seconds = {"forward": forward_s}
    try:
        for name, towards in (("data", x), ("weights", weight)):
            weight.requires_grad_(towards is weight)
            y = layer.module(x if towards is x else layer.x)
            slope = torch.randn_like(y)

            def back(y: Tensor = y, towards: Tensor = towards, slope: Tensor = slope) -> Any:
                return torch.autograd.grad(y, towards, slope, retain_graph=True)

            seconds[name] = _least_seconds(back, repeats)
    finally:
        weight.requires_grad_(True)
    return seconds


def update_seconds(players: adversarial.Players, preset: Preset) -> dict[str, float]:
    """Seconds of one update by kind of work, as the profiler counts them; the profiler slows it somewhat."""
    device = torch.device("cpu")
    shape = (preset.batch_images, preset.size_px, preset.size_px, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 3, 1, 2)
    z = torch.randn(preset.batch_images, preset.latent_dim)

    def update() -> None:
        adversarial.update_both(players, adversarial.pixels_to_unit(images, device), z)

    update()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        update()
    seconds = dict.fromkeys((*_KINDS, "all else"), 0.0)
    for event in profile.key_averages():
        name = event.key.lower()
        kind = next((k for k, words in _KINDS.items() if any(word in name for word in words)), "all else")
        seconds[kind] += event.self_cpu_time_total / 1e6
    return seconds


def _least_seconds(work: Callable[[], Any], repeats: int) -> float:
    work()
    least = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - began)
    return least
