"""The tests of whether distances are smaller: against their definition, other libraries, and what is known to be so."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training.evaluation.nearer import Floats, Floor, Rule, compared, floor_of, least_beyond_chance, precedence


def floor(heldout: Floats) -> Floor:
    found = floor_of(heldout)
    assert found is not None
    return found


@given(st.integers(1, 6), st.integers(1, 5), st.data())
def test_the_chance_is_the_share_of_all_orders(samples: int, heldout: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, heldout))
    counts = []
    for places in combinations(range(samples + heldout), heldout):  # where the held-out ones stand among all
        counts.append(places[rank - 1] - (rank - 1))  # samples before the rank-th of them
    for below in range(samples + 1):
        assert precedence(samples, heldout, rank, below) == pytest.approx(np.mean(np.array(counts) >= below))


def test_the_chance_agrees_with_scipy_for_many_images() -> None:
    alike = stats.nhypergeom(2000, 1000, 50)
    for below in (30, 50, 60, 80):
        assert precedence(1000, 1000, 50, below) == pytest.approx(alike.sf(below - 1), rel=1e-6)


def test_least_beyond_chance_is_the_first_number_that_is() -> None:
    needed = least_beyond_chance(200, 100, 5, 0.001)
    assert precedence(200, 100, 5, needed) < 0.001 <= precedence(200, 100, 5, needed - 1)
    assert least_beyond_chance(3, 20, 1, 1e-9) == 4  # no number of three samples is enough


def test_sets_alike_are_called_nearer_as_seldom_as_the_significance_says() -> None:
    random = np.random.default_rng(0)
    rule = Rule(times=1, significance=0.05)
    called = [rule.met(random.normal(size=200), floor(random.normal(size=200))) for _ in range(400)]
    assert 0.01 < np.mean(called) <= 0.08


def test_a_few_copies_among_many_samples_are_seen_where_means_are_not_moved() -> None:
    random = np.random.default_rng(1)
    heldout = random.normal(10, 1, 1000)
    samples = np.concatenate([random.normal(10.3, 1, 880), random.normal(1, 0.1, 120)])
    figures = compared(samples, heldout)
    assert Rule(times=2, significance=0.001).met(samples, floor(heldout))
    assert figures["p_below_5"] < 1e-4
    assert figures["p_nearer"] > 0.01  # more are farther than nearer, so a test of ranks sees nothing
    assert figures["share_below_1"] >= 0.12


def test_figures_of_known_sets() -> None:
    heldout, samples = np.arange(100.0), np.arange(50.0) / 10
    figures = compared(samples, heldout)
    assert floor_of(heldout[::-1]) == Floor(4.0, 5, 100)
    assert floor_of(heldout[:20]) == Floor(0.0, 1, 20)
    assert floor_of(heldout[:19]) is None, "5 % of them is less than one"
    assert floor_of(heldout[:40], weights=np.array([100, *[1] * 39])) is None, "one of them says it all"
    assert (figures["rank_1"], figures["count_1"], figures["rank_5"], figures["count_5"]) == (1, 100, 5, 100)
    few = compared(samples, heldout[:99])
    assert "share_below_1" not in few
    assert "p_below_1" not in few
    assert few["rank_5"] == 4
    assert figures["share_below_5"] == 0.8
    assert figures["nearer"] == pytest.approx(
        np.mean((samples[:, None] < heldout) + 0.5 * (samples[:, None] == heldout)), abs=1e-4
    )
    assert figures["ks"] == pytest.approx(stats.ks_2samp(samples, heldout).statistic, abs=1e-4)


def test_ties_do_not_count_as_nearer() -> None:
    assert compared(np.zeros(50), np.zeros(50))["share_below_5"] == 0
    assert compared(np.zeros(50), np.zeros(50))["nearer"] == 0.5
    assert not Rule(times=1, significance=0.4).met(np.zeros(50), floor(np.zeros(50)))


@given(st.lists(st.integers(0, 3), min_size=30, max_size=30).filter(any))
def test_weighted_held_out_images_count_as_often_as_their_weight(weights: list[int]) -> None:
    heldout = np.random.default_rng(0).permutation(30).astype(np.float64)
    floor = floor_of(heldout, 0.2, np.array(weights))
    if floor is None:
        assert sum(weight > 0 for weight in weights) < 7, "equally weighted, 3 of 4 at least"
        return
    spread = np.sort(np.repeat(heldout, weights))
    assert floor.distance == spread[int(np.ceil(floor.rank / floor.count * len(spread) - 1e-9)) - 1]
    assert floor.count <= sum(weight > 0 for weight in weights)
    assert floor_of(heldout, 0.2, np.full(30, 7)) == floor_of(heldout, 0.2)
