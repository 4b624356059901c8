"""The verdict on pairs: what the hashes of a pair say at best, and when the pair counts as the same picture."""

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError
from textures import canvas, every_nomination, frames, lumas_of, seen_of, taken, thumb

from dedup.alignment import correlations
from dedup.verdict import PHASH_HANDICAP, Pairs, Seen, VerdictSettings, closest, closest_scores, scores
from manifests.perceptual import VIEWS, phashes

JOINT, CODE = VerdictSettings(), VerdictSettings(rule="code")


def drawn_seen(seed: int, images: int) -> Seen:
    rng = np.random.default_rng(seed)
    scales, places = rng.uniform(0.85, 1.05, images), rng.uniform(-0.06, 0.06, (images, 2))
    lumas = np.stack(
        [
            thumb(taken(canvas(int(rng.integers(15))), 0, scale, scale, right, below))
            for scale, (right, below) in zip(scales, places, strict=True)
        ]
    )
    mirrored = rng.random(images) < 0.4
    lumas[mirrored] = lumas[mirrored][:, :, ::-1]
    return seen_of(lumas)


@pytest.mark.parametrize("settings", [JOINT, CODE], ids=["joint", "code"])
def test_closest_is_the_nearest_of_all_nominations(settings: VerdictSettings) -> None:
    left, right = drawn_seen(0, 40), drawn_seen(1, 30)
    first, second = (rows.ravel() for rows in np.meshgrid(np.arange(40), np.arange(30), indexing="ij"))
    straight, turned_round = every_nomination(settings, 200, left, right)
    nearest: dict[tuple[int, int], int] = {}
    for one, other, distance, _, _ in straight:
        nearest[one, other] = min(distance, nearest.get((one, other), 999))
    for one, other, distance, _, _ in turned_round:
        nearest[other, one] = min(distance, nearest.get((other, one), 999))
    pairs, turned = closest(settings, left, right, first, second)
    assert pairs.distance.tolist() == [nearest[pair] for pair in zip(first.tolist(), second.tolist(), strict=True)]
    # And it is by the hash it names that they are as near.
    around = turned == 1
    assert around.any() == (settings.rule == "joint")
    named = set(straight), set(turned_round)
    columns = (pairs.first, pairs.second, pairs.distance, pairs.mirrored, pairs.view)
    for pair, is_turned in zip(zip(*(c.tolist() for c in columns), strict=True), turned.tolist(), strict=True):
        assert pair in named[is_turned]
    np.testing.assert_array_equal(np.where(around, pairs.second, pairs.first), first)
    np.testing.assert_array_equal(np.where(around, pairs.first, pairs.second), second)


def test_a_joint_score_is_what_alignment_leaves_over_the_border() -> None:
    left, right = drawn_seen(2, 30), drawn_seen(3, 30)
    rows = np.arange(30)
    pairs, turned = closest(JOINT, left, right, rows, rows)
    for border in (0.5, 0.9):
        settings = VerdictSettings(correlation_min=border)
        again, found = closest_scores(settings, 16, left, right, rows, rows)
        np.testing.assert_array_equal(again.distance, pairs.distance)
        for turn, (one, other) in enumerate(((left, right), (right, left))):
            some = pairs.of(turned == turn)
            plain = correlations(lumas_of(one), lumas_of(other), some.first, some.second, some.mirrored, some.view)
            np.testing.assert_allclose(found[turned == turn], plain - border, atol=1e-6)
            np.testing.assert_array_equal(scores(settings, 3, some, one, other), found[turned == turn])


def test_a_code_score_is_the_bits_left() -> None:
    seen = seen_of(frames(range(4)))
    seen.codes[:] = 0
    seen.codes[1, 1], seen.codes[2, 0] = 2**14 - 1, 2**15 - 1
    rows = np.array([1, 2, 3])
    pairs, found = closest_scores(CODE, 14, seen, seen, np.zeros(3, np.int64), rows)
    assert pairs.distance.tolist() == [14, 15, 0]
    assert found.tolist() == [0, -1, 14]
    assert not pairs.mirrored.any()


