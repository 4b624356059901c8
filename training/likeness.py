"""How like the real images samples are, and how unlike each other: figures that need no trained network.

The sliced Wasserstein distance compares small patches at each level of a Laplacian pyramid: it falls as textures and
shapes come to match. The structural similarity of pairs tells how alike samples are among themselves: it rises, above
that of the real images, when a generator collapses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from training.draws import Stream, permutation, philox

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

LEAST_IMAGES = 4
PATCH_PX = 7
PATCHES = 64  # of each image, at each level
DIRECTIONS = 128
LEAST_SIDE_PX = 14  # of a pyramid's last level: 64, 32, 16; or 28, 14
PER_THOUSAND = 1000.0  # the paper gives distances times a thousand
ROUNDING_DEVIATION = 12**-0.5  # what rounding to whole grey levels alone makes

WINDOW_PX = 11
WINDOW_SIGMA_PX = 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
STABILISERS = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)

_DIRECTION, _PLACE, _PAIR = range(3)


class _Level(NamedTuple):
    """What is kept of one level of the real images' pyramid."""

    side_px: int
    places: npt.NDArray[np.int64]  # [2, N, PATCHES]: the rows and columns of patches' corners
    directions: Floats  # [DIRECTIONS, C * PATCH_PX ** 2]
    mean: Floats  # [C]
    deviation: Floats  # [C]
    projected: Floats  # [DIRECTIONS, N * PATCHES], sorted
    floor: float
    flat: float


