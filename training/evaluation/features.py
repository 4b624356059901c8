"""The discriminator's features: what its convolutions find in an image, pooled to one length."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from training.adversarial import pixels_to_unit
from training.draws import Stream, permutation, philox
from training.networks import Discriminator, reference_statistics
from training.plan import discriminator_plan
from training.presets import Preset
from training.samples import Images

Features = npt.NDArray[np.floating]
"""float32[N, F], or float16 where half the memory matters more than the digits after the third."""

POOLED_PX = 4
CHUNK_IMAGES = 250
_SAID_EVERY_IMAGES = 10_000


@torch.no_grad()
def pooled_features(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Each convolution's activations max-pooled to 4x4, flattened, joined.

    Where a side doesn't divide by 4 the pooled fields overlap by a pixel. Batch norm has the statistics of `images`,
    unless `networks.reference_statistics` fixed others.

    images: float32[N, C, size_px, size_px], -1..1 -> features: float32[N, F]; F is 28,672 for imagenet-32 and 7,168 for
    svhn-32.

    Source: Radford et al. 2016, section 5.1.
    """
    pooled = [F.adaptive_max_pool2d(x, POOLED_PX).flatten(1) for x in discriminator.activations(images)]
    return torch.cat(pooled, dim=1)


def feature_count(preset: Preset) -> int:
    """How many features an image has: 16 for each channel of each convolution."""
    plan = discriminator_plan(preset)
    return POOLED_PX**2 * sum(x.outside for x in plan if x.kind == "conv" and x.activation != "none")


def reference_batch(images: Images, count: int, seed: int) -> Images:
    """The training images whose statistics batch norm uses: drawn by the seed, without repeats.

    images: uint8[N, H, W, C] -> uint8[min(count, N), H, W, C].
    """
    return images[np.sort(permutation(len(images), philox(seed, Stream.FEATURES))[:count])]


def as_input(images: Images, device: torch.device) -> Tensor:
    """images: uint8[N, H, W, C], 0..255 -> float32[N, C, H, W], -1..1, as the discriminator takes them."""
    return pixels_to_unit(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2), device)


def extract(
    discriminator: Discriminator,
    images: Images,
    reference: Images,
    say: Callable[[str], None] | None = None,
    storage: Literal["float32", "float16"] = "float32",
) -> Features:
    """The pooled features of many images, in one array that is made once and filled chunk by chunk.

    Batch norm has the statistics of the batch `reference`, so an image's features depend on it and that batch alone.
    All chunks are of one size, the last is filled up: products of another size may round otherwise.

    images, reference: uint8[N, H, W, C] -> features: float32[N, F], or float16.

    Source: Radford et al. 2016, section 5.1.
    Departs: the authors' code has the statistics of each batch of features at hand, so neighbours matter.
    """
    device = next(discriminator.parameters()).device
    features = np.empty((len(images), feature_count(discriminator.preset)), dtype=storage)
    with reference_statistics(discriminator, as_input(reference, device)):
        for first in range(0, len(images), CHUNK_IMAGES):
            chunk = images[first : first + CHUNK_IMAGES]
            filled = chunk if len(chunk) == CHUNK_IMAGES else np.resize(chunk, (CHUNK_IMAGES, *chunk.shape[1:]))
            made = pooled_features(discriminator, as_input(filled, device))[: len(chunk)]
            features[first : first + len(chunk)] = made.cpu().numpy()
            done = first + len(chunk)
            if say is not None and (done // _SAID_EVERY_IMAGES > first // _SAID_EVERY_IMAGES or done == len(images)):
                say(f"features of {done:,} of {len(images):,} images")
    return features


def standardise(features: Features, others: Features, smallest_variance: float = 0.01) -> None:
    """Bring each feature to mean 0 and deviation 1 over `features`, in place; `others` are shifted and scaled likewise.

    features: float[N, F], of the training images; others: float[M, F], of the test images.

    Source: Coates, Ng and Lee 2011, the authors' code, which adds 0.01 to the variance.
    Departs: Radford et al. leave the discriminator's features as they are.
    """
    mean = np.zeros(features.shape[1])
    square = np.zeros(features.shape[1])
    for rows in _row_chunks(features):
        mean += rows.sum(0, dtype=np.float64) / len(features)
    shift = mean.astype(np.float32)
    for rows in _row_chunks(features):
        square += np.square(rows - shift).sum(0, dtype=np.float64) / len(features)
    scale = (1 / np.sqrt(square + smallest_variance)).astype(np.float32)
    for array in (features, others):
        for rows in _row_chunks(array):
            rows[:] = (rows - shift) * scale


def mean_squared_norm(features: Features) -> float:
    """The mean of the squared lengths of the rows of features: float[N, F]."""
    total = sum(float(np.einsum("ij,ij->", rows, rows, dtype=np.float64)) for rows in _row_chunks(features))
    return total / len(features)


def _row_chunks(array: Features) -> list[Features]:
    """Views of some rows at a time, so that what is made of them stays small."""
    return [array[first : first + 1024] for first in range(0, len(array), 1024)]
