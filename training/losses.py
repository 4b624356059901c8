"""What D and G are told to make small, of D's logits."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Loss = Literal["bce", "minimax", "hinge", "least-squares"]


def of_real(loss: Loss, logits: Tensor) -> Tensor:
    """D's loss on real images, a scalar. logits: float[N].

    bce: BCE(D(x), 1), computed from logits, which is safe where D is sure.

    Source: Goodfellow et al. 2014; hinge: Lim and Ye 2017; least squares: Mao et al. 2017.
    """
    if loss == "hinge":
        return F.relu(1 - logits).mean()
    if loss == "least-squares":
        return (logits - 1).square().mean() / 2
    return F.softplus(-logits).mean()


def of_fake(loss: Loss, logits: Tensor) -> Tensor:
    """D's loss on generated images, a scalar. logits: float[N]. Source: as `of_real`."""
    if loss == "hinge":
        return F.relu(1 + logits).mean()
    if loss == "least-squares":
        return logits.square().mean() / 2
    return F.softplus(logits).mean()


def of_generator(loss: Loss, logits: Tensor) -> Tensor:
    """G's loss, a scalar, of D's logits of generated images: float[N].

    bce: BCE(D(G(z)), 1), which does not saturate; minimax: the negative of D's, which does.

    Source: as `of_real`.
    """
    if loss == "hinge":
        return -logits.mean()
    if loss == "least-squares":
        return (logits - 1).square().mean() / 2
    if loss == "minimax":
        return -F.softplus(logits).mean()
    return F.softplus(-logits).mean()
