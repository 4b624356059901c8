"""Batch norm with the batch's own statistics."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * gain + bias, with the batch's own mean and biased variance, always.

    There are no running statistics. Sampling may fix the statistics for a while: see `networks.reference_statistics`.

    Source: Radford et al. 2016, the authors' code.
    """

    def __init__(self, features: int, eps: float, kind: str = "global", ghost_images: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.eps, self.kind, self.ghost_images = eps, kind, ghost_images
        self.recording = False
        self.fixed: tuple[Tensor, Tensor] | None = None

    def set_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Use this mean and variance from now on. Both: float32[features]."""
        self.fixed = (mean, variance)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32[N, C] or [N, C, H, W] -> the same shape, normalised over all but C."""
        if self.recording:
            axes = [0, *range(2, x.dim())]
            variance, mean = torch.var_mean(x, dim=axes, correction=0)
            self.fixed = (mean, variance)
        if self.fixed is not None:
            return F.batch_norm(x, *self.fixed, self.weight, self.bias, training=False, eps=self.eps)
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
