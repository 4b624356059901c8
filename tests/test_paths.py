"""Paths between latent points: where they begin and end, how they run, and what is said of their vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.paths import interpolations, strays


def _points(seed: int, count: int = 4, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def test_lines_are_straight_and_end_in_the_points() -> None:
    points = _points(0, 5, 7)
    z = interpolations(points, 4)
    assert z.shape == (4, 4, 7)
    np.testing.assert_array_equal(z[:, 0], points[:-1])
    np.testing.assert_array_equal(z[:, -1], points[1:])
    np.testing.assert_allclose(z[2, 1], points[2] + (points[3] - points[2]) / 3, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 10_000), st.integers(3, 12))
def test_spherical_paths_turn_evenly_and_change_length_evenly(seed: int, columns: int) -> None:
    points = _points(seed)
    z = interpolations(points, columns, "spherical").astype(np.float64)
    np.testing.assert_array_equal(z[:, 0], points[:-1])
    np.testing.assert_array_equal(z[:, -1], points[1:])
    lengths = np.linalg.norm(z, axis=2)
    np.testing.assert_allclose(np.diff(lengths, 2, axis=1), 0, atol=1e-4)
    unit = z / lengths[..., None]
    angles = np.arccos(np.clip((unit[:, 1:] * unit[:, :-1]).sum(axis=2), -1, 1))
    np.testing.assert_allclose(angles, angles.mean(axis=1, keepdims=True) * np.ones_like(angles), atol=2e-3)
    whole = np.arccos(np.clip((unit[:, 0] * unit[:, -1]).sum(axis=1), -1, 1))
    np.testing.assert_allclose(angles.sum(axis=1), whole, atol=5e-3)  # the shorter way round, in one plane


def test_a_quarter_of_a_circle() -> None:
    z = interpolations(np.array([[2, 0], [0, 2]], np.float32), 3, "spherical")
    np.testing.assert_allclose(z[0, 1], [2**0.5, 2**0.5], rtol=1e-6)


@pytest.mark.parametrize("second", [[1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]])
def test_equal_opposite_and_zero_points_are_walked_between_too(second: list[float]) -> None:
    points = np.array([[1, 1], second], np.float32)
    np.testing.assert_allclose(
        interpolations(points, 5, "spherical")[0, [0, 4]], points
    )  # and no division by zero, which the tests would see
    assert np.isfinite(interpolations(points, 5, "spherical")).all()


def test_lines_shorten_in_the_middle_and_arcs_leave_the_cube() -> None:
    points = np.random.default_rng(1).uniform(-1, 1, (200, 100)).astype(np.float32)
    line = strays(interpolations(points, 9), points, "uniform")
    arc = strays(interpolations(points, 9, "spherical"), points, "uniform")
    assert line["length_in_the_middle"] == pytest.approx(0.5**0.5, abs=0.02)
    assert line["outside_the_cube"] == 0
    assert arc["length_in_the_middle"] == pytest.approx(1, abs=0.01)
    assert 0.01 < arc["outside_the_cube"] < 0.2
    assert strays(interpolations(points, 9), points, "normal")["outside_the_cube"] is None
