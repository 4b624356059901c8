"""In what images are compared: pixels, the 128-bit code, and what a discriminator's convolutions find."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.adversarial import pixels_to_unit
from training.evaluation.copies import versions
from training.evaluation.features import pooled_features
from training.evaluation.measured import Unmeasurable
from training.evaluation.neighbours import BLOCK_IMAGES, Codes, Nearest, nearest_codes, nearest_features
from training.networks import Discriminator, reference_statistics
from training.samples import Images

FLATTEST = 4.0  # grey levels of deviation, below which an image's contrast is not stretched further
_CHUNK_IMAGES = 256

Seen = Tensor | Codes


@dataclass(frozen=True)
class Space:
    """A way to see images, and what of it must not count.

    see: uint8[N, H, W, C] -> float32[N, F] on a device, or codes uint64[N, 2]
    shifts: whether a query is also looked for moved by a pixel (of 32) each way; mirrored it always is
    """

    name: str
    means: str
    see: Callable[[Images], Seen]
    shifts: bool

    def forms(self, queries: Images) -> list[Seen]:
        """What is seen of the queries, mirrored or not, shifted or not.

        queries: uint8[Q, H, W, C] -> a list of what `see` gives.
        """
        return [self.see(version) for version in versions(queries, self.shifts)]

    def nearest(self, forms: list[Seen], images: Images, k: int) -> Nearest:
        """The k of the images that are nearest to each query, in the form in which it is nearest.

        images: uint8[N, H, W, C], seen in blocks.
        """
        blocks = (self.see(images[start : start + BLOCK_IMAGES]) for start in range(0, len(images), BLOCK_IMAGES))
        if isinstance(forms[0], Tensor):
            return nearest_features(cast(list[Tensor], forms), cast(Iterator[Tensor], blocks), k)
        return nearest_codes(cast(list[Codes], forms), np.concatenate(list(cast(Iterator[Codes], blocks))), k)


def pixel_space(side_px: int, device: torch.device) -> Space:
    """Pixels of images reduced to `side_px`, each image at mean 0 and deviation 1: brightness and contrast don't count.

    The square of a distance is then 2 (1 - correlation), whatever the number of pixels.
    """
    return Space(
        "pixels",
        f"Euclidean distance of pixels at {side_px} px or the images' own side, each image at mean 0 and deviation 1; "
        "the nearest of its mirror images and shifts by a 32nd of the side",
        lambda images: torch.from_numpy(standardised(images, side_px)).to(device),
        shifts=True,
    )


def code_space(codes: Callable[[Images], Codes]) -> Space:
    """The 128-bit code, in bits."""
    means = "bits in which the 128-bit codes differ; the nearest of mirror images and shifts by a 32nd of the side"
    return Space("code", means, codes, shifts=True)


@contextlib.contextmanager
def feature_space(discriminator: Discriminator, reference: Images) -> Iterator[Space]:
    """The discriminator's pooled features less their mean; batch norm has the statistics of `reference` in the block.

    reference: uint8[N, H, W, C].

    Raises:
        Unmeasurable: the features aren't finite.
    """
    device = next(discriminator.parameters()).device

    def unit(images: Images) -> Tensor:
        return pixels_to_unit(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2), device)

    def features(images: Images) -> Tensor:
        chunks = range(0, len(images), _CHUNK_IMAGES)
        return torch.cat([pooled_features(discriminator, unit(images[at : at + _CHUNK_IMAGES])) for at in chunks])

    with reference_statistics(discriminator, unit(reference)):
        middle = features(reference).mean(dim=0)
        if not middle.isfinite().all():
            raise Unmeasurable("D's features aren't finite, so nothing is near to anything; take an earlier checkpoint")
        means = "Euclidean distance of D's features, max-pooled to 4x4; the nearer of the two mirror images"
        yield Space("features", means, lambda images: features(images).sub_(middle), shifts=False)


def standardised(images: Images, side_px: int) -> npt.NDArray[np.float32]:
    """images: uint8[N, H, W, C] -> float32[N, F]: reduced, mean 0, squares that add up to 1 but for flat images."""
    if images.shape[1] > side_px:
        small = [cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA) for image in images]
        images = np.stack(small)
    values = images.reshape(len(images), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    deviation = np.maximum(values.std(axis=1, keepdims=True), FLATTEST)
    return np.asarray(values / (deviation * np.float32(values.shape[1] ** 0.5)), np.float32)
