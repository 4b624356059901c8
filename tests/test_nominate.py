"""Which pairs are nominated, against comparing all hashes with all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textures import Nominated, every_nomination, frames, seen_of

from dedup.nominate import nominate
from dedup.verdict import Pairs, Seen, VerdictSettings

RULES = {rule: VerdictSettings(rule=rule) for rule in ("joint", "code")}


def drawn_seen(seed: int, images: int) -> Seen:
    """Some pictures and near copies of them; hashes that repeat though the pictures differ."""
    rng = np.random.default_rng(seed)
    lumas = frames(range(12))[rng.integers(0, 12, images)]
    lumas = np.clip(lumas + rng.normal(0, rng.choice([0, 4, 12], (images, 1, 1)), lumas.shape), 0, 255).astype(np.uint8)
    turned = rng.random(images) < 0.3
    lumas[turned] = lumas[turned][:, :, ::-1]
    seen = seen_of(lumas)
    for codes in (seen.codes, seen.mirror_codes):
        codes[rng.integers(0, images, images // 3)] = codes[rng.integers(0, images, images // 3)]
    return seen


def found(
    settings: VerdictSettings, radius: int, left: Seen, right: Seen | None, threads: int = 1
) -> tuple[Nominated, Nominated]:
    straight: Nominated = []
    turned: Nominated = []
    for pairs, are_turned in nominate(settings, radius, left, right, threads):
        (turned if are_turned else straight).extend(rows_of(pairs))
    return sorted(straight), sorted(turned)


def rows_of(pairs: Pairs) -> Nominated:
    columns = (pairs.first, pairs.second, pairs.distance, pairs.mirrored, pairs.view)
    assert [column.dtype for column in columns] == [np.int64, np.int64, np.uint8, np.bool_, np.uint8]
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("radius", range(19))
def test_nominated_are_all_pairs_within_the_radius(rule: str, radius: int) -> None:
    left, right = drawn_seen(radius, 70), drawn_seen(100 + radius, 40)
    for others in (None, right):
        expected = every_nomination(RULES[rule], radius, left, others, repeats=False)
        assert found(RULES[rule], radius, left, others) == expected
        assert expected[0]
        if rule == "joint" and others is not None and radius >= 10:
            assert expected[1]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 40),
    others=st.none() | st.integers(1, 30),
    rule=st.sampled_from(sorted(RULES)),
    radius=st.integers(0, 24),
    threads=st.integers(1, 3),
)
def test_any_sets_and_any_number_of_threads(
    seed: int, images: int, others: int | None, rule: str, radius: int, threads: int
) -> None:
    left, right = drawn_seen(seed, images), None if others is None else drawn_seen(seed + 1, others)
    assert found(RULES[rule], radius, left, right, threads) == every_nomination(
        RULES[rule], radius, left, right, repeats=False
    )


def test_no_row_is_paired_with_itself() -> None:
    lumas = frames(range(20))
    lumas = (lumas // 2 + lumas[:, :, ::-1] // 2).astype(np.uint8)  # each its own mirror image, or nearly
    pairs = [some for some, _ in nominate(RULES["joint"], 24, seen_of(lumas))]
    assert sum(len(some) for some in pairs) > 0
    assert not any((some.first == some.second).any() for some in pairs)


def test_equal_hashes_of_different_pictures_are_all_paired() -> None:
    # Not only each with the first: the first may be judged another picture, and the others still be one.
    lumas = np.repeat(frames(range(1)), 5, axis=0)
    for row in range(5):
        lumas[row, row, :] = 255 - lumas[row, row, :]
    seen = seen_of(lumas)
    seen.codes[:] = seen.codes[0]
    first, second = np.triu_indices(5, 1)
    expected = set(zip(first.tolist(), second.tolist(), strict=True))
    nominated = [some for some, _ in nominate(RULES["joint"], 0, seen)]
    assert {pair[:2] for some in nominated for pair in rows_of(some)} == expected


def test_equal_thumbs_are_paired_with_the_first_alone() -> None:
    seen = seen_of(frames(range(2))[[0, 1, 0, 0]])
    seen.codes[:] = np.random.default_rng(0).integers(0, 2**64, (4, 2), np.uint64)
    seen.mirror_codes[:] = seen.codes[::-1] ^ np.uint64(2**64 - 1)
    nominated = [pair for some, _ in nominate(RULES["joint"], 4, seen) for pair in rows_of(some)]
    assert nominated == [(0, 2, 4, False, 0), (0, 3, 4, False, 0)]
    assert not any(len(some) for some, _ in nominate(RULES["joint"], 3, seen))


def test_nothing_is_nominated_of_nothing() -> None:
    nothing = seen_of(frames(range(2))).of(np.zeros(2, np.bool_))
    for right in (None, nothing, seen_of(frames(range(2)))):
        assert found(RULES["joint"], 18, nothing, right) == ([], [])
