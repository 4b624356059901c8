"""Guided backpropagation: what in a picture makes a unit of the discriminator answer."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.networks import Discriminator
from training.plan import Layer, Plan


class Field(NamedTuple):
    """Where the units of a layer look: unit (i, j) at rows first + i * step .. first + i * step + side - 1."""

    first: int
    step: int
    side: int


class _GuidedRectifier(torch.autograd.Function):
    """LeakyReLU, through which only positive gradients go back, and only where the input was positive.

    Source: Springenberg et al. 2015, section 3.4.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, leak: float) -> Tensor:
        ctx.save_for_backward(x > 0)
        return F.leaky_relu(x, leak)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (positive,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * positive, None


class GuidedDiscriminator(Discriminator):
    """A discriminator that answers as any other, and whose gradients are those of guided backpropagation."""

    def __init__(self, like: Discriminator) -> None:
        """`like`: whose weights it has."""
        super().__init__(like.preset)
        self.load_state_dict(like.state_dict())
        weight = next(like.parameters())
        self.to(device=weight.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    def _activate(self, layer: Layer, x: Tensor) -> Tensor:
        if layer.activation != "leaky_relu":
            return super()._activate(layer, x)
        y: Tensor = _GuidedRectifier.apply(x, self.preset.leak)  # type: ignore[no-untyped-call]
        return y


def convolutions(plan: Plan) -> list[Layer]:
    """The discriminator's layers that `Discriminator.activations` gives."""
    found = []
    for layer in plan:
        if layer.kind != "conv" or layer.activation == "none":
            break
        found.append(layer)
    return found


def receptive_field(plan: Plan) -> Field:
    """Where the units of the last convolution look in the picture; beyond its border they see zeros."""
    first, step, side = 0, 1, 1
    for layer in convolutions(plan):
        first -= layer.padding * step
        side += (layer.kernel - 1) * step
        step *= layer.stride
    return Field(first, step, side)


def guided_gradients(discriminator: GuidedDiscriminator, images: Tensor, maps: Tensor, places: Tensor) -> Tensor:
    """The guided gradient, for each picture, of one unit of the last convolution after its LeakyReLU.

    Batch norm's statistics have to be fixed (`networks.reference_statistics`), or the gradients would run through those
    of the other pictures.

    images: float32[N, C, size_px, size_px], -1..1; maps: int64[N]; places: int64[N, 2], row and column
    -> float32[N, C, size_px, size_px]
    """
    x = images.detach().clone().requires_grad_()
    last = discriminator.activations(x)[-1]
    answers = last[torch.arange(len(x)), maps, places[:, 0], places[:, 1]]
    (gradient,) = torch.autograd.grad(answers.sum(), x)
    return gradient
