"""What de-duplication looks at: two 32x32 thumbs of a picture, and the perceptual hash of either orientation.

Cosines are rounded to a grid of 2^-17, so that every sum of products below is a whole number under 2^53 and exact in
float64, in any order of summation: the same hash on every machine, with any number of threads, in any batch.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from manifests.images import Halvings, centre_square
from manifests.schema import THUMB_PX

HASH_PX = 8
VIEWS: Mapping[str, tuple[float, float, float, float]] = MappingProxyType(
    {
        "whole": (0.0, 0.0, 1.0, 1.0),
        "middle": (0.05, 0.05, 0.95, 0.95),
        "left": (0.0, 0.0, 0.92, 1.0),
        "right": (0.08, 0.0, 1.0, 1.0),
        "top": (0.0, 0.0, 1.0, 0.92),
        "bottom": (0.0, 0.08, 1.0, 1.0),
    }
)
"""Parts of a picture, as left, top, right, bottom in shares of its sides: what may be left of it in a cropped copy."""

# Products this small stay in cache, and BLAS starts no threads for them: 1.5 us an image, in blocks of 2,048 20 us.
_BLOCK_IMAGES = 64
# Thumbs are first halved, which OpenCV does faster than any other ratio, until this near: 71 against 215 us of 341x256.
_HALVING_STOPS_PX = 4 * THUMB_PX


def thumbs(
    image: npt.NDArray[np.uint8], square: Halvings | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The thumb of the centre square, and that of the whole picture squeezed to a square.

    image: uint8[H, W, 3], RGB, 0..255; thumbs: uint8[32, 32, 3] each, by area. `square`: the centre square, where the
    caller has halved it already.
    """
    centre = _thumb(square or Halvings(centre_square(image)))
    height, width = image.shape[:2]
    return centre, (centre if height == width else _thumb(Halvings(image)))


def luma(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Luma of `images: uint8[..., 3], RGB` as uint8[...], in whole numbers.

    ITU-R BT.601 weights in 1/65536, rounded, as Pillow's conversion to "L" has it.
    """
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)


def phashes(lumas: npt.NDArray[np.uint8], view: str = "whole") -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The 64-bit pHash of a view of each picture, and that of the view's mirror image (left to right).

    lumas: uint8[N, 32, 32]; hashes: uint64[N] each; view: of VIEWS

    The 8x8 lowest frequencies of the DCT-II, row by row, the first in the highest bit; a bit is set where the value is
    above their median. The hex digits are those that `imagehash.phash` gives the same picture. Flat pictures hash
    alike: the lowest frequency's bit alone, or 0 where all is black.
    """
    hashes = np.empty(len(lumas), np.uint64)
    mirrored = np.empty(len(lumas), np.uint64)
    left, top, right, bottom = VIEWS[view]
    down, across = _cosines(top, bottom), _cosines(left, right)
    for start in range(0, len(lumas), _BLOCK_IMAGES):
        block = slice(start, start + _BLOCK_IMAGES)
        frequencies = _low_frequencies(lumas[block], down, across)
        hashes[block] = _above_median(frequencies)
        # Mirroring a picture changes the sign of its odd horizontal cosines, and nothing else.
        frequencies[:, :, 1::2] *= -1
        mirrored[block] = _above_median(frequencies)
    return hashes, mirrored


def _thumb(picture: Halvings) -> npt.NDArray[np.uint8]:
    height, width = picture.shape
    times = 0
    while min(-(-height >> times), -(-width >> times)) >= _HALVING_STOPS_PX:
        times += 1
    # By ratio rather than by size: of a last row or column that was added to, only its true part counts.
    across, down = THUMB_PX * 2**times / width, THUMB_PX * 2**times / height
    thumb = cv2.resize(picture.reduced(times), None, fx=across, fy=down, interpolation=cv2.INTER_AREA)
    return np.asarray(thumb, dtype=np.uint8)


@cache
def _cosines(start: float, stop: float) -> npt.NDArray[np.float64]:
    """float64[32, 8]: the DCT-II of the part from start to stop of a side, times 2^17 and rounded.

    The part is first stretched to the side's 32 places, between which values are interpolated; both in one matrix. Of
    the whole side, columns but the first sum to exactly 0.
    """
    places, frequencies = np.arange(THUMB_PX), np.arange(HASH_PX)
    angles = np.pi / (2 * THUMB_PX) * np.outer(2 * places + 1, frequencies)
    at = np.clip(THUMB_PX * start + (places + 0.5) * (stop - start) - 0.5, 0, THUMB_PX - 1)
    below = np.minimum(at.astype(np.int64), THUMB_PX - 2)
    stretch = np.zeros((THUMB_PX, THUMB_PX))
    stretch[places, below] = 1 - (at - below)
    stretch[places, below + 1] = at - below
    return np.asarray(np.rint(stretch.T @ np.cos(angles) * 2**17), np.float64)


def _low_frequencies(
    lumas: npt.NDArray[np.uint8], down: npt.NDArray[np.float64], across: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """float64[N, 8 vertical, 8 horizontal] of `lumas: uint8[N, 32, 32]`, by the cosines of either direction."""
    images = len(lumas)
    rows = lumas.reshape(images * THUMB_PX, THUMB_PX).astype(np.float64) @ across
    columns = rows.reshape(images, THUMB_PX, HASH_PX).transpose(0, 2, 1).reshape(images * HASH_PX, THUMB_PX)
    return (columns @ down).reshape(images, HASH_PX, HASH_PX).transpose(0, 2, 1)


def _above_median(frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    values = frequencies.reshape(len(frequencies), HASH_PX * HASH_PX)
    ordered = np.sort(values, axis=1)
    middle = values.shape[1] // 2
    # The median is the mean of the two in the middle; twice it is still exact.
    bits = 2 * values > ordered[:, middle - 1 : middle] + ordered[:, middle : middle + 1]
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)
