"""Two thumbs laid over each other: copies agree however they were changed, other pictures don't."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textures import canvas, frames, taken, thumb

from dedup.alignment import correlations
from dedup.changes import CHANGES, HARD_CHANGES, apply_change
from dedup.verdict import VerdictSettings
from manifests.perceptual import VIEWS, luma, thumbs

Pixels = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]

SEEDS = range(60)
SAME = VerdictSettings().correlation_min


def aligned(left: Pixels, right: Pixels, mirrored: bool = False, view: str = "whole") -> Scores:
    """The score of each thumb with that of the same number."""
    rows = np.arange(len(left))
    number = list(VIEWS).index(view)
    return correlations(left, right, rows, rows, np.full(len(rows), mirrored), np.full(len(rows), number, np.uint8))


def all_pairs(pictures: Pixels, mirrored: bool = False) -> Scores:
    first, second = np.triu_indices(len(pictures), 1)
    none = np.zeros(len(first), np.uint8)
    return correlations(pictures, pictures, first, second, np.full(len(first), mirrored), none)


def test_a_thumb_agrees_with_itself_as_far_as_can_be_sure() -> None:
    pictures = frames(SEEDS)
    assert aligned(pictures, pictures).min() >= 0.999
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32), np.uint8)
    assert aligned(noise, noise).min() >= 0.999


@pytest.mark.parametrize(
    "warp",
    [
        {"right": 0.05, "below": -0.04},
        {"right": -0.08},
        {"across": 0.9, "down": 0.9},
        {"across": 1.1, "down": 1.1},
        {"across": 0.87},
        {"turn_deg": 5},
        {"turn_deg": -5},
        {"turn_deg": 3, "across": 0.95, "down": 0.92, "right": 0.03},
    ],
)
def test_a_warped_copy_agrees_in_either_order(warp: dict[str, Any]) -> None:
    pictures, copies = frames(SEEDS), frames(SEEDS, **warp)
    there, back = aligned(pictures, copies), aligned(copies, pictures)
    assert min(there.min(), back.min()) >= 0.93
    assert np.abs(there - back).max() <= 0.05


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 40),
    turn_deg=st.floats(-5, 5),
    across=st.floats(0.92, 1.08),
    down=st.floats(0.92, 1.08),
    right=st.floats(-0.05, 0.05),
    below=st.floats(-0.05, 0.05),
    gain=st.floats(0.75, 1.2),
    mirrored=st.booleans(),
)
def test_warp_light_and_mirror_together_leave_a_copy_the_same(
    seed: int, turn_deg: float, across: float, down: float, right: float, below: float, gain: float, mirrored: bool
) -> None:
    picture = thumb(taken(canvas(seed)))[None]
    copy = taken(canvas(seed), turn_deg, across, down, right, below)
    copy = np.clip(np.rint(copy * gain + 10), 0, 255).astype(np.uint8)
    changed = thumb(copy)[None]
    if mirrored:
        changed = np.ascontiguousarray(changed[:, :, ::-1])
    assert aligned(picture, changed, mirrored)[0] >= SAME
    assert aligned(changed, picture, mirrored)[0] >= SAME


@pytest.mark.parametrize(("gain", "offset"), [(0.7, 20), (1.0, 40), (1.3, -30), (0.4, 90)])
def test_other_light_agrees(gain: float, offset: float) -> None:
    pictures = frames(SEEDS)
    lit = np.clip(np.rint(pictures * gain + offset), 0, 255).astype(np.uint8)
    assert aligned(pictures, lit).min() >= 0.95
    assert aligned(lit, pictures).min() >= 0.95


def test_a_negative_does_not_agree() -> None:
    pictures = frames(SEEDS)
    assert aligned(pictures, 255 - pictures).max() < SAME


def test_a_mirror_image_agrees_only_as_one() -> None:
    pictures = frames(SEEDS)
    mirrored = np.ascontiguousarray(pictures[:, :, ::-1])
    assert aligned(pictures, mirrored, mirrored=True).min() >= 0.999
    assert aligned(pictures, mirrored).max() < SAME
    assert aligned(pictures, pictures, mirrored=True).max() < SAME


def test_a_sticker_over_a_seventh_counts_only_where_it_is() -> None:
    pictures = frames(SEEDS)
    stickers = {"grey": np.full_like(pictures, 128), "bright": np.full_like(pictures, 220)}
    for name, sticker in {**stickers, "part of another": np.roll(pictures, 1, axis=0)}.items():
        stuck = pictures.copy()
        stuck[:, 4:16, 5:18] = sticker[:, 4:16, 5:18]  # 15 %
        scores = np.concatenate([aligned(pictures, stuck), aligned(stuck, pictures)])
        assert scores.min() >= SAME, name
        assert np.median(scores) >= 0.95, name


@pytest.mark.parametrize("change", sorted({*CHANGES, *HARD_CHANGES} - {"mirror"}))
def test_a_changed_copy_agrees(change: str) -> None:
    before, after = changed_thumbs(change)
    assert aligned(before, after).min() >= SAME
    assert aligned(after, before).min() >= SAME


def changed_thumbs(change: str) -> tuple[Pixels, Pixels]:
    pictures = [np.repeat(taken(canvas(seed))[..., None], 3, axis=2) for seed in SEEDS]
    changed = [apply_change(picture, change) for picture in pictures]
    before, after = (luma(np.stack([thumbs(image)[1] for image in images])) for images in (pictures, changed))
    return before, after


def test_different_pictures_don_t_agree() -> None:
    pictures = frames(range(150))
    assert all_pairs(pictures).max() < SAME - 0.1
    assert all_pairs(pictures, mirrored=True).max() < SAME - 0.1
    # Nor do those that have one half in common.
    halves = pictures.copy()
    halves[1::2, :, :16] = halves[::2, :, :16]
    assert np.quantile(aligned(halves[::2], halves[1::2]), 0.9) < SAME


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "whole"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_alignment_begins_at_the_view(view: str, mirrored: bool) -> None:
    # Four times as much cut off as the view has cut off: to be found, it has to be begun on the right side.
    left, top, right, bottom = (4 * part - 3 * all_ for part, all_ in zip(VIEWS[view], VIEWS["whole"], strict=True))
    wholes = frames(SEEDS)
    cut = frames(
        SEEDS, across=right - left, down=bottom - top, right=(left + right - 1) / 2, below=(top + bottom - 1) / 2
    )
    if mirrored:
        cut = np.ascontiguousarray(cut[:, :, ::-1])
    missed = {begin: np.mean(aligned(cut, wholes, mirrored, begin) < SAME) for begin in VIEWS}
    assert missed[view] <= 0.05
    assert all(missed[begin] > missed[view] for begin in VIEWS if begin != view)
    if view != "middle":
        assert missed["whole"] >= 0.2


def test_flat_thumbs_agree_with_nothing() -> None:
    levels = np.stack([np.full((32, 32), level, np.uint8) for level in (0, 1, 127, 255)])
    pictures = frames(range(4))
    for mirrored in (False, True):
        for view in VIEWS:
            for left, right in ((levels, levels), (levels, pictures), (pictures, levels)):
                assert aligned(left, right, mirrored, view).tolist() == [0, 0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(
    dots=st.lists(st.tuples(st.integers(0, 31), st.integers(0, 31), st.integers(0, 255)), max_size=6),
    others=st.lists(st.tuples(st.integers(0, 31), st.integers(0, 31), st.integers(0, 255)), max_size=6),
    level=st.integers(0, 255),
    view=st.sampled_from(sorted(VIEWS)),
)
def test_nearly_flat_thumbs_score_in_bounds(
    dots: list[tuple[int, int, int]], others: list[tuple[int, int, int]], level: int, view: str
) -> None:
    pictures = np.full((2, 32, 32), level, np.uint8)
    for picture, places in zip(pictures, (dots, others), strict=True):
        for y, x, value in places:
            picture[y, x] = value
    for score in (
        aligned(pictures[:1], pictures[1:], view=view)[0],
        aligned(pictures[1:], pictures[:1], True, view)[0],
    ):
        assert np.isfinite(score)
        assert -1.00001 <= score <= 1.00001


def test_read_only_arrays_of_two_sets_in_any_order() -> None:
    left, right = frames(range(20)), frames(range(30), turn_deg=4)
    first, second = (rows.ravel() for rows in np.meshgrid(np.arange(20), np.arange(30), indexing="ij"))
    mirrored = (first + second) % 2 == 1
    view = ((first + second) % len(VIEWS)).astype(np.uint8)
    scores = correlations(left, right, first, second, mirrored, view)
    for array in (left, right, first, second, mirrored, view):
        array.flags.writeable = False
    np.testing.assert_array_equal(correlations(left, right, first, second, mirrored, view), scores)
    own = (first == second) & ~mirrored
    assert scores[own].min() >= 0.8
    assert scores[first != second].max() < SAME
    order = np.random.default_rng(0).permutation(len(first))
    moved = correlations(left, right, first[order], second[order], mirrored[order], view[order])
    np.testing.assert_array_equal(moved, scores[order])  # a pair's score is its own
    assert correlations(left, right, first[:0], second[:0], mirrored[:0], view[:0]).shape == (0,)
