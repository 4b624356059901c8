"""Pictures and their classes, and how pictures of any size and colour become squares of one."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from manifests.images import (
    Halvings,
    ImageError,
    Limits,
    Pixels,
    centre_square,
    decode_rgb,
    read_header,
    resize_area,
)

__all__ = ["ImageError", "Labelled", "decoded", "fitted", "warn_of_left_out"]

_LIMITS = Limits()
_TOLD = 3


@dataclass(frozen=True)
class Labelled:
    """Pictures and their classes.

    images: uint8[N, size_px, size_px, C], RGB or grey
    labels: int64[N], 0 .. len(classes) - 1
    left_out: the files that gave no picture, each with why
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def decoded(data: bytes, size_px: int, channels: int) -> Pixels:
    """The largest centred square of an image file, reduced by area: uint8[size_px, size_px, channels], RGB or grey.

    Raises:
        ImageError: it is none, is damaged, or is too large.
        cv2.error: OpenCV can't take it.
    """
    return _square(decode_rgb(data, read_header(data, _LIMITS), size_px), size_px, channels)


def fitted(images: Pixels, size_px: int, channels: int) -> Pixels:
    """`images`, uint8[N, H, W] (grey) or uint8[N, H, W, 3] (RGB), as uint8[N, size_px, size_px, channels]."""
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1:] == (size_px, size_px, channels):
        return images
    out = np.empty((len(images), size_px, size_px, channels), np.uint8)
    for number, image in enumerate(images):
        out[number] = _square(image, size_px, channels)
    return out


def _square(image: Pixels, size_px: int, channels: int) -> Pixels:
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)  # grey values stay what they are, there and back
    square = resize_area(Halvings(np.ascontiguousarray(centre_square(image))), size_px)
    if channels == 3:
        return square
    return np.asarray(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]


def warn_of_left_out(path: str, left_out: Sequence[str], kept: int) -> None:
    """Tell in the log how many files below a path are left out, and the first of them, each with why."""
    if left_out:
        logging.getLogger(__name__).warning(
            "%s: %d of %d files are left out: %s%s",
            path,
            len(left_out),
            len(left_out) + kept,
            "; ".join(left_out[:_TOLD]),
            " ..." if len(left_out) > _TOLD else "",
        )
