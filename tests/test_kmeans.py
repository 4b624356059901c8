"""One-layer K-means features, against the plain formulas of their source."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch
from shard_fixture import draw_images

from training.evaluation.kmeans import KMeansSettings, PatchDictionary, fit_patches

SMALL = KMeansSettings(units=9, patches=500, iterations=4)
Wide = npt.NDArray[np.float64]


def _normalised(patches: Wide, contrast: float) -> Wide:
    centred = patches - patches.mean(1, keepdims=True)
    result: Wide = centred / np.sqrt(patches.var(1, ddof=1, keepdims=True) + contrast)
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_the_formulas(channels: int) -> None:
    images = draw_images(6)[:, :15, :14, :channels]
    fitted = fit_patches(images, SMALL, 0)
    found = fitted.features(images)
    assert found.shape == (6, 36)
    assert found.dtype == np.float32
    centroids, mean = fitted.centroids.numpy().astype(np.float64), fitted.mean.numpy().astype(np.float64)
    for image, features in zip(images, found, strict=True):
        summed = np.zeros((2, 2, 9))
        for top in range(10):
            for left in range(9):
                window = image[top : top + 6, left : left + 6].transpose(2, 0, 1).reshape(1, -1).astype(np.float64)
                white = (_normalised(window, 10.0) - mean) @ fitted.whitening.numpy()
                distance = np.sqrt(np.square(white - centroids).sum(1))
                summed[int(top >= 5), int(left >= 5)] += np.maximum(distance.mean() - distance, 0)
        np.testing.assert_allclose(features, summed.reshape(-1), rtol=1e-3, atol=2e-2)


def test_whitened_patches_have_equal_variances_where_they_had_any() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    fitted = fit_patches(noise, KMeansSettings(units=4, patches=20_000, iterations=1, whitening=1e-4), 0)
    patches = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (20_000, 108)).astype(np.float32))
    covariance = np.cov(fitted.whiten(patches).numpy().T.astype(np.float64))
    # A patch's mean is taken away, so one direction of the 108 is empty.
    values = np.linalg.eigvalsh(covariance)
    assert values[0] < 0.01
    assert values[1:].mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(values[1:], 1, atol=0.35)


def test_centroids_find_the_kinds_of_patches() -> None:
    """Pictures of two textures: patches of one are nearest to centroids that those of the other never choose."""
    stripes = np.tile(np.array([0, 0, 0, 255, 255, 255], np.uint8), (12, 4))[:, :12]
    images = np.stack([np.roll(stripes, k, 1) for k in range(6)] + [np.roll(stripes, k, 1).T for k in range(6)])
    fitted = fit_patches(images[..., None], KMeansSettings(units=12, patches=3000, iterations=10), 0)
    found = fitted.features(images[..., None]).reshape(12, 4, 12).sum(1)
    upright, level = found[:6].mean(0), found[6:].mean(0)
    assert (np.minimum(upright, level) < 0.2 * np.maximum(upright, level)).mean() > 0.7


def test_the_fit_gets_nearer_and_is_the_same_again() -> None:
    images, said = draw_images(30), list[str]()
    settings = KMeansSettings(units=20, patches=2000, iterations=8)
    one = fit_patches(images, settings, 5, said.append)
    distances = [float(line.rpartition(" ")[2]) for line in said]
    assert len(distances) == 8
    assert all(later <= earlier * 1.001 for earlier, later in pairwise(distances))
    assert torch.equal(one.centroids, fit_patches(images, settings, 5).centroids)
    assert not torch.equal(one.centroids, fit_patches(images, settings, 6).centroids)


def test_pictures_all_alike_leave_no_centroid_without_numbers() -> None:
    fitted = fit_patches(np.full((3, 8, 8, 1), 7, np.uint8), KMeansSettings(units=5, patches=50, iterations=3), 0)
    assert isinstance(fitted, PatchDictionary)
    found = fitted.features(np.full((2, 8, 8, 1), 9, np.uint8))
    np.testing.assert_array_equal(found, 0)
