"""The order of samples: each once an epoch, the same for any number of workers, resumable at any place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.order import SampleOrder, Share

shard_sizes = st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 0)
seeds = st.integers(0, 2**64 - 1)


@given(shard_sizes, seeds, st.integers(1, 60), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_each_sample_comes_once_an_epoch(sizes: list[int], seed: int, window: int, epoch: int) -> None:
    order = SampleOrder(sizes, seed, window)
    n = order.samples
    assert sorted(order.samples_at(np.arange(epoch * n, (epoch + 1) * n))) == list(range(n))


@given(st.data(), shard_sizes, seeds, st.integers(1, 60), st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_workers_and_their_loaders_share_the_same_global_batch(
    data: st.DataObject, sizes: list[int], seed: int, window: int, batch: int
) -> None:
    world, block, blocks = (data.draw(st.integers(1, most)) for most in (5, 4, 3))
    loaders = data.draw(st.integers(1, 7))
    batch_images = world * block * blocks
    order = SampleOrder(sizes, seed, window)
    whole = order.samples_at(np.arange(batch * batch_images, (batch + 1) * batch_images))
    together = np.full(batch_images, -1)
    for rank in range(world):
        share = Share(batch_images, rank, world, block)
        rows = share.rows()
        assert len(rows) == share.images
        part = np.empty(share.images, dtype=np.int64)
        for loader in range(loaders):
            part[loader::loaders] = order.samples_at(share.positions(batch)[loader::loaders])
        assert (together[rows] == -1).all()  # no row is another worker's too
        together[rows] = part
        # Each block is whole, and starts where a block of the global batch does.
        starts = rows.reshape(-1, block)[:, 0]
        assert (starts % block == 0).all()
        np.testing.assert_array_equal(rows, (starts[:, None] + np.arange(block)).reshape(-1))
    np.testing.assert_array_equal(together, whole)


@given(shard_sizes, seeds, st.integers(1, 60), st.integers(0, 30), st.permutations([1, 2, 3, 4]))
@settings(max_examples=60, deadline=None)
def test_another_number_of_workers_goes_on_with_the_same_batches(
    sizes: list[int], seed: int, window: int, begun: int, worlds: list[int]
) -> None:
    undisturbed = SampleOrder(sizes, seed, window).samples_at(np.arange(begun * 12, (begun + 4) * 12)).reshape(4, 12)
    for batch, world in enumerate(worlds, begun):
        order = SampleOrder(sizes, seed, window)  # as after a start
        parts = [order.samples_at(Share(12, rank, world).positions(batch)) for rank in range(world)]
        assert sorted(np.concatenate(parts).tolist()) == sorted(undisturbed[batch - begun].tolist())


@given(shard_sizes, seeds, st.integers(1, 60), st.integers(1, 17))
@settings(max_examples=100, deadline=None)
def test_batches_run_through_epochs_without_a_gap(sizes: list[int], seed: int, window: int, batch_images: int) -> None:
    order = SampleOrder(sizes, seed, window)
    batches = -(-3 * order.samples // batch_images)
    stream = np.concatenate([order.samples_at(Share(batch_images).positions(t)) for t in range(batches)])
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
    far = order.samples_at(Share(128).positions(10**7))
    assert len(set(far.tolist())) == 128
    assert order._window.cache_info().misses <= 2


@pytest.mark.parametrize("sizes", [[1] * 9, [1, 0, 7, 1], [1]])
def test_an_epoch_shorter_than_a_batch_is_gone_through_again(sizes: list[int]) -> None:
    order, n = SampleOrder(sizes, 3, 4), sum(sizes)
    batch = order.samples_at(Share(64).positions(2))
    times = np.bincount(batch, minlength=n)
    assert times.sum() == 64
    assert times.max() - times.min() <= 2
    # Between two ends of an epoch each sample is there once.
    first = -128 % n
    assert sorted(batch[first : first + n].tolist()) == list(range(n))


def test_batches_that_cannot_be_shared_are_refused_with_those_that_can() -> None:
    for share, told in (
        (
            Share(100, 0, 8),
            r"batch_images=100 does not divide by 8 workers; try batch_images=96 or 104; or workers: 1, 2,",
        ),
        (Share(128, 0, 3, 32), r"by 3 workers in blocks of 32; try batch_images=96 or 192; or workers: 1, 2, 4$"),
        (Share(2, 0, 4), r"try batch_images=4; or workers: 1, 2$"),
        (Share(2, 0, 1, 4), r"by 1 workers in blocks of 4; try batch_images=4$"),
    ):
        with pytest.raises(ValueError, match=told):
            share.check()
        with pytest.raises(ValueError, match=told):
            share.positions(0)


def test_an_order_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        SampleOrder([], 0, 1)
    with pytest.raises(ValueError, match="window_samples=0"):
        SampleOrder([1], 0, 0)
