"""The groups that follow from pairs, whom each group keeps, and sets that would make a slow or a giant one."""

from time import perf_counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from textures import canvas, every_nomination, frames, lumas_of, seen_of, taken, thumb

from dedup.groups import Grouping, Groups, find_groups, grouped, smallest_ids
from dedup.verdict import Pairs, Seen, VerdictSettings, closest_scores, scores

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]

JOINT = VerdictSettings()
RULES = {
    "joint": JOINT,
    "code": VerdictSettings(rule="code"),
    "component": VerdictSettings(grouping="component"),
}
_REACH_BITS = 32  # beyond it no member of a group is looked at again


def drawn_seen(seed: int, images: int) -> Seen:
    """Frames of a few canvases that overlap more or less, mirrored, lit, repeated, flat."""
    rng = np.random.default_rng(seed)
    lumas = np.empty((images, 32, 32), np.uint8)
    for row in range(images):
        right, below = rng.uniform(-0.2, 0.2, 2)
        scale = rng.uniform(0.8, 1.1)
        lumas[row] = thumb(taken(canvas(int(rng.integers(max(1, images // 6)))), 0, scale, scale, right, below))
    lit = np.clip(lumas * rng.uniform(0.7, 1.2, (images, 1, 1)), 0, 255).astype(np.uint8)
    mirrored = rng.random(images) < 0.3
    lit[mirrored] = lit[mirrored][:, :, ::-1]
    lit[rng.integers(0, images, images // 5)] = lit[rng.integers(0, images, images // 5)]
    seen = seen_of(lit, rng.random(images) < 0.1)
    # Some codes say nothing, or that two different pictures are one.
    odd = rng.integers(0, images, images // 5)
    seen.codes[odd] = rng.integers(0, 2**64, (len(odd), 2), np.uint64)
    seen.codes[odd[::2]] = seen.codes[0]
    return seen


def brute_groups(seen: Seen, verdict: VerdictSettings, radius: int, rank: Rows) -> list[int]:
    """The keeper of each image: all nominated pairs judged, then components, then stars."""
    order = np.argsort(rank)
    order = order[~seen.flat[order]]
    some = seen.of(order)
    linked: list[tuple[int, int]] = []
    nominated = np.array(every_nomination(verdict, radius, some)[0], np.int64).reshape(-1, 5).T
    first, second, distance, mirrored, view = nominated
    pairs = Pairs(first, second, distance.astype(np.uint8), mirrored.astype(np.bool_), view.astype(np.uint8))
    same = scores(verdict, radius, pairs, some, some) >= 0
    linked += zip(pairs.first[same].tolist(), pairs.second[same].tolist(), strict=True)
    first_like: dict[bytes, int] = {}
    for row in range(len(some)):
        look = some.codes[row].tobytes() + some.mirror_codes[row].tobytes() + lumas_of(some)[row].tobytes()
        linked.append((first_like.setdefault(look, row), row))
    both = np.array(linked, np.int64).reshape(-1, 2)
    links = coo_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(len(some), len(some)))
    trees, labels = connected_components(links, directed=False)
    keepers = np.arange(len(seen))
    for tree in range(trees):
        left = np.flatnonzero(labels == tree)
        while len(left):
            pairs, score = closest_scores(verdict, radius, some, some, np.full(len(left), left[0]), left)
            joins = (score >= 0) & (pairs.distance <= _REACH_BITS) if verdict.grouping == "star" else score >= -2
            joins[0] = True
            keepers[order[left[joins]]] = order[left[0]]
            left = left[~joins]
    return keepers.tolist()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 70),
    radius=st.integers(0, 24),
    kind=st.sampled_from(sorted(RULES)),
    threads=st.integers(1, 3),
)
def test_groups_agree_with_judging_every_pair(seed: int, images: int, radius: int, kind: str, threads: int) -> None:
    seen, verdict = drawn_seen(seed, images), RULES[kind]
    rank = np.random.default_rng(seed).permutation(images)
    groups = find_groups(seen, verdict, radius, rank, threads)
    assert groups.keepers.tolist() == brute_groups(seen, verdict, radius, rank)
    assert_consistent(groups, seen, verdict, radius, rank)


def assert_consistent(groups: Groups, seen: Seen, verdict: VerdictSettings, radius: int, rank: Rows) -> None:
    removed, keepers = groups.removed, groups.keepers
    np.testing.assert_array_equal(keepers[keepers], keepers)
    assert (rank[keepers[removed]] < rank[removed]).all()
    kept = np.setdiff1d(np.arange(len(seen)), removed)
    assert np.isposinf(groups.score[kept]).all()
    assert not groups.distance[kept].any()
    assert not groups.mirrored[kept].any()
    assert not np.isin(np.flatnonzero(seen.flat), grouped(keepers)).any()
    assert np.isfinite(groups.score[removed]).all()
    assert groups.judged <= groups.nominated
    pairs, score = closest_scores(verdict, radius, seen, seen, keepers[removed], removed)
    if verdict.grouping == "star":
        assert (groups.score[removed] >= 0).all()
        assert (score >= 0).all()  # each is itself the same as the image that is kept for it
        np.testing.assert_array_equal(groups.distance[removed], pairs.distance)
        another = (lumas_of(seen)[removed] != lumas_of(seen)[keepers[removed]]).any(axis=(1, 2)) | (
            verdict.rule == "code"
        )
        np.testing.assert_array_equal(groups.score[removed][another], score[another])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 60),
    radius=st.integers(0, 18),
    kind=st.sampled_from(sorted(RULES)),
)
def test_the_order_of_images_and_the_threads_change_nothing(seed: int, images: int, radius: int, kind: str) -> None:
    seen, rng = drawn_seen(seed, images), np.random.default_rng(seed)
    rank, moved = rng.permutation(images), rng.permutation(images)
    here = find_groups(seen, RULES[kind], radius, rank)
    there = find_groups(seen.of(moved), RULES[kind], radius, rank[moved], threads=3)
    np.testing.assert_array_equal(moved[there.keepers], here.keepers[moved])
    for name in ("distance", "score", "mirrored"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name)[moved])
    assert there.nominated == here.nominated


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 60), kind=st.sampled_from(sorted(RULES)))
def test_a_radius_reached_in_steps_gives_the_same_groups(seed: int, images: int, kind: str) -> None:
    seen, rank = drawn_seen(seed, images), np.random.default_rng(seed).permutation(images)
    at_once, in_steps = (Grouping(seen, RULES[kind], rank) for _ in range(2))
    in_steps.extend(8)
    few = len(in_steps.joined)
    in_steps.extend(16)
    at_once.extend(16)
    assert few <= len(in_steps.joined) == len(at_once.joined)
    assert (at_once.joined >= 0).all()
    one, other = at_once.groups(16), in_steps.groups(16)
    for name in ("keepers", "distance", "score", "mirrored"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    if kind == "component":
        assert len(one.removed) == at_once.repeats + len(at_once.joined)


def test_drawn_sets_have_groups_of_every_kind() -> None:
    # Else the properties above would hold of nothing.
    seen, rank = drawn_seen(1, 70), np.arange(70)
    stars, whole = find_groups(seen, JOINT, 16, rank), find_groups(seen, RULES["component"], 16, rank)
    assert len(whole.removed) > len(stars.removed) > 15
    assert stars.mirrored.any()
    assert (stars.distance[stars.removed] > 0).any()
    assert stars.judged < stars.nominated


def test_a_chain_is_one_group_only_as_a_component() -> None:
    # Frames that move over a canvas: each is the same as the next, the first and the last have little in common.
    steps = np.linspace(-0.24, 0.24, 9)
    lumas = np.stack([thumb(taken(canvas(3), right=step)) for step in steps])
    seen, rank = seen_of(lumas), np.arange(9)
    assert not find_groups(seen, RULES["component"], 18, rank).keepers.any()
    keepers = find_groups(seen, JOINT, 18, rank).keepers
    assert keepers[1] == 0
    assert keepers[8] != 0
    assert closest_scores(JOINT, 18, seen, seen, rank[:1], rank[8:])[1][0] < 0
    # The other way round the other end is kept.
    assert find_groups(seen, JOINT, 18, rank[::-1].copy()).keepers[8] == 8


def test_the_best_ranked_of_a_group_is_kept() -> None:
    pictures = frames(range(4))
    lumas = np.concatenate([pictures, np.clip(pictures * 0.8, 0, 255).astype(np.uint8), pictures[:, :, ::-1]])
    rank = np.array([5, 0, 7, 11, 4, 9, 8, 10, 6, 3, 1, 2])
    groups = find_groups(seen_of(lumas), JOINT, 12, rank)
    assert groups.keepers.tolist() == [4, 1, 10, 11, 4, 1, 10, 11, 4, 1, 10, 11]
    assert groups.mirrored.tolist() == [False, False, True, True, False, False, True, True, True, True, False, False]
    assert groups.removed.tolist() == [0, 2, 3, 5, 6, 7, 8, 9]
    assert (groups.score[groups.removed] >= 0.1).all()


@pytest.mark.parametrize("codes", ["equal", "different"])
@pytest.mark.parametrize("kind", ["joint", "component"])
def test_ten_thousand_copies_are_one_group(codes: str, kind: str) -> None:
    images = 10_000
    seen = seen_of(np.repeat(frames(range(1)), images, axis=0))
    if codes == "different":  # as of pictures whose colours differ
        seen.codes[:] = np.random.default_rng(0).integers(0, 2**64, (images, 2), np.uint64)
    rank = np.random.default_rng(1).permutation(images)
    started = perf_counter()
    groups = find_groups(seen, RULES[kind], 16, rank)
    assert perf_counter() - started < 30
    assert (groups.keepers == np.argmin(rank)).all()
    assert (groups.score[groups.removed] > 0.1).all()


def test_equal_codes_are_one_group_by_code_alone_whatever_the_pictures() -> None:
    seen = seen_of(np.random.default_rng(0).integers(0, 256, (3000, 32, 32), np.uint8))
    seen.codes[:] = 5
    groups = find_groups(seen, RULES["code"], 0, np.arange(3000)[::-1].copy())
    assert (groups.keepers == 2999).all()
    assert not groups.distance.any()


def test_ten_thousand_blank_images_are_no_group() -> None:
    levels = np.arange(10_000, dtype=np.int64) % 256
    lumas = np.broadcast_to(levels.astype(np.uint8)[:, None, None], (10_000, 32, 32)).copy()
    groups = find_groups(seen_of(lumas, np.ones(10_000, np.bool_)), JOINT, 18, np.arange(10_000))
    assert not len(groups.removed)
    assert groups.nominated == 0


@pytest.mark.parametrize("mark", ["dot", "line", "speck"])
def test_nearly_blank_images_are_no_giant_group_and_take_no_time(mark: str) -> None:
    rng, images = np.random.default_rng(0), 600
    lumas = np.repeat(rng.integers(100, 256, images).astype(np.uint8), 1024).reshape(images, 32, 32)
    for picture in lumas:
        y, x = rng.integers(0, 29, 2)
        if mark == "dot":
            picture[y : y + 3, x : x + 3] = 0
        elif mark == "line":
            picture[y, x - x % 8 : x - x % 8 + 8] = 0
        else:
            picture[y, x] -= 60
    started = perf_counter()
    groups = find_groups(seen_of(lumas), JOINT, 18, np.arange(images))
    assert perf_counter() - started < 20
    assert np.bincount(groups.keepers).max() < images / 4


def test_equal_hashes_of_different_pictures_are_not_chained() -> None:
    # 0 shows another picture than 1 and 2; had they been paired with it alone, 1 and 2 would not have been found.
    lumas = np.concatenate([frames(range(1)), frames(range(1, 2)), frames(range(1, 2), turn_deg=4)])
    seen = seen_of(lumas)
    seen.codes[:] = 5
    assert find_groups(seen, JOINT, 0, np.arange(3)).keepers.tolist() == [0, 1, 1]
    assert find_groups(seen, RULES["code"], 0, np.arange(3)).keepers.tolist() == [0, 0, 0]


def test_nobody_and_one_are_groups_of_their_own() -> None:
    for images in (0, 1):
        seen = seen_of(frames(range(1))).of(np.arange(images))
        groups = find_groups(seen, JOINT, 16, np.arange(images), threads=2)
        assert groups.keepers.tolist() == list(range(images))
        assert groups.removed.tolist() == []


def test_groups_are_named_by_their_smallest_id() -> None:
    keepers = np.array([1, 1, 1, 4, 4, 5, 7, 7])
    for kind in (np.str_, np.bytes_, object):
        ids = np.array(["c", "b", "a", "d", "e", "f", "h", "g"]).astype(kind)
        assert "".join(map(str, smallest_ids(keepers, ids).astype(np.str_))) == "aaaddfgg"
    assert grouped(keepers).tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert smallest_ids(np.arange(2), np.array(["b", "a"])).tolist() == ["b", "a"]


def test_rows_that_do_not_belong_together_are_refused() -> None:
    seen = seen_of(frames(range(3)))
    with pytest.raises(ValueError, match="from the same rows"):
        Seen(seen.codes, seen.mirror_codes, seen.lumas, seen.flat[:2])
    with pytest.raises(ValueError, match="from the same rows"):
        Seen(seen.codes, seen.mirror_codes, lumas_of(seen)[:, :31], seen.flat)
