"""The discriminator's features: what its convolutions find in an image, pooled to one length."""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.networks import Discriminator

_POOLED_PX = 4


@torch.no_grad()
def pooled_features(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Each convolution's activations max-pooled to 4x4, flattened, joined.

    Where a side doesn't divide by 4 the pooled fields overlap by a pixel. Batch norm has the statistics of `images`,
    unless `networks.reference_statistics` fixed others.

    images: float32[N, C, size_px, size_px], -1..1 -> features: float32[N, F]; F is 28,672 for imagenet-32 and 7,168 for
    svhn-32.

    Source: Radford et al. 2016, section 5.1.
    """
    pooled = [F.adaptive_max_pool2d(x, _POOLED_PX).flatten(1) for x in discriminator.activations(images)]
    return torch.cat(pooled, dim=1)