def test_pairs_out_of_reach_are_not_looked_at() -> None:
    seen = seen_of(np.repeat(frames(range(1)), 2, axis=0))
    first, second = np.array([0]), np.array([1])
    assert closest_scores(JOINT, 16, seen, seen, first, second, reach_bits=0)[1][0] > 0
    seen.codes[1], seen.mirror_codes[1] = ~seen.codes[1], ~seen.mirror_codes[1]
    pairs, score = closest_scores(JOINT, 16, seen, seen, first, second, reach_bits=PHASH_HANDICAP - 1)
    assert pairs.distance.tolist() == [PHASH_HANDICAP]
    assert score.tolist() == [-1]
    assert closest_scores(JOINT, 16, seen, seen, first, second, reach_bits=PHASH_HANDICAP)[1][0] > 0


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("view", sorted(VIEWS))
def test_a_copy_of_a_view_is_the_same_in_either_order(view: str, mirrored: bool) -> None:
    left, top, right, bottom = VIEWS[view]
    wholes = frames(range(40))
    cut = frames(
        range(40), across=right - left, down=bottom - top, right=(left + right - 1) / 2, below=(top + bottom - 1) / 2
    )
    ours, theirs = seen_of(wholes), seen_of(cut[:, :, ::-1] if mirrored else cut)
    rows = np.arange(40)
    for one, other in ((ours, theirs), (theirs, ours)):
        pairs, score = closest_scores(JOINT, 16, one, other, rows, rows)
        assert (score >= 0).all()
        assert (pairs.mirrored == mirrored).all()
        assert np.mean(pairs.distance <= 12) >= 0.95
        _, apart = closest_scores(JOINT, 16, one, other, rows, np.roll(rows, 1))
        assert (apart < 0).all()


def test_hashes_of_views_are_those_of_the_thumbs() -> None:
    seen = drawn_seen(4, 5)
    assert seen.views.shape == (len(VIEWS), 2, 5)
    for number, view in enumerate(VIEWS):
        np.testing.assert_array_equal(seen.views[number], np.stack(phashes(lumas_of(seen), view)))


def test_fingerprints_are_equal_where_thumbs_are() -> None:
    rng = np.random.default_rng(0)
    lumas = np.repeat(rng.integers(0, 256, (4, 32, 32), np.uint8), 600, axis=0)
    rows = np.arange(len(lumas))
    lumas[rows, rng.integers(0, 32, len(rows)), rng.integers(0, 32, len(rows))] ^= 1  # some of them alike still
    blank = np.zeros((3, 32, 32), np.uint8)
    blank[1, 31, 31] = 1
    lumas = np.concatenate([lumas, blank, np.zeros((1, 32, 32), np.uint8)])
    prints = seen_of(lumas).fingerprints
    assert len(np.unique(prints, axis=0)) == len({luma.tobytes() for luma in lumas}) < len(lumas)
    alike: dict[bytes, npt.NDArray[np.uint64]] = {}
    for luma, fingerprint in zip(lumas, prints, strict=True):
        assert (alike.setdefault(luma.tobytes(), fingerprint) == fingerprint).all()


def test_some_rows_by_number_or_mask() -> None:
    seen = drawn_seen(5, 6)
    mask = np.array([False, True, False, True, True, False])
    by_mask, by_number = seen.of(mask), seen.of(np.array([1, 3, 4]))
    assert len(by_mask) == len(by_number) == 3
    for name in ("codes", "mirror_codes", "lumas", "flat", "views"):
        np.testing.assert_array_equal(getattr(by_mask, name), getattr(by_number, name))
    none = np.zeros(0, np.int64)
    pairs = Pairs(none, none, none.astype(np.uint8), none.astype(np.bool_), none.astype(np.uint8))
    assert len(pairs) == len(scores(JOINT, 16, pairs, seen, seen)) == 0
    assert len(closest_scores(JOINT, 16, seen, seen, none, none)[1]) == 0


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"radius": 25}, {"radius": -1}, {"radius": "widest"}, {"correlation_min": 1.0}, {"phash_max": 12}):
        with pytest.raises(ValidationError):
            VerdictSettings.model_validate(wrong)
    assert VerdictSettings.model_validate({"radius": 0, "rule": "code"}).radius == 0
