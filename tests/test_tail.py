"""The tail of different pictures' correlations: limits that hold for tails that are known."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup.tail import ALIKE, LEAST_DECAY, MOST_DECAY, TAIL_FROM, USUAL, Tail, fit_tail


def drawn_tail(seed: int, images: int, share: float, decay: float) -> npt.NDArray[np.float64]:
    """Correlations of pairs, a share of them beyond TAIL_FROM with Fisher's z of exponential excess; cut at ALIKE."""
    rng = np.random.default_rng(seed)
    tail = np.tanh(math.atanh(TAIL_FROM) + rng.exponential(decay, round(images * share)))
    return np.concatenate([tail[tail < ALIKE], np.full(images - len(tail), 0.2)])


@pytest.mark.parametrize("decay", [0.12, 0.2, 0.35])
@pytest.mark.parametrize("border", [0.85, 0.95])
def test_the_limit_of_a_known_tail_is_mostly_above_the_truth_and_seldom_far(decay: float, border: float) -> None:
    truth = 0.2 * math.exp(-(math.atanh(border) - math.atanh(TAIL_FROM)) / decay)
    limits = np.array([fit_tail(drawn_tail(seed, 10_000, 0.2, decay)).beyond(border) for seed in range(100)])
    assert np.mean(limits > 0.9 * truth) >= 0.9
    assert np.median(limits) < 2.5 * truth


def test_of_few_pairs_nothing_is_told() -> None:
    assert fit_tail(np.empty(0)) == fit_tail(np.full(99, 0.7)) == USUAL
    # None of a hundred in the window: the upper 95 % limit of a Poisson count of 0 is 3.00.
    assert fit_tail(np.full(100, 0.3)).share == pytest.approx(0.029957, rel=1e-4)


def test_a_tail_without_slope_is_taken_for_the_slowest_and_a_steep_one_for_the_fastest() -> None:
    rng = np.random.default_rng(0)
    even = np.tanh(rng.uniform(math.atanh(TAIL_FROM), math.atanh(ALIKE), 300))
    assert fit_tail(even).decay == pytest.approx(MOST_DECAY)
    assert fit_tail(np.full(300, TAIL_FROM + 1e-6)).decay == pytest.approx(LEAST_DECAY)


@given(st.floats(1e-6, 1), st.floats(LEAST_DECAY, MOST_DECAY), st.floats(0.8, 0.98), st.floats(0, 0.019))
def test_a_higher_border_lets_less_pass(share: float, decay: float, border: float, more: float) -> None:
    tail = Tail(share, decay)
    assert 0 < tail.beyond(border + more) <= tail.beyond(border) <= 1


@given(st.lists(st.floats(-1, 0.74), min_size=100, max_size=150))
def test_a_larger_sample_tells_more(values: list[float]) -> None:
    drawn = np.array(values)
    assert fit_tail(np.tile(drawn, 3)).beyond(0.85) <= fit_tail(drawn).beyond(0.85) + 1e-12
