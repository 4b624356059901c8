"""Drawn faces: the same bytes every time, and pictures that show what their truth says."""

from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import perceptual
from pipelines.sources import face
from pipelines.sources.easel import Easel
from pipelines.sources.face import Face, FaceTruth, draw_face, face_truth
from pipelines.sources.head import MOST_YAW, Head

BINARY = ("smile", "glasses", "long_hair", "dark_skin", "dark_hair")


def painted(truth: FaceTruth, seed: int) -> npt.NDArray[np.int64]:
    """A face of this truth, all that is drawn by chance being the same for the same seed."""
    image = face._painted(truth, np.random.Generator(np.random.Philox(seed)), 128)
    return image.astype(np.int64)


def changed(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(one - other).max(axis=2) > 12)


def test_the_same_numbers_give_the_same_bytes() -> None:
    first, again = draw_face(7, 3), draw_face(7, 3)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.truth == again.truth == face_truth(7, 3)
    assert all(other.image.tobytes() != first.image.tobytes() for other in (draw_face(7, 4), draw_face(8, 3)))


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**9), st.sampled_from([16, 28, 32, 64, 100, 150]))
@settings(max_examples=40, deadline=None)
def test_any_face_is_drawn_at_any_size(seed: int, index: int, size_px: int) -> None:
    drawn = draw_face(seed, index, size_px)
    assert drawn.image.shape == (size_px, size_px, 3)
    assert drawn.image.dtype == np.uint8
    assert drawn.image.std() > 10
    assert -1 <= drawn.truth.pose <= 1


def test_too_small_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size_px=15 is too small to show a face; use 16 or more"):
        draw_face(0, 0, 15)


