"""Which images count as the same, the groups that follow, and whom each group keeps."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.groups import choose_keepers, components, find_groups, grouped, merge, smallest_ids
from dedup.verdict import Seen, VerdictSettings, look_distance, looks, same

Rows = npt.NDArray[np.int64]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, Rows, Rows]:
    images = draw(st.integers(1, 25))
    pairs = draw(st.lists(st.tuples(st.integers(0, images - 1), st.integers(0, images - 1)), max_size=30))
    rows = np.array(pairs, np.int64).reshape(-1, 2)
    return images, rows[:, 0], rows[:, 1]


def spread_labels(images: int, first: Rows, second: Rows) -> list[int]:
    """Each row takes the smaller label of a pair, until nothing changes."""
    labels = list(range(images))
    for _ in range(images):
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            labels[a] = labels[b] = min(labels[a], labels[b])
    return labels


@given(graphs())
def test_components_agree_with_spreading_labels(graph: tuple[int, Rows, Rows]) -> None:
    images, first, second = graph
    assert components(images, first, second).tolist() == spread_labels(images, first, second)


@given(graphs(), st.integers(0, 30))
def test_pairs_can_come_in_any_order_and_in_parts(graph: tuple[int, Rows, Rows], cut: int) -> None:
    images, first, second = graph
    at_once = components(images, first, second)
    parts = merge(components(images, second[cut:], first[cut:]), first[:cut], second[:cut])
    np.testing.assert_array_equal(parts, at_once)


def drawn_seen(seed: int, images: int) -> Seen:
    """Codes and looks in clusters, some equal in one and not in the other, some flat, some wholly repeated."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, (max(1, images // 5), 4), np.uint64)
    rows = centres[rng.integers(0, len(centres), images)]
    for _ in range(9):
        turned = rng.random((images, 4)) < 0.3
        rows ^= np.where(turned, np.uint64(1) << rng.integers(0, 64, (images, 4)).astype(np.uint64), np.uint64(0))
    repeats = rng.integers(0, images, images // 4)
    rows[repeats] = rows[rng.integers(0, images, images // 4)]
    rows[repeats[::2], :2] = rows[0, :2]
    return Seen(rows[:, :2].copy(), rows[:, 2:].copy(), rng.random(images) < 0.1)


def brute_labels(seen: Seen, verdict: VerdictSettings) -> tuple[list[int], int]:
    first, second = np.triu_indices(len(seen), 1)
    distance = np.bitwise_count(seen.codes[first] ^ seen.codes[second]).sum(axis=1).astype(np.uint8)
    agreed = same(verdict, distance, seen.looks[first], seen.looks[second]) & ~seen.flat[first] & ~seen.flat[second]
    return spread_labels(len(seen), first[agreed], second[agreed]), int(agreed.sum())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 70),
    radius=st.integers(0, 24),
    phash_max=st.none() | st.integers(0, 20),
)
def test_groups_agree_with_judging_every_pair(seed: int, images: int, radius: int, phash_max: int | None) -> None:
    seen, verdict = drawn_seen(seed, images), VerdictSettings(radius=radius, phash_max=phash_max)
    groups = find_groups(seen, verdict)
    labels, pairs = brute_labels(seen, verdict)
    assert groups.labels.tolist() == labels
    assert groups.pairs <= pairs  # repeats are chained
    assert (groups.pairs == 0) == (pairs == 0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 60))
def test_the_order_of_rows_changes_neither_groups_nor_keepers(seed: int, images: int) -> None:
    seen = drawn_seen(seed, images)
    rng = np.random.default_rng(seed)
    width, height, size_bytes = rng.integers(1, 4, (3, images))
    ids = np.array([f"{number:064x}" for number in rng.permutation(images)])

    def kept(order: Rows) -> dict[str, tuple[str, str]]:
        labels = find_groups(seen.of(order), VerdictSettings()).labels
        keepers = choose_keepers(labels, width[order], height[order], size_bytes[order], ids[order])
        names = ids[order]
        return dict(
            zip(
                names.tolist(),
                zip(smallest_ids(labels, names).tolist(), names[keepers].tolist(), strict=True),
                strict=True,
            )
        )

    assert kept(np.arange(images)) == kept(rng.permutation(images))


