"""The radius that sets itself: chances counted against brute force, and what they mean for more images."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from textures import every_nomination, frames, seen_of

from dedup.bands import MOST_RADIUS
from dedup.radius import (
    BEARABLE_WRONG,
    NOMINATIONS_PER_IMAGE,
    WIDEST_RADIUS,
    Chances,
    choose_radius,
    measure_chances,
    passing_limit,
)
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
    nearest: dict[tuple[int, int], int] = {}
    same: dict[tuple[int, int], set[bool]] = {}
    for first, second, distance, mirrored, view in every_nomination(settings, widest, seen, repeats=False)[0]:
        pair = min(first, second), max(first, second)
        judged = scores(JOINT, widest, one_pair(first, second, distance, mirrored, view), seen, seen)[0] >= 0
        if distance < nearest.get(pair, 999):
            nearest[pair], same[pair] = distance, set()
        if distance == nearest[pair]:
            same[pair].add(bool(judged))  # which of equally near hashes is looked at is not said
    surely = [nearest[pair] for pair, judged in same.items() if judged == {False}]
    perhaps = [nearest[pair] for pair, judged in same.items() if False in judged]
    assert any(True in judged for judged in same.values())
    chances = measure_chances(settings, seen, seed=0)
    assert chances.pairs == 150 * 149 // 2
    assert chances.nominated[widest] > 100
    for radius in range(MOST_RADIUS + 1):
        least, most = (sum(distance <= radius for distance in drawn) for drawn in (surely, perhaps))
        assert least <= chances.nominated[radius] <= most
        assert most <= least + 5
    if settings.rule == "code":
        assert chances.passing == 1
    else:
        assert 0 < chances.passing < 0.05


def one_pair(first: int, second: int, distance: int, mirrored: bool, view: int) -> Pairs:
    pair = np.array([[first], [second], [distance], [mirrored], [view]])
    return Pairs(pair[0], pair[1], pair[2].astype(np.uint8), pair[3].astype(np.bool_), pair[4].astype(np.uint8))


def test_chances_are_those_of_the_seed_whatever_the_threads() -> None:
    seen = drawn_seen(1, 200)
    one, other, again = (measure_chances(JOINT, seen, seed, threads) for seed, threads in ((3, 1), (3, 2), (4, 1)))
    np.testing.assert_array_equal(one.nominated, other.nominated)
    assert one.passing == other.passing
    np.testing.assert_array_equal(one.nominated, again.nominated)  # fewer than are drawn, so all are looked at


def test_few_images_have_chances_too() -> None:
    for images in range(4):
        chances = measure_chances(JOINT, seen_of(frames(range(4))[:images]), seed=0)
        assert chances.pairs == images * (images - 1) // 2
        assert chances.nominated.tolist() == [0] * (MOST_RADIUS + 1)
        assert 0 <= choose_radius(JOINT, chances, images, 0) <= WIDEST_RADIUS


def growing(per_radius: list[int], pairs: int, passing: float) -> Chances:
    return Chances(pairs, np.cumsum(np.resize(per_radius, MOST_RADIUS + 1)).astype(np.int64), passing)


drawn_chances = st.builds(
    growing,
    st.lists(st.integers(0, 200), min_size=25, max_size=25),
    st.integers(1_000, 10_000_000),
    st.floats(1e-7, 1),
)
rules = st.sampled_from([JOINT, CODE])


@given(drawn_chances, rules, st.integers(2, 10**7), st.integers(1, 1000), st.integers(0, 10**6))
def test_more_images_never_give_a_larger_radius(
    chances: Chances, settings: VerdictSettings, images: int, times: int, removals: int
) -> None:
    radius = choose_radius(settings, chances, images, removals)
    assert choose_radius(settings, chances, images * times, removals) <= radius
    assert choose_radius(settings, chances, images * times, removals * times) <= radius


@given(drawn_chances, rules, st.integers(2, 10**7), st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_removals_and_a_larger_share_never_give_a_smaller_radius(
    chances: Chances, settings: VerdictSettings, images: int, removals: int, more: int
) -> None:
    radius = choose_radius(settings, chances, images, removals)
    assert choose_radius(settings, chances, images, removals + more) >= radius
    lax = settings.model_copy(update={"wrong_share_max": 0.1})
    assert choose_radius(lax, chances, images, removals) >= radius


@given(drawn_chances, rules, st.integers(2, 10**7), st.integers(0, 10**6))
def test_the_radius_is_the_largest_that_keeps_the_share(
    chances: Chances, settings: VerdictSettings, images: int, removals: int
) -> None:
    def keeps(radius: int) -> bool:
        wrong = chances.wrong(radius, images)
        bearable = settings.rule == "code" or chances.nominations(radius, images) <= NOMINATIONS_PER_IMAGE * images
        return bearable and (wrong <= BEARABLE_WRONG or wrong / (removals + wrong) <= settings.wrong_share_max)

    radius = choose_radius(settings, chances, images, removals)
    widest = WIDEST_RADIUS if settings.rule == "joint" else MOST_RADIUS
    assert radius == 0 or keeps(radius)
    assert not any(keeps(larger) for larger in range(radius + 1, widest + 1))


def test_a_radius_that_is_set_stays() -> None:
    hopeless = growing([1000], 1000, 1.0)
    for radius in (0, 7, MOST_RADIUS):
        assert choose_radius(VerdictSettings(radius=radius), hopeless, 10**6, 0) == radius
    assert choose_radius(JOINT, hopeless, 10**6, 0) == 0
    assert choose_radius(CODE, hopeless, 10**6, 10) == 0


def test_expected_pairs_by_hand() -> None:
    chances = Chances(1_000_000, np.arange(25, dtype=np.int64) * 10, 0.01)
    assert chances.nominations(5, 1001) == pytest.approx(500_500 * 50 / 1_000_000)
    # The upper 95 % limit of a Poisson count: 0 may be 3.00 and 50 may be 61.66.
    assert chances.wrong(0, 1001) == pytest.approx(0.5005 * 2.9957 * 0.01, rel=1e-4)
    assert chances.wrong(5, 1001) == pytest.approx(0.5005 * 63.29 * 0.01, rel=1e-3)
    assert chances.wrong(5, 0) == chances.wrong(5, 1) == 0
    nobody = Chances(0, np.zeros(25, np.int64), 1.0)
    assert nobody.wrong(10, 1) == nobody.nominations(10, 1) == 0


def correlations_of(excess: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Correlations whose Fisher's z lies so far beyond that of 0.5."""
    return np.tanh(math.atanh(0.5) + excess)


