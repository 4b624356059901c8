"""Copies of images: equal ones, the forms in which one is looked for that isn't, and changed ones to be found."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from training.samples import Images

STEPS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))


def equal_to(images: Images, others: Images) -> npt.NDArray[np.bool_]:
    """bool[N]: which of the images are, byte for byte, one of the others. uint8[N, H, W, C], uint8[M, H, W, C]."""
    known = {hashlib.sha256(other.tobytes()).digest() for other in others}
    return np.array([hashlib.sha256(image.tobytes()).digest() in known for image in images], bool)


def step_px(images: Images) -> int:
    """A 32nd of the side, at least a pixel."""
    side_px: int = images.shape[1]
    return max(1, round(side_px / 32))


def versions(images: Images, shifts: bool) -> Iterator[Images]:
    """The images and their mirror images, each as it is and, with `shifts`, moved by a step to the four sides.

    images: uint8[N, H, W, C]; at the border the last row or column is repeated.
    """
    step = step_px(images)
    padded = np.pad(images, ((0, 0), (step, step), (step, step), (0, 0)), mode="edge")
    height, width = images.shape[1:3]
    for down, right in STEPS if shifts else STEPS[:1]:
        top, left = step * (1 - down), step * (1 - right)
        moved = padded[:, top : top + height, left : left + width]
        yield moved
        yield moved[:, :, ::-1]


def _shifted(images: Images, random: np.random.Generator) -> Images:
    """Moved by up to a step each way, between pixels."""
    moves = random.uniform(-1, 1, (len(images), 2)) * step_px(images)
    out = np.empty_like(images)
    for place, (image, (right, down)) in enumerate(zip(images, moves, strict=True)):
        turn = np.array([[1, 0, right], [0, 1, down]], np.float64)
        moved = cv2.warpAffine(image, turn, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        out[place] = moved.reshape(image.shape)
    return out


def _mirrored(images: Images, random: np.random.Generator) -> Images:
    return np.ascontiguousarray(images[:, :, ::-1])


def _brightened(images: Images, random: np.random.Generator) -> Images:
    """Contrast by 0.75 to 1.33, brightness by up to 20 grey levels either way."""
    gain = 0.75 ** random.uniform(-1, 1, (len(images), 1, 1, 1))
    offset = random.uniform(-20, 20, (len(images), 1, 1, 1))
    return np.asarray(np.clip(np.rint(images * gain + offset), 0, 255), np.uint8)


CHANGES: Mapping[str, Callable[[Images, np.random.Generator], Images]] = MappingProxyType(
    {"shifted": _shifted, "mirrored": _mirrored, "brighter or darker": _brightened}
)
