"""The order of samples: each once an epoch, the same for any number of workers, resumable at any place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.order import SampleOrder, batch_positions, check_divides

shard_sizes = st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 0)
seeds = st.integers(0, 2**64 - 1)


@given(shard_sizes, seeds, st.integers(1, 60), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_each_sample_comes_once_an_epoch(sizes: list[int], seed: int, window: int, epoch: int) -> None:
    order = SampleOrder(sizes, seed, window)
    n = order.samples
    assert sorted(order.samples_at(np.arange(epoch * n, (epoch + 1) * n))) == list(range(n))


@given(shard_sizes, seeds, st.integers(1, 60), st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_workers_share_the_same_global_batch(sizes: list[int], seed: int, window: int, world: int, batch: int) -> None:
    order = SampleOrder(sizes, seed, window)
    whole = order.samples_at(batch_positions(batch, 12))
    together = np.empty(12, dtype=np.int64)
    for rank in range(world):
        together[rank::world] = order.samples_at(batch_positions(batch, 12, rank, world))
    np.testing.assert_array_equal(together, whole)


@given(shard_sizes, seeds, st.integers(1, 60), st.integers(1, 17))
@settings(max_examples=100, deadline=None)
def test_batches_run_through_epochs_without_a_gap(sizes: list[int], seed: int, window: int, batch_images: int) -> None:
    order = SampleOrder(sizes, seed, window)
    batches = -(-3 * order.samples // batch_images)
    stream = np.concatenate([order.samples_at(batch_positions(t, batch_images)) for t in range(batches)])
    for epoch in range(3):
        part = stream[epoch * order.samples : (epoch + 1) * order.samples]
        assert sorted(part) == list(range(order.samples))


@given(shard_sizes, seeds, st.integers(1, 60), st.lists(st.integers(0, 2000), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_any_place_gives_the_same_sample_in_any_order(sizes: list[int], seed: int, window: int, at: list[int]) -> None:
    positions = np.array(at)
    run_through = SampleOrder(sizes, seed, window).samples_at(np.arange(2001))
    np.testing.assert_array_equal(SampleOrder(sizes, seed, window).samples_at(positions), run_through[positions])


def test_epochs_and_seeds_differ() -> None:
    n = 400
    order = SampleOrder([100] * 4, 7, 200)
    first, second = order.samples_at(np.arange(n)), order.samples_at(np.arange(n, 2 * n))
    assert (first != second).mean() > 0.9
    assert (SampleOrder([100] * 4, 8, 200).samples_at(np.arange(n)) != first).mean() > 0.9


def test_a_window_holds_whole_shards_shuffled_together() -> None:
    order = SampleOrder([50] * 10, 3, 100)
    shards = order.samples_at(np.arange(500)) // 50
    for window in shards.reshape(5, 100):
        assert len(set(window)) == 2
        assert 20 <= (window[:50] == window[0]).sum() <= 40  # mixed, not one shard after the other


def test_the_order_stays_the_same_from_release_to_release() -> None:
    order = SampleOrder([3, 5, 4], 2016, 6)
    assert order.samples_at(np.arange(12)).tolist() == [6, 7, 5, 4, 0, 3, 2, 1, 11, 9, 10, 8]


def test_a_place_far_away_costs_one_window() -> None:
    order = SampleOrder([10_000] * 300, 1, 65_536)
    far = order.samples_at(batch_positions(10**7, 128))
    assert len(set(far.tolist())) == 128
    assert order._window.cache_info().misses <= 2


def test_batches_that_cannot_be_shared_are_refused_with_the_next_that_can() -> None:
    with pytest.raises(ValueError, match="batch_images=100 does not divide by 8 workers; try 104"):
        check_divides(100, 8)
    with pytest.raises(ValueError, match="no samples"):
        SampleOrder([], 0, 1)
    with pytest.raises(ValueError, match="window_samples=0"):
        SampleOrder([1], 0, 0)