def test_ten_thousand_equal_codes_are_one_group() -> None:
    looks_of = np.zeros((10_000, 2), np.uint64)
    seen = Seen(np.ones((10_000, 2), np.uint64), looks_of, np.zeros(10_000, np.bool_))
    groups = find_groups(seen, VerdictSettings())
    assert groups.pairs == 9_999
    assert not groups.labels.any()


def test_equal_codes_whose_pictures_differ_stay_apart() -> None:
    # 0 and 2 look alike, 1 does not; chaining by code alone would have joined all three.
    seen = Seen(
        np.ones((3, 2), np.uint64), np.array([[0, 0], [2**64 - 2] * 2, [1, 0]], np.uint64), np.zeros(3, np.bool_)
    )
    assert find_groups(seen, VerdictSettings(radius=0)).labels.tolist() == [0, 1, 0]
    assert find_groups(seen, VerdictSettings(radius=0, phash_max=None)).labels.tolist() == [0, 0, 0]


def test_flat_images_are_never_the_same() -> None:
    seen = Seen(np.zeros((4, 2), np.uint64), np.zeros((4, 2), np.uint64), np.array([False, True, True, False]))
    assert find_groups(seen, VerdictSettings()).labels.tolist() == [0, 1, 2, 0]


def test_the_verdict_asks_both_hashes() -> None:
    distance = np.array([14, 15, 14, 14], np.uint8)
    blank = np.zeros((4, 2), np.uint64)
    others = np.array([[0, 0], [0, 0], [2**12 - 1] * 2, [2**13 - 1] * 2], np.uint64)
    verdict = VerdictSettings(radius=14, phash_max=12)
    assert same(verdict, distance, blank, others).tolist() == [True, False, True, False]
    assert same(verdict, distance, others, blank).tolist() == [True, False, True, False]
    assert same(VerdictSettings(radius=14, phash_max=None), distance, blank, others).tolist() == [
        True,
        False,
        True,
        True,
    ]


def test_a_mirror_image_looks_the_same() -> None:
    phash, mirror = np.array([0x0F0F], np.uint64), np.array([0xABCDEF], np.uint64)
    ours, theirs = looks(phash, mirror), looks(mirror, phash)
    assert look_distance(ours, theirs).tolist() == [0]
    assert look_distance(ours, looks(phash ^ np.uint64(7), mirror ^ np.uint64(1))).tolist() == [1]


def test_the_keeper_is_the_largest_then_the_heaviest_then_the_first_by_id() -> None:
    labels = np.array([0, 0, 0, 3, 3, 5, 6, 6])
    width = np.array([100, 50, 10, 8, 4, 1, 7, 7], np.int32)
    height = np.array([10, 50, 30, 8, 16, 1, 7, 7], np.int32)
    size_bytes = np.array([900, 1, 900, 5, 6, 1, 2, 2])
    ids = np.array(["a", "b", "c", "d", "e", "f", "h", "g"])
    assert choose_keepers(labels, width, height, size_bytes, ids).tolist() == [1, 1, 1, 4, 4, 5, 7, 7]
    assert smallest_ids(labels, ids).tolist() == ["a", "a", "a", "d", "d", "f", "g", "g"]
    assert grouped(labels).tolist() == [0, 1, 2, 3, 4, 6, 7]


def test_areas_beyond_32_bits_are_compared_whole() -> None:
    labels = np.array([0, 0])
    width = np.array([70_000, 60_000], np.int32)
    keepers = choose_keepers(labels, width, width, np.array([1, 2]), np.array(["a", "b"], object))
    assert keepers.tolist() == [0, 0]


def test_rows_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="from the same rows"):
        Seen(np.zeros((3, 2), np.uint64), np.zeros((2, 2), np.uint64), np.zeros(3, np.bool_))