@pytest.mark.parametrize("decay", [0.12, 0.2])
def test_the_limit_of_a_known_tail_is_just_above_what_passes(decay: float) -> None:
    reach = math.atanh(0.85) - math.atanh(0.5)
    true_share = 0.2 * math.exp(-reach / decay)
    limits = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        excess = rng.exponential(decay, 4000)
        short = excess[excess < reach][:1000]  # what passes is taken for true repeats
        limits.append(passing_limit(np.concatenate([correlations_of(short), np.full(4000, 0.2)]), JOINT))
    assert np.mean(np.array(limits) > 0.9 * true_share) >= 0.9
    assert np.median(limits) < 2 * true_share


def test_a_tail_too_short_to_tell_is_taken_for_a_slow_one() -> None:
    reach = math.atanh(0.85) - math.atanh(0.5)
    steep = np.concatenate([correlations_of(np.full(500, 0.001)), np.full(9500, 0.1)])
    decay = 0.1 + reach / math.expm1(reach / 0.1)  # and a hair more
    decay = 0.1 + reach / math.expm1(reach / decay)
    share = float(chi2.ppf(0.95, 2 * 501)) / 2 / 10_000
    assert passing_limit(steep, JOINT) == pytest.approx(share * math.exp(-reach / decay), rel=1e-3)


def test_the_limit_where_there_is_little_to_tell_by() -> None:
    assert passing_limit(np.empty(0), JOINT) == 1
    assert passing_limit(np.full(10, 0.3), JOINT) == pytest.approx(2.9957 / 10, rel=1e-4)
    assert passing_limit(np.full(1, 0.3), JOINT) == 1
    assert 0.1 < passing_limit(np.full(3, 0.84), JOINT) <= 1


@given(st.lists(st.floats(-1, 0.84), min_size=1, max_size=50), st.floats(0.86, 0.99))
def test_a_higher_border_lets_less_pass_and_a_larger_sample_tells_more(values: list[float], border: float) -> None:
    drawn = np.array(values)
    limit = passing_limit(drawn, JOINT)
    assert 0 < limit <= 1
    assert passing_limit(drawn, VerdictSettings(correlation_min=border)) <= limit
    assert passing_limit(np.tile(drawn, 3), JOINT) <= limit
