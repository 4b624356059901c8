"""Sliced Wasserstein distance and multi-scale similarity, against loops and known values."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from training import likeness
from training.likeness import Yardstick, deviation, laplacian_pyramid, ms_ssim

Images = npt.NDArray[np.uint8]


def rooms(count: int, side_px: int = 32, channels: int = 3, seed: int = 0) -> Images:
    """Boxes of random colours before walls of random colours, a little noisy."""
    draw = np.random.default_rng(seed)
    images = np.empty((count, side_px, side_px, channels))
    for image in images:
        image[:] = draw.uniform(40, 220, channels)
        top, left = draw.integers(2, side_px // 2, 2)
        height, width = draw.integers(4, side_px // 2, 2)
        image[top : top + height, left : left + width] = draw.uniform(40, 220, channels)
    return np.clip(images + draw.normal(0, 4, images.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("side_px", "channels", "sides"),
    [(64, 3, [64, 32, 16]), (32, 3, [32, 16]), (28, 1, [28, 14]), (128, 3, [128, 64, 32, 16])],
)
def test_equal_sets_are_at_distance_zero_on_every_level(side_px: int, channels: int, sides: list[int]) -> None:
    real = rooms(8, side_px, channels)
    figures = Yardstick(real, 3).measure(real)
    assert [name for name in figures if name[:4] == "swd_" and name[4:].isdigit()] == [f"swd_{s}" for s in sides]
    assert all(figures[f"swd_{side}"] == 0 for side in sides)
    assert figures["swd"] == 0
    assert figures["ms_ssim"] == figures["ms_ssim_real"]
    assert figures["deviation"] == figures["deviation_real"]
    assert figures["swd_floor"] > 0


def test_the_distance_grows_as_images_are_blurred_brightened_or_made_noisy() -> None:
    real, fresh = rooms(128), rooms(128, seed=1)
    yardstick, draw = Yardstick(real, 0), np.random.default_rng(2)

    def blurred(sigma: float) -> Images:
        return np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in fresh])

    def noisy(strength: float) -> Images:
        return np.clip(fresh + draw.normal(0, strength, fresh.shape), 0, 255).astype(np.uint8)

    undisturbed = yardstick.measure(fresh)
    assert undisturbed["swd"] < 1.5 * undisturbed["swd_floor"]
    for change, strengths in (
        (blurred, (0.6, 1.0, 2.0)),
        (noisy, (8, 20, 50)),
        (lambda shift: fresh // 2 + shift, (64, 90, 120)),
    ):
        figures = [undisturbed, *(yardstick.measure(change(strength).astype(np.uint8)) for strength in strengths)]
        distances = [figure["swd"] for figure in figures]
        assert distances == sorted(distances)
        assert distances[1] > 1.1 * distances[0]
        assert distances[-1] > 1.5 * distances[1]


def test_blur_shows_on_the_fine_level_and_a_tint_on_the_coarse_one() -> None:
    real, fresh = rooms(128), rooms(128, seed=1)
    yardstick = Yardstick(real, 0)
    plain = yardstick.measure(fresh)
    blur = yardstick.measure(np.stack([cv2.GaussianBlur(image, (0, 0), 0.8) for image in fresh]))
    tint = yardstick.measure(np.clip(np.add(fresh, [40, 0, -40], dtype=int), 0, 255).astype(np.uint8))
    assert blur["swd_32"] > 2 * plain["swd_32"]
    assert blur["swd_16"] < 1.5 * plain["swd_16"]
    assert tint["swd_16"] > 2 * plain["swd_16"]
    assert tint["swd_32"] < 1.2 * plain["swd_32"]


def test_figures_repeat_and_hang_on_the_seed_not_on_threads() -> None:
    real, fake = rooms(64), rooms(64, seed=5)
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        first = Yardstick(real, 7).measure(fake)
        torch.set_num_threads(2)
        cv2.setNumThreads(2)
        assert Yardstick(real, 7).measure(fake) == pytest.approx(first, rel=1e-6)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
    assert Yardstick(real, 8).measure(fake)["swd"] != first["swd"]


def test_the_distance_is_that_of_a_loop_over_patches_and_directions() -> None:
    real, fake = rooms(6, 16), rooms(6, 16, seed=1)  # one level
    yardstick = Yardstick(real, 2)
    (level,) = yardstick._levels
    size = likeness.PATCH_PX

    def projected(images: Images, direction: npt.NDArray[np.float32]) -> list[float]:
        values = []
        for number, image in enumerate(images):
            for row, column in zip(*level.places[:, number], strict=True):
                patch = image[row : row + size, column : column + size].astype(float)
                values.append(float(((patch - mean) / spread).transpose(2, 0, 1).ravel() @ direction))
        return values

    patches = np.concatenate(
        [
            image[r : r + size, c : c + size].reshape(-1, 3)
            for n, image in enumerate(real)
            for r, c in zip(*level.places[:, n], strict=True)
        ]
    )
    mean, spread = patches.mean(axis=0), patches.std(axis=0)
    wanted = np.mean([wasserstein_distance(projected(real, d), projected(fake, d)) for d in level.directions])
    assert yardstick.measure(fake)["swd_16"] == pytest.approx(1000 * wanted, rel=1e-4)
    np.testing.assert_allclose(np.linalg.norm(level.directions, axis=1), 1, atol=1e-6)


def test_the_floor_is_the_distance_between_two_halves() -> None:
    half = rooms(16, 16)
    twins = np.repeat(half, 2, axis=0)  # even and odd images are alike; only the places of patches differ
    assert Yardstick(twins, 1).measure(twins)["swd_floor"] < Yardstick(rooms(32, 16), 1).measure(twins)["swd_floor"]


def test_flat_images_of_the_mean_colour_are_where_the_yardstick_says() -> None:
    real = rooms(64, 32)
    flat = np.empty_like(real)
    flat[:] = real.mean(axis=(0, 1, 2)).round()
    figures = Yardstick(real, 0).measure(flat)
    assert figures["swd"] == pytest.approx(figures["swd_flat"], rel=0.02)
    assert figures["swd_flat"] > 3 * figures["swd_floor"]


def test_the_pyramids_bands_add_up_to_the_images() -> None:
    images = rooms(3, 64)
    bands = laplacian_pyramid(images)
    left = bands.pop()
    while bands:
        band = bands.pop()
        left = band + np.stack([cv2.pyrUp(image) for image in left])
    np.testing.assert_allclose(left, images, atol=1e-3)


def loop_ms_ssim(x: Images, y: Images) -> float:
    """Of one grey pair, written as the paper's formulas stand."""
    a, b = x[:, :, 0].astype(float), y[:, :, 0].astype(float)
    around = np.arange(11) - 5
    window = np.exp(-(around[:, None] ** 2 + around**2) / (2 * 1.5**2))
    window /= window.sum()
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
    scales: list[tuple[float, float]] = []
    while min(a.shape) >= 11 and len(scales) < 5:
        luminances, structures = [], []
        for row in range(a.shape[0] - 10):
            for column in range(a.shape[1] - 10):
                p, q = a[row : row + 11, column : column + 11], b[row : row + 11, column : column + 11]
                mean_p, mean_q = (window * p).sum(), (window * q).sum()
                var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
                covariance = (window * (p - mean_p) * (q - mean_q)).sum()
                luminances.append((2 * mean_p * mean_q + 2.55**2) / (mean_p**2 + mean_q**2 + 2.55**2))
                structures.append((2 * covariance + 7.65**2) / (var_p + var_q + 7.65**2))
        scales.append((float(np.mean(structures)), float(np.mean(np.multiply(luminances, structures)))))
        a, b = (i.reshape(len(i) // 2, 2, len(i) // 2, 2).mean(axis=(1, 3)) for i in (a, b))
    total, result = sum(weights[: len(scales)]), 1.0
    for number, (structure, both) in enumerate(scales):
        figure = both if number == len(scales) - 1 else structure
        result *= max(figure, 0) ** (weights[number] / total)
    return float(result)


@pytest.mark.parametrize("side_px", [16, 28, 48])
def test_similarity_is_that_of_a_loop(side_px: int) -> None:
    x, y = rooms(4, side_px, 1), rooms(4, side_px, 1, seed=3)
    y[0] = x[0] // 2 + 30
    wanted = [loop_ms_ssim(*pair) for pair in zip(x, y, strict=True)]
    np.testing.assert_allclose(ms_ssim(x, y), wanted, atol=1e-6)
    assert wanted[0] > 0.5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side_px=st.sampled_from([14, 28, 32]), channels=st.sampled_from([1, 3]))
def test_similarity_is_symmetric_at_most_one_and_one_for_equal_images(seed: int, side_px: int, channels: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, 256, (2, 3, side_px, side_px, channels), dtype=np.uint8)
    np.testing.assert_array_equal(ms_ssim(x, x), 1)
    np.testing.assert_allclose(ms_ssim(x, y), ms_ssim(y, x), atol=1e-12)
    assert np.all(ms_ssim(x, y) <= 1)


def test_collapsed_samples_are_alike_and_have_no_deviation() -> None:
    real = rooms(32)
    yardstick = Yardstick(real, 0)
    figures = yardstick.measure(np.repeat(real[:1], 32, axis=0))
    assert figures["ms_ssim"] == 1
    assert figures["deviation"] == 0
    assert figures["ms_ssim_real"] < 0.8
    few = yardstick.measure(np.tile(real[:2], (16, 1, 1, 1)))
    assert figures["ms_ssim_real"] < few["ms_ssim"] <= 1


def test_deviation_is_of_each_pixel_over_the_images() -> None:
    images = np.zeros((4, 2, 2, 1), np.uint8)
    images[:2] = 20
    assert deviation(images) == 10


def test_flat_real_images_can_be_measured() -> None:
    flat = np.full((4, 16, 16, 1), 128, np.uint8)
    figures = Yardstick(flat, 0).measure(rooms(4, 16, 1))
    assert np.isfinite(list(figures.values())).all()
    assert figures["swd"] > 0


def test_what_cannot_be_measured_is_refused() -> None:
    real = rooms(8, 16)
    with pytest.raises(ValueError, match=r"samples have the shape \(4, 16, 16, 3\).*give as many"):
        Yardstick(real, 0).measure(real[:4])
    for wrong in (real[:3], real[:, :, :8], rooms(8, 12), real[0]):
        with pytest.raises(ValueError, match="a yardstick takes 4 or more"):
            Yardstick(wrong, 0)
