"""Batch normalisation without running statistics: over the global batch, a worker's part, or ghost batches."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.ranks import rows_of_workers, sum_of_workers, workers

NormKind = Literal["global", "per_rank", "ghost"]


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * gain + bias, with the batch's own mean and biased variance, always.

    There are no running statistics. In training mode, `global` takes the statistics of all workers' batches together,
    `per_rank` of this worker's, `ghost` of `ghost_images` consecutive images at a time. In evaluation mode they are
    those of the batch at hand, whatever the kind, so that one worker can make pictures by itself. Sampling may fix
    them for a while: see `networks.reference_statistics`.

    Source: Radford et al. 2016, the authors' code; ghost: Hoffer et al. 2017.
    """

    def __init__(self, features: int, eps: float, kind: NormKind = "global", ghost_images: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.eps = eps
        self.kind = kind
        self.ghost_images = ghost_images
        self.recording = False
        self.fixed: tuple[Tensor, Tensor] | None = None

    def set_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Use this mean and biased variance, float[C] each, from now on."""
        self.fixed = (mean, variance)

    def forward(self, x: Tensor) -> Tensor:
        """x: float[N, C] or [N, C, H, W] -> the same shape, normalised over all but C."""
        if self.recording:
            variance, mean = torch.var_mean(x, dim=_all_but_channels(x), correction=0)
            self.set_statistics(mean, variance)
        if self.fixed is not None:
            return F.batch_norm(x, *self.fixed, self.weight, self.bias, training=False, eps=self.eps)
        if self.training and self.kind == "ghost" and self.ghost_images is not None:
            return torch.cat([self._own(part) for part in torch.split(x, self.ghost_images)])
        if self.training and self.kind == "global" and workers() > 1:
            y: Tensor = _Synchronised.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
            return y
        return self._own(x)

    def _own(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


class _Synchronised(torch.autograd.Function):
    """Batch norm with the statistics of all workers' batches, which are of one size.

    The gradient is that of the sum of the workers' losses; gain and bias get this worker's part, which the averaging of
    gradients completes. torch's SyncBatchNorm is the same function, and refuses CPUs.

    Source: Ioffe and Szegedy 2015, section 3.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        variance, mean = torch.var_mean(x.to(weight.dtype), dim=_all_but_channels(x), correction=0)
        means, variances = rows_of_workers(torch.stack([mean, variance])).unbind(1)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square().mean(0)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance = ctx.saved_tensors
        (dy,) = gradients
        axes, shape = _all_but_channels(x), (1, -1) + (1,) * (x.dim() - 2)
        inverse = torch.rsqrt(variance + ctx.eps)
        normal = (x.to(weight.dtype) - mean.view(shape)) * inverse.view(shape)
        of_bias, of_weight = dy.sum(axes, dtype=weight.dtype), (dy * normal).sum(axes)
        values_per_channel = x.numel() // x.shape[1] * workers()
        sums = sum_of_workers(torch.stack([of_bias, of_weight])) / values_per_channel
        dx = (dy - sums[0].view(shape) - normal * sums[1].view(shape)) * (weight * inverse).view(shape)
        return dx.to(x.dtype), of_weight, of_bias, None


def _all_but_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]
