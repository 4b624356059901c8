"""The radius that sets itself: chances counted against brute force, and what they mean for more images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textures import every_nomination, frames, seen_of

from dedup.bands import MOST_RADIUS
from dedup.radius import (
    BEARABLE_WRONG,
    NOMINATIONS_PER_IMAGE,
    WIDEST_RADIUS,
    Chances,
    Choice,
    Found,
    choose,
    measure_chances,
)
from dedup.tail import ALIKE, LEAST_DECAY, MOST_DECAY, Tail
from dedup.verdict import Pairs, Seen, VerdictSettings, scores

JOINT, CODE = VerdictSettings(), VerdictSettings(rule="code")


def drawn_seen(seed: int, images: int) -> Seen:
    """Pictures of many sorts, some twice; codes that are nearer than those of different photos are."""
    rng = np.random.default_rng(seed)
    lumas = frames(range(80))[rng.integers(0, 80, images)]
    seen = seen_of(np.clip(lumas * rng.uniform(0.7, 1, (images, 1, 1)), 0, 255).astype(np.uint8))
    for codes in (seen.codes, seen.mirror_codes):
        codes[:] &= np.array([0xFF, 0xFF00F], np.uint64)
    return seen


@pytest.mark.parametrize("settings", [JOINT, CODE], ids=["joint", "code"])
def test_chances_agree_with_judging_every_pair(settings: VerdictSettings) -> None:
    seen = drawn_seen(0, 150)
    widest = WIDEST_RADIUS if settings.rule == "joint" else MOST_RADIUS
    alike = ALIKE - JOINT.correlation_min if settings.rule == "joint" else 0
    nearest: dict[tuple[int, int], int] = {}
    same: dict[tuple[int, int], set[bool]] = {}
    for first, second, distance, mirrored, view in every_nomination(settings, widest, seen, repeats=False)[0]:
        pair = min(first, second), max(first, second)
        judged = scores(JOINT, widest, one_pair(first, second, distance, mirrored, view), seen, seen)[0] >= alike
        if distance < nearest.get(pair, 999):
            nearest[pair], same[pair] = distance, set()
        if distance == nearest[pair]:
            same[pair].add(bool(judged))  # which of equally near hashes is looked at is not said
    surely = [nearest[pair] for pair, judged in same.items() if judged == {False}]
    perhaps = [nearest[pair] for pair, judged in same.items() if False in judged]
    assert any(True in judged for judged in same.values())
    chances = measure_chances(settings, seen, seed=0)
    assert (chances.pairs == 150 * 149 // 2).all()
    assert chances.nominated[widest] > 100
    for radius in range(MOST_RADIUS + 1):
        least, most = (sum(distance <= radius for distance in drawn) for drawn in (surely, perhaps))
        assert least <= chances.nominated[radius] <= most
        assert most <= least + 5
    if settings.rule == "code":
        assert chances.passing(widest, 0.85) == 1
    else:
        assert 0 < chances.passing(widest, 0.9) < chances.passing(widest, 0.85) < 0.05


def one_pair(first: int, second: int, distance: int, mirrored: bool, view: int) -> Pairs:
    pair = np.array([[first], [second], [distance], [mirrored], [view]])
    return Pairs(pair[0], pair[1], pair[2].astype(np.uint8), pair[3].astype(np.bool_), pair[4].astype(np.uint8))


def test_chances_are_those_of_the_seed_whatever_the_threads() -> None:
    seen = drawn_seen(1, 200)
    one, other, again = (measure_chances(JOINT, seen, seed, threads) for seed, threads in ((3, 1), (3, 2), (4, 1)))
    np.testing.assert_array_equal(one.nominated, other.nominated)
    assert one.tails == other.tails
    np.testing.assert_array_equal(one.nominated, again.nominated)  # fewer than are drawn, so all are looked at


def test_few_images_have_chances_too() -> None:
    for images in range(4):
        chances = measure_chances(JOINT, seen_of(frames(range(4))[:images]), seed=0)
        assert (chances.pairs == images * (images - 1) // 2).all()
        assert chances.nominated.tolist() == [0] * (MOST_RADIUS + 1)
        assert choose(JOINT, chances, images, nothing_found()) == Choice(WIDEST_RADIUS, JOINT.correlation_min)


def test_near_pairs_are_drawn_from_more_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = drawn_seen(2, 150)
    everything = measure_chances(JOINT, seen, seed=0)
    monkeypatch.setattr("dedup.radius._FAR_IMAGES", 75)
    monkeypatch.setattr("dedup.radius._NEAR_IMAGES", 150)
    split = measure_chances(JOINT, seen, seed=0)
    assert split.pairs.tolist() == [150 * 149 // 2] * 11 + [75 * 74 // 2] * 14
    np.testing.assert_array_equal(split.nominated[:11], everything.nominated[:11])
    far = split.nominated[WIDEST_RADIUS] / split.pairs[WIDEST_RADIUS]
    assert far == pytest.approx(everything.nominated[WIDEST_RADIUS] / everything.pairs[WIDEST_RADIUS], rel=0.3)


def nothing_found() -> Found:
    return Found(0, np.empty(0, np.float32), np.empty(0, np.uint8), np.empty(0, np.float32))


def growing(per_radius: list[int], pairs: int, share: float, decay: float) -> Chances:
    counts = np.cumsum(np.resize(per_radius, MOST_RADIUS + 1)).astype(np.int64)
    return Chances(np.full(MOST_RADIUS + 1, pairs), counts, (Tail(share, decay),) * len(counts), np.ones(len(counts)))


def planted(removals: int, joined: list[float], plants: list[tuple[int, float]]) -> Found:
    distance, correlation = zip(*plants, strict=True)
    return Found(
        removals, np.array(joined, np.float32), np.array(distance, np.uint8), np.array(correlation, np.float32)
    )


drawn_chances = st.builds(
    growing,
    st.lists(st.integers(0, 200), min_size=25, max_size=25),
    st.integers(1_000, 10_000_000),
    st.floats(1e-6, 1),
    st.floats(LEAST_DECAY, MOST_DECAY),
)
drawn_found = st.builds(
    planted,
    st.integers(0, 10**6),
    st.lists(st.floats(0.85, 1), max_size=50),
    st.lists(st.tuples(st.integers(0, 24), st.floats(0.5, 1)), min_size=1, max_size=50),
)
rules = st.sampled_from([JOINT, CODE])


@given(drawn_chances, rules, st.integers(2, 10**7), drawn_found)
def test_the_choice_finds_the_most_of_all_that_keep_the_share(
    chances: Chances, settings: VerdictSettings, images: int, found: Found
) -> None:
    def keeps(radius: int, border: float) -> bool:
        wrong = chances.wrong(radius, border, images)
        removed = found.removals + sum(each >= np.float32(border) for each in found.joined.tolist())
        bearable = settings.rule == "code" or chances.nominations(radius, images) <= NOMINATIONS_PER_IMAGE * images
        return bearable and (wrong <= BEARABLE_WRONG or wrong / (removed + wrong) <= settings.wrong_share_max)

    def finds(radius: int, border: float) -> int:
        looks = zip(found.planted_distance.tolist(), found.planted_correlation.tolist(), strict=True)
        return sum(distance <= radius and score >= border for distance, score in looks)

    if settings.rule == "code":
        chances = Chances(chances.pairs, chances.nominated, None, chances.times)
    widest = WIDEST_RADIUS if settings.rule == "joint" else MOST_RADIUS
    borders = [0.85 + step / 100 for step in range(14 if settings.rule == "joint" else 1)]
    keeping = [(radius, border) for border in borders for radius in range(widest + 1) if keeps(radius, border)]
    choice = choose(settings, chances, images, found)
    if not keeping:
        assert choice.radius == 0
        assert choice.border == pytest.approx(borders[-1])
        return
    assert keeps(choice.radius, choice.border)
    assert finds(choice.radius, choice.border) == max(finds(*pair) for pair in keeping)
    assert not any(keeps(larger, choice.border) for larger in range(choice.radius + 1, widest + 1))


@given(drawn_chances, st.integers(2, 10**7), st.integers(1, 1000), st.integers(0, 18), st.floats(0.85, 0.97))
def test_wrong_pairs_grow_with_images_and_radius_and_shrink_with_the_border(
    chances: Chances, images: int, times: int, radius: int, border: float
) -> None:
    wrong = chances.wrong(radius, border, images)
    assert 0 < wrong <= chances.wrong(radius, border, images * times)
    assert wrong <= chances.wrong(radius + 1, border, images)
    assert wrong >= chances.wrong(radius, border + 0.01, images)


def test_a_radius_that_is_set_stays() -> None:
    hopeless = growing([1000], 1000, 1.0, 1.0)
    for radius in (0, 7, MOST_RADIUS):
        assert choose(VerdictSettings(radius=radius), hopeless, 10**6, nothing_found()) == Choice(radius, 0.85)
    assert choose(JOINT, hopeless, 10**6, nothing_found()) == Choice(0, 0.98)
    assert choose(CODE, hopeless, 10**6, nothing_found()) == Choice(0, 0.85)


def test_a_higher_border_is_taken_where_it_lets_the_radius_be_wider() -> None:
    # Five different pictures within 9 bits, a hundred within 10, of a million pairs.
    counts = np.array([5] * 10 + [100] + [10**6] * 14)
    chances = Chances(np.full(25, 10**6), counts, (Tail(0.1, 0.15),) * 25, np.ones(25))
    far = planted(100, [0.86] * 400, [(10, 0.96)] * 9 + [(3, 0.86)])
    near = planted(100, [0.86] * 400, [(9, 0.86)] * 9 + [(10, 0.96)])
    assert choose(JOINT, chances, 20_000, far).radius == 10
    assert choose(JOINT, chances, 20_000, far).border > 0.86
    assert choose(JOINT, chances, 20_000, near) == Choice(9, 0.85)


def test_expected_pairs_by_hand() -> None:
    counts = np.arange(25, dtype=np.int64) * 10
    chances = Chances(np.full(25, 1_000_000), counts, None, np.ones(25))
    assert chances.nominations(5, 1001) == pytest.approx(500_500 * 50 / 1_000_000)
    # The upper 95 % limit of a Poisson count: 0 may be 3.00 and 50 may be 63.29.
    assert chances.wrong(0, 0.85, 1001) == pytest.approx(0.5005 * 2.9957, rel=1e-4)
    assert chances.wrong(5, 0.85, 1001) == pytest.approx(0.5005 * 63.29, rel=1e-3)
    assert chances.wrong(5, 0.85, 0) == chances.wrong(5, 0.85, 1) == 0
    # Each that was looked at stands for ten, so that the count is less sure.
    part = Chances(chances.pairs, counts, (Tail(0.5, 1.0),) * 25, np.full(25, 10.0))
    assert part.wrong(5, 0.85, 1001) == pytest.approx(0.5005 * 105.13 * part.passing(5, 0.85), rel=1e-3)
    nobody = Chances(np.zeros(25, np.int64), np.zeros(25, np.int64), None, np.ones(25))
    assert nobody.wrong(10, 0.85, 1) == nobody.nominations(10, 1) == 0
