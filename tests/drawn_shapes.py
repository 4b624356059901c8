"""Coloured squares whose attributes are known, and generators of them: one linear in z, one scrambled."""

import numpy as np
import numpy.typing as npt

from training.draws import Stream, philox, random_z
from training.samples import Images

NAMES = ("big", "red", "pale")
SIDE_PX = 16
Z_DIM = 32
Floats = npt.NDArray[np.float32]


def draw_shapes(shows: npt.NDArray[np.bool_], place: Floats, seed: int = 0) -> Images:
    """A square each: big or small, red or blue, on a pale or dark ground with noise, from left to right by place.

    shows: bool[N, 3]; place: float32[N], -1..1 -> uint8[N, 16, 16, 3].
    """
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float64)
    images = draw.integers(0, 40, (len(shows), SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    for image, (big, red, pale), at in zip(images, shows, np.clip(place, -1, 1), strict=True):
        image += np.uint8(180 if pale else 40)
        away = np.maximum(np.abs(rows - 7.5), np.abs(columns - (7.5 + 2.5 * at)))
        image[away < (6 if big else 3)] = (230, 30, 30) if red else (30, 30, 230)
    return images


def known_shapes(count: int, seed: int = 0) -> tuple[Images, Floats]:
    """Shapes drawn by chance: uint8[N, 16, 16, 3], and what they show, float32[N, 3]."""
    draw = np.random.default_rng(seed)
    shows = draw.random((count, len(NAMES))) < 0.5
    return draw_shapes(shows, draw.uniform(-1, 1, count).astype(np.float32), seed), shows.astype(np.float32)


def linear_shapes(z: Floats) -> Images:
    """A shape has an attribute where its own coordinate of z is positive, and stands where another one says."""
    return draw_shapes(z[:, : len(NAMES)] > 0, z[:, len(NAMES)])


def scrambled_shapes(z: Floats) -> Images:
    """The same shapes, but what z leads to changes so fast and so unevenly that no mean of z tells anything."""
    uneven = 43758.5453 * np.sin(12.9898 * z.astype(np.float64))
    coins = (2 * (uneven - np.floor(uneven)) - 1).astype(np.float32)
    return draw_shapes(coins[:, : len(NAMES)] > 0, coins[:, len(NAMES)])


def shape_z(count: int, seed: int = 0) -> Floats:
    """z: float32[count, 32], uniform in -1..1."""
    return random_z(philox(seed, Stream.ARITHMETIC), count, Z_DIM, "uniform")
