"""What de-duplication looks at: two 32x32 thumbs of a picture, and the perceptual hash of either orientation.

Cosines are rounded to a grid of 2^-17, so that every sum of products below is a whole number under 2^53 and exact in
float64, in any order of summation: the same hash on every machine, with any number of threads, in any batch.
"""

import cv2
import numpy as np
import numpy.typing as npt

from manifests.images import Halvings, centre_square
from manifests.schema import THUMB_PX

HASH_PX = 8
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


def phashes(lumas: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The 64-bit pHash of each picture, and that of its mirror image (left to right).

    lumas: uint8[N, 32, 32]; hashes: uint64[N] each. The 8x8 lowest frequencies of the DCT-II, row by row, the first in
    the highest bit; a bit is set where the value is above their median. The hex digits are those that `imagehash.phash`
    gives the same picture. Flat pictures hash alike: the lowest frequency's bit alone, or 0 where all is black.
    """
    hashes = np.empty(len(lumas), np.uint64)
    mirrored = np.empty(len(lumas), np.uint64)
    for start in range(0, len(lumas), _BLOCK_IMAGES):
        block = slice(start, start + _BLOCK_IMAGES)
        frequencies = _low_frequencies(lumas[block])
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


def _cosines() -> npt.NDArray[np.float64]:
    """float64[32, 8] of the DCT-II, times 2^17 and rounded; columns but the first sum to exactly 0."""
    places, frequencies = np.arange(THUMB_PX), np.arange(HASH_PX)
    angles = np.pi / (2 * THUMB_PX) * np.outer(2 * places + 1, frequencies)
    return np.asarray(np.rint(np.cos(angles) * 2**17), np.float64)


_COSINES = _cosines()


def _low_frequencies(lumas: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """float64[N, 8 vertical, 8 horizontal] of `lumas: uint8[N, 32, 32]`."""
    images = len(lumas)
    across = lumas.reshape(images * THUMB_PX, THUMB_PX).astype(np.float64) @ _COSINES
    columns = across.reshape(images, THUMB_PX, HASH_PX).transpose(0, 2, 1).reshape(images * HASH_PX, THUMB_PX)
    return (columns @ _COSINES).reshape(images, HASH_PX, HASH_PX).transpose(0, 2, 1)


def _above_median(frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    values = frequencies.reshape(len(frequencies), HASH_PX * HASH_PX)
    ordered = np.sort(values, axis=1)
    middle = values.shape[1] // 2
    # The median is the mean of the two in the middle; twice it is still exact.
    bits = 2 * values > ordered[:, middle - 1 : middle] + ordered[:, middle : middle + 1]
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)
