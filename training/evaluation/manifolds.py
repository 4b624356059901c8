"""Precision and recall of samples: how many lie where real images do, and how many real images lie where samples do."""

from typing import NamedTuple

import torch
from torch import Tensor

from training.evaluation.neighbours import nearest_features

_BLOCK_ROWS = 1024


class PrecisionRecall(NamedTuple):
    """precision: share of samples within the real images' manifold; recall: of real images within the samples'."""

    precision: float
    recall: float


def precision_recall(real: Tensor, samples: Tensor, k: int = 3) -> PrecisionRecall:
    """How much two sets of features overlap, each set's manifold being balls that reach to the k-th nearest neighbour.

    Both fall with fewer images and hang on the space, so only figures of equally many images in one space compare.

    real: float32[N, F]; samples: float32[M, F]; more than k each.

    Raises:
        ValueError: a set has no k-th neighbour.

    Source: Kynkaanniemi et al. 2019, algorithm 1; k = 3 as there.
    """
    return PrecisionRecall(
        precision=float(inside(samples, real, radii(real, k)).float().mean()),
        recall=float(inside(real, samples, radii(samples, k)).float().mean()),
    )


def radii(features: Tensor, k: int) -> Tensor:
    """The distance of each to its k-th nearest other: float32[N, F] -> float32[N]."""
    found = nearest_features([features], features.split(_BLOCK_ROWS), k + 1)  # type: ignore[no-untyped-call]
    return torch.from_numpy(found.distances[:, k]).to(features)


def inside(points: Tensor, centres: Tensor, reach: Tensor) -> Tensor:
    """Whether each point lies in the ball of a centre or more.

    points: float32[P, F]; centres: float32[N, F]; reach: float32[N] -> bool[P].
    """
    squares, limits = centres.square().sum(dim=1), reach.square()
    found = [
        (torch.addmm(block.square().sum(dim=1)[:, None] + squares, block, centres.T, alpha=-2) <= limits).any(dim=1)
        for block in points.split(_BLOCK_ROWS)  # type: ignore[no-untyped-call]
    ]
    return torch.cat(found)