class Yardstick:
    """Measures samples against a fixed set of real images.

    real: uint8[N, H, W, C], square, RGB or grey, N >= 4; 512 are enough for a curve.
    """

    def __init__(self, real: Images, seed: int) -> None:
        square = real.ndim == 4 and real.shape[1] == real.shape[2]
        if not square or real.shape[1] < LEAST_SIDE_PX or len(real) < LEAST_IMAGES:
            raise ValueError(
                f"real images have the shape {real.shape}; a yardstick takes {LEAST_IMAGES} or more square ones of "
                f"{LEAST_SIDE_PX} px or more as [N, H, W, C]"
            )
        self.shape, self.seed = real.shape, seed
        *finer, coarsest = laplacian_pyramid(real)
        self._levels = [*(self._level(band, last=False) for band in finer), self._level(coarsest, last=True)]
        self._pairs = permutation(len(real), philox(seed, Stream.LIKENESS, _PAIR))
        self._real = {
            "ms_ssim_real": self._similarity(real),
            "deviation_real": deviation(real),
            "swd_floor": float(np.mean([level.floor for level in self._levels])),
            "swd_flat": float(np.mean([level.flat for level in self._levels])),
        }

    def measure(self, fake: Images) -> dict[str, float]:
        """The figures of as many samples as there are real images.

        swd_64, swd_32, ...: sliced Wasserstein distance at each level, times 1,000; swd: their mean; swd_floor: the
        same between two halves of the real images, which samples as good as those would stay a little under, being
        more; swd_flat: the same of flat images of the mean colour; ms_ssim: how alike random pairs of samples are,
        0..1; deviation: of pixels over the samples, in grey levels; ms_ssim_real and
        deviation_real: of the real images.

        fake: uint8[N, H, W, C].

        Raises:
            ValueError: the shape is not the real images'.
        """
        if fake.shape != self.shape:
            raise ValueError(f"samples have the shape {fake.shape}, the real images {self.shape}; give as many, alike")
        bands = laplacian_pyramid(fake)
        distances = {
            f"swd_{level.side_px}": _distance(_project(band, level), level.projected)
            for level, band in zip(self._levels, bands, strict=True)
        }
        figures = {"swd": float(np.mean(list(distances.values()))), **distances}
        return figures | {"ms_ssim": self._similarity(fake), "deviation": deviation(fake)} | self._real

    def _similarity(self, images: Images) -> float:
        half = len(images) // 2
        return float(ms_ssim(images[self._pairs[:half]], images[self._pairs[half : 2 * half]]).mean())

    def _level(self, band: Floats, last: bool) -> _Level:
        images, side, _, channels = band.shape
        corners = np.random.Generator(philox(self.seed, Stream.LIKENESS, _PLACE, side))
        places = corners.integers(0, side - PATCH_PX + 1, (2, images, PATCHES))
        draw = np.random.Generator(philox(self.seed, Stream.LIKENESS, _DIRECTION, side))
        directions = draw.standard_normal((DIRECTIONS, channels * PATCH_PX**2))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        found = _patches(band, places)
        spread = np.maximum(found.std(axis=(0, 2), dtype=np.float64), ROUNDING_DEVIATION)
        level = _Level(
            side_px=side,
            places=places,
            directions=directions.astype(np.float32),
            mean=found.mean(axis=(0, 2), dtype=np.float64).astype(np.float32),
            deviation=spread.astype(np.float32),
            projected=np.empty((0, 0), np.float32),
            floor=0.0,
            flat=0.0,
        )
        projected = _project(band, level, in_order=False).reshape(DIRECTIONS, images, PATCHES)
        even, odd = (projected[:, first : images // 2 * 2 : 2].reshape(DIRECTIONS, -1) for first in (0, 1))
        floor = _distance(np.sort(even, axis=1), np.sort(odd, axis=1))
        level = level._replace(projected=np.sort(projected.reshape(DIRECTIONS, -1), axis=1), floor=floor)
        flat = np.zeros_like(band)
        flat += level.mean if last else 0.0  # the finer bands of a flat image are empty
        return level._replace(flat=_distance(_project(flat, level), level.projected))


def deviation(images: Images) -> float:
    """The deviation of each pixel over the images, in grey levels, as the mean over pixels: 0 when all are alike."""
    return float(images.reshape(len(images), -1).std(axis=0, dtype=np.float32).mean(dtype=np.float64))


def laplacian_pyramid(images: Images) -> list[Floats]:
    """Bands of detail, from the finest; the last is what remains.

    images: uint8[N, H, W, C] -> bands: float32[N, H / 2**i, W / 2**i, C].

    Source: Karras et al. 2018, appendix B; Burt and Adelson 1983.
    """
    bands, left = [], images.astype(np.float32)
    while left.shape[1] // 2 >= LEAST_SIDE_PX and left.shape[1] % 2 == 0:
        side = left.shape[1]
        smaller = _of_each(cv2.pyrDown, left, (side // 2, side // 2))
        bands.append(left - _of_each(cv2.pyrUp, smaller, (side, side)))
        left = smaller
    return [*bands, left]


def _of_each(change: Callable[..., Any], images: Floats, size: tuple[int, int]) -> Floats:
    out = np.empty((len(images), size[1], size[0], images.shape[3]), np.float32)
    for row, image in enumerate(images):
        out[row] = change(image, dstsize=size).reshape(out.shape[1:])
    return out


def _patches(band: Floats, places: npt.NDArray[np.int64]) -> Floats:
    """float32[N * PATCHES, C, PATCH_PX ** 2]: the patches at some places of each image."""
    windows = np.lib.stride_tricks.sliding_window_view(band, (PATCH_PX, PATCH_PX), axis=(1, 2))
    found = windows[np.arange(len(band))[:, None], places[0], places[1]]
    return np.asarray(found.reshape(-1, band.shape[3], PATCH_PX**2))


def _project(band: Floats, level: _Level, in_order: bool = True) -> Floats:
    """float32[DIRECTIONS, N * PATCHES]: each patch on each direction; in order of size for each direction.

    Departs: Karras et al. normalise each set by its own mean and deviation, which hides a wrong brightness or
    contrast; here samples are normalised as the real images are.
    """
    found = (_patches(band, level.places) - level.mean[:, None]) / level.deviation[:, None]
    projected: Floats = level.directions @ found.reshape(len(found), -1).T
    if in_order:
        projected.sort(axis=1)
    return projected


def _distance(first: Floats, second: Floats) -> float:
    """The mean over directions of the Wasserstein distance of two equally large sorted sets, times 1,000."""
    return float(np.abs(first - second).mean(dtype=np.float64)) * PER_THOUSAND


def ms_ssim(first: Images, second: Images) -> npt.NDArray[np.float64]:
    """The structural similarity of each pair at several scales: 1 for equal images, towards 0 for unlike ones.

    Grey images, or each colour by itself; negative means at a scale count as 0.

    first, second: uint8[N, H, W, C] -> float64[N].

    Source: Wang et al. 2003; of pairs of samples: Odena et al. 2017, section 4.2.
    Departs: of the five scales those that hold a window of 11 px, so 3 at 64 px and 2 at 32 and 28 px; their weights
    are scaled up to a sum of 1.
    """
    x, y = (images.astype(np.float64).transpose(0, 3, 1, 2) for images in (first, second))
    scales = 1
    while scales < len(SCALE_WEIGHTS) and x.shape[2] >> scales >= WINDOW_PX:
        scales += 1
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    product = np.ones(len(x))
    for scale, weight in enumerate(weights):
        luminance, structure = _ssim(x, y)
        last = scale == scales - 1
        mean = (luminance * structure if last else structure).mean(axis=(1, 2, 3))
        product *= np.maximum(mean, 0.0) ** weight
        if not last:
            x, y = _halved(x), _halved(y)
    return product


def _ssim(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The two factors of structural similarity at each place where the window fits: luminance; contrast, structure."""
    window = _window_matrix(x.shape[2])

    def mean(images: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(window @ images @ window.T)

    mean_x, mean_y = mean(x), mean(y)
    squares, product = mean_x**2 + mean_y**2, mean_x * mean_y
    variances, covariance = mean(x * x + y * y) - squares, mean(x * y) - product
    luminance = (2 * product + STABILISERS[0]) / (squares + STABILISERS[0])
    return luminance, (2 * covariance + STABILISERS[1]) / (variances + STABILISERS[1])


def _window_matrix(side_px: int) -> npt.NDArray[np.float64]:
    """[side - 10, side]: the Gaussian window, along one axis, at each place where it fits."""
    offsets = np.arange(WINDOW_PX) - WINDOW_PX // 2
    window = np.exp(-(offsets**2) / (2 * WINDOW_SIGMA_PX**2))
    places = side_px - WINDOW_PX + 1
    matrix = np.zeros((places, side_px))
    for place in range(places):
        matrix[place, place : place + WINDOW_PX] = window / window.sum()
    return matrix


def _halved(images: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means of 2x2 pixels; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in images.shape[2:])
    even = images[:, :, :height, :width]
    return np.asarray(
        (even[:, :, ::2, ::2] + even[:, :, 1::2, ::2] + even[:, :, ::2, 1::2] + even[:, :, 1::2, 1::2]) / 4
    )