def test_a_face_is_the_same_at_another_size() -> None:
    for index in range(12):
        small, large = draw_face(1, index, 32), draw_face(1, index, 96)
        assert small.truth == large.truth
        reduced = cv2.resize(large.image, (32, 32), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(small.image.ravel(), reduced.ravel())[0, 1] > 0.97
        other = draw_face(1, index + 50, 32)
        assert np.corrcoef(small.image.ravel(), other.image.ravel())[0, 1] < 0.95


def test_attributes_are_drawn_independently_and_evenly() -> None:
    truths = [face_truth(11, index) for index in range(2000)]
    turned = [int(np.sign(truth.pose) * (abs(truth.pose) > 1 / 3)) for truth in truths]
    columns = {name: [int(getattr(truth, name)) for truth in truths] for name in BINARY} | {"turned": turned}
    for name, values in columns.items():
        counts = np.unique(values, return_counts=True)[1]
        assert len(counts) == (3 if name == "turned" else 2)
        assert (np.abs(counts - 2000 / len(counts)) < 5 * np.sqrt(2000 / 4)).all(), name
    for one, other in combinations(columns, 2):
        pairs = 3 * np.array(columns[one]) + np.array(columns[other]) % 3
        table = np.bincount(pairs, minlength=6).reshape(2, 3)
        expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
        chi_square = ((table - expected) ** 2 / np.maximum(expected, 1)).sum()
        assert chi_square < 24, (one, other)  # with 2 degrees of freedom, 1 in 160,000 tables by chance


def test_poses_and_mouths_leave_no_doubt() -> None:
    truths = [face_truth(12, index) for index in range(1000)]
    assert not any(0.25 < abs(truth.pose) < 0.4 for truth in truths)
    assert min(truth.mouth_curve for truth in truths if truth.smile) >= 0.12
    assert max(truth.mouth_curve for truth in truths if not truth.smile) < 0.03


@pytest.mark.parametrize("seed", range(6))
def test_glasses_are_around_the_eyes_and_turn_with_the_head(seed: int) -> None:
    """What glasses change lies between forehead and mouth; its middle goes from left to right as the pose does."""
    truth = replace(face_truth(seed, 0), glasses=False)
    places = []
    for pose in (-0.9, -0.4, 0.0, 0.4, 0.9):
        turned = replace(truth, pose=pose)
        rows, columns = np.nonzero(changed(painted(replace(turned, glasses=True), seed), painted(turned, seed)))
        assert len(rows) > 150
        assert rows.min() > 0.25 * 128
        assert rows.max() < 0.68 * 128
        places.append(np.median(columns))
    assert (np.diff(places) > 1).all(), places


@pytest.mark.parametrize("seed", range(6))
def test_a_curved_mouth_changes_the_mouth_alone(seed: int) -> None:
    truth = replace(face_truth(seed, 0), pose=0.0, smile=False)
    rows, columns = np.nonzero(
        changed(painted(replace(truth, mouth_curve=0.18), seed), painted(replace(truth, mouth_curve=0.0), seed))
    )
    assert len(rows) > 20
    assert rows.min() > 0.52 * 128
    assert rows.max() < 0.82 * 128
    assert columns.min() > 0.3 * 128
    assert columns.max() < 0.7 * 128


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    """A few hundred small ones."""
    return [draw_face(5, index, 32) for index in range(500)]


def test_the_truth_can_be_learnt_from_the_pictures(faces: list[Face]) -> None:
    """A linear function of 350 pictures' pixels tells the attributes of others; told at random it tells nothing."""
    pixels = np.stack([drawn.image for drawn in faces]).reshape(len(faces), -1) / 127.5
    named = [[getattr(drawn.truth, name) for name in BINARY] for drawn in faces]
    truth = np.array([[*row, drawn.truth.pose < -1 / 3] for row, drawn in zip(named, faces, strict=True)]) * 2.0 - 1
    by_chance = np.random.default_rng(0).permutation(truth)
    accuracy, control = (
        dict(zip((*BINARY, "turned_left"), _accuracy(pixels, known), strict=True)) for known in (truth, by_chance)
    )
    assert accuracy["dark_skin"] > 0.95
    assert accuracy["dark_hair"] > 0.95
    assert accuracy["long_hair"] > 0.9
    assert accuracy["turned_left"] > 0.9
    assert accuracy["glasses"] > 0.67
    assert accuracy["smile"] > 0.67
    assert max(control[name] for name in BINARY) < 0.65


def _accuracy(pixels: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> list[float]:
    """Of ridge regression on the first 350 pictures, on the others."""
    seen, mean = pixels[:350] - pixels[:350].mean(0), pixels[:350].mean(0)
    weights = seen.T @ np.linalg.solve(seen @ seen.T + 30 * np.eye(350), truth[:350] - truth[:350].mean(0))
    told = (pixels[350:] - mean) @ weights
    shares: list[float] = ((told > 0) == (truth[350:] > 0)).mean(axis=0).tolist()
    return shares


def test_few_faces_have_the_hash_of_another(faces: list[Face]) -> None:
    thumbs = np.stack([perceptual.thumbs(drawn.image)[1] for drawn in faces])
    straight, _ = perceptual.phashes(perceptual.luma(thumbs))
    distance = np.bitwise_count(straight[:, None] ^ straight[None, :])
    assert (distance[np.triu_indices(len(faces), 1)] == 0).mean() < 1e-4


def head(yaw: float) -> Head:
    return Head(middle=(64.0, 64.0), unit_px=40.0, yaw=yaw, roll=0.0, width=0.72, jaw=2.5)


@given(st.floats(-MOST_YAW, MOST_YAW), st.floats(-np.pi, np.pi), st.floats(-0.95, 0.95))
def test_what_is_on_a_head_shows_inside_its_outline(yaw: float, angle: float, y: float) -> None:
    turned = head(yaw)
    ((x, down),) = turned.around(angle, y)
    left, right = turned.edges(np.array([y]))
    assert 64 + 40 * left[0] - 0.2 <= x <= 64 + 40 * right[0] + 0.2
    assert down == pytest.approx(64 + 40 * y)


@given(st.floats(0.05, MOST_YAW), st.floats(-0.5, 0.8))
def test_a_turned_head_mirrors_one_turned_the_other_way(yaw: float, y: float) -> None:
    across = np.array([-0.4, -0.1, 0.0, 0.3])
    right, left = head(yaw).at(across, y, 0.1), head(-yaw).at(-across, y, 0.1)
    np.testing.assert_allclose(right[:, 0] - 64, 64 - left[:, 0], atol=1e-6)
    assert right[2, 0] > 64 + 30 * np.sin(yaw)  # the nose's side


def test_light_from_a_side_lights_that_side() -> None:
    for direction in (-1.0, 1.0):
        facing = head(0.3).light(128, (0.6 * direction, 0.0, 0.8))
        lit, dark = facing[16, 20], facing[16, 12]
        assert (lit - dark) * direction > 0.05
        assert np.abs(facing).max() <= 1.0001


def test_soft_tints_stay_where_they_are_allowed() -> None:
    easel = Easel(40, 10.0)
    square = np.array([[10.0, 10.0], [30, 10], [30, 30], [10, 30]])
    within = easel.mask(square - [0, 10])
    easel.soft(square, (200, 100, 50), 1.0, 0.1, within)
    assert easel.image[15, 20].tolist() == pytest.approx([200, 100, 50], abs=12)
    assert not easel.image[23:].any()
    easel.soft(square + 500, (200, 100, 50), 1.0, 0.2)  # off the easel: nothing to paint
