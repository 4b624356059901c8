"""Batches: the right pixels, in the stream's order, from any update on, whatever the loaders; damage is named."""

import gc
import os
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_fixture import Elsewhere, draw_images, write_shards

from manifests.store import Folder
from training.batches import Batches, LoaderSettings, open_batches
from training.order import SampleOrder, Share
from training.reading import DamagedShard, ShardReader

IMAGES = draw_images(47)
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("shards"))
    write_shards(folder, IMAGES)
    return folder


@pytest.fixture
def damaged(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "damaged")
    write_shards(folder, IMAGES)
    return folder


def _pixels(images: torch.Tensor) -> npt.NDArray[np.uint8]:
    return images.permute(0, 2, 3, 1).numpy().copy()


def _open(folder: Folder, seed: int = 5, channels: int = 3) -> tuple[ShardReader, SampleOrder]:
    reader = ShardReader(folder, 32, channels=channels)
    return reader, SampleOrder(reader.shard_samples, seed, 20)


@pytest.mark.parametrize("loaders", [1, 3])
@pytest.mark.parametrize("ahead", [1, 4])
def test_batches_follow_the_stream_from_any_update(shards: Folder, loaders: int, ahead: int) -> None:
    reader, order = _open(shards)
    how = LoaderSettings(loaders=loaders, ahead_batches=ahead)
    with open_batches(reader, order, range(12), Share(8), how) as batches:
        for update, batch in enumerate(batches):
            expected = order.samples_at(Share(8).positions(update))
            assert batch.update == update
            np.testing.assert_array_equal(batch.samples, expected)
            np.testing.assert_array_equal(_pixels(batch.images), IMAGES[expected])
            assert batch.images.shape == (8, 3, 32, 32)
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert update == 11


@given(
    st.integers(0, 200),
    st.integers(1, 3),
    st.lists(st.integers(1, 23), min_size=1, max_size=6).map(tuple),
    st.integers(1, 40),
)
@settings(max_examples=6, deadline=None)
def test_ranks_and_loaders_make_up_the_global_batches(
    tmp_path_factory: pytest.TempPathFactory, begin: int, world: int, sizes: tuple[int, ...], window: int
) -> None:
    # Uneven shards and shards of one sample; an epoch is often shorter than a batch.
    folder = Folder(tmp_path_factory.mktemp("uneven"))
    for shard, size in enumerate(sizes):
        write_shards(folder, draw_images(size, seed=shard), per_shard=size, split="train", first_shard=shard)
    reader = ShardReader(folder, 32)
    assert tuple(reader.shard_samples) == sizes
    order = SampleOrder(reader.shard_samples, begin, window)
    for rank in range(world):
        share = Share(24, rank, world, 2)
        updates = [begin, begin + 1, begin + 5]
        with open_batches(reader, order, updates, share, LoaderSettings(loaders=2)) as batches:
            for update, images, samples in batches:
                expected = order.samples_at(np.arange(update * 24, (update + 1) * 24))[share.rows()]
                np.testing.assert_array_equal(samples, expected)
                np.testing.assert_array_equal(_pixels(images), reader.images(expected))
                updates.remove(update)
        assert not updates


def test_an_epoch_uses_every_sample_once(shards: Folder) -> None:
    reader, order = _open(shards)
    with open_batches(reader, order, range(47), Share(4), LoaderSettings(loaders=2)) as batches:
        stream = np.concatenate([samples.copy() for _, _, samples in batches])
    for epoch in range(4):
        assert sorted(stream[epoch * 47 : (epoch + 1) * 47].tolist()) == list(range(47))


def test_one_channel(tmp_path: Path) -> None:
    grey = np.repeat(IMAGES[:12, :, :, :1], 3, axis=3)
    write_shards(Folder(tmp_path), grey)
    reader, order = _open(Folder(tmp_path), channels=1)
    with open_batches(reader, order, [3], Share(6)) as batches:
        (batch,) = batches
        assert batch.images.shape == (6, 1, 32, 32)
        np.testing.assert_array_equal(_pixels(batch.images), grey[batch.samples][..., :1])


def test_starting_anywhere_reads_nothing_before_it(shards: Folder) -> None:
    elsewhere = Elsewhere(shards.address)
    reader = ShardReader(elsewhere, 32)
    order = SampleOrder(reader.shard_samples, 5, 10)  # a window is a shard
    far = 47 * 10**9 // 4
    with open_batches(reader, order, [far], Share(2)) as batches:
        assert next(batches).update == far
    assert len(set(elsewhere.opened)) <= 3  # of five: the window, the next, and one more at an epoch's end


def test_warm_loaders_are_sent_to_another_place(shards: Folder) -> None:
    reader, order = _open(shards)
    with open_batches(reader, order, range(10**9), Share(8), LoaderSettings(loaders=2)) as batches:
        processes = [process.pid for process in batches._loaders._processes]
        for place in (0, 10**6, 3, 3):
            batches.seek(range(place, place + 7, 2))
            seen = []
            for update, images, samples in batches:
                np.testing.assert_array_equal(_pixels(images), IMAGES[samples])
                np.testing.assert_array_equal(samples, order.samples_at(Share(8).positions(update)))
                seen.append(update)
                if place == 10**6 and len(seen) == 2:
                    break  # the next place is sought while others are being read
            assert seen == list(range(place, place + 7, 2))[: len(seen)]
        assert [process.pid for process in batches._loaders._processes] == processes


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("cut", r"train-000001\.tar, sample train-sample-1\d: expected \d+ bytes, got \d+; write the shards again"),
        ("flip", r"train-000001\.tar, sample train-sample-13: sha256 is \w+\.\.\., the index has"),
        ("gone", r"train-000001\.tar, sample train-sample-1\d: the shard can't be read \(No such file or directory\)"),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_damage_reaches_the_trainer_with_the_batch_that_holds_it(
    damaged: Folder, damage: str, told: str, remote: bool
) -> None:
    reader = ShardReader(Elsewhere(damaged.address) if remote else damaged, 32)
    data = bytearray(damaged.read_bytes("train-000001.tar"))
    if damage == "gone":
        damaged.delete("train-000001.tar")
        told = r"train-000001\.tar is no longer in the folder" if remote else told
    else:
        data[int(reader.index.offsets[13]) + 60] ^= 1
        damaged.write_bytes("train-000001.tar", bytes(data) if damage == "flip" else bytes(data[:700]))
    order = SampleOrder(reader.shard_samples, 5, 20)
    bad = range(13, 14) if damage == "flip" else range(11, 20)

    def read_on() -> None:
        with open_batches(reader, order, range(10**6), Share(4), LoaderSettings(loaders=2)) as batches:
            for update, images, samples in batches:
                assert not set(samples.tolist()) & set(bad), update
                np.testing.assert_array_equal(_pixels(images), IMAGES[samples])

    with pytest.raises(DamagedShard, match=told):
        read_on()


def test_images_of_another_size_and_no_images(damaged: Folder) -> None:
    reader = ShardReader(damaged, 64)
    order = SampleOrder(reader.shard_samples, 5, 20)
    with open_batches(reader, order, [0], Share(4)) as batches, pytest.raises(DamagedShard, match="size_px is 64"):
        next(batches)
    damaged.write_bytes("train-000000.tar", bytes(len(damaged.read_bytes("train-000000.tar"))))
    reader = ShardReader(damaged, 32, verify=False)
    order = SampleOrder(reader.shard_samples, 5, 20)
    with open_batches(reader, order, range(20), Share(4)) as batches, pytest.raises(DamagedShard, match="be decoded"):
        list(batches)


def test_closing_leaves_nothing_behind(shards: Folder) -> None:
    def once() -> Batches:
        reader, order = _open(shards)
        with open_batches(reader, order, range(10**9), Share(4), LoaderSettings(loaders=2)) as batches:
            last = next(batches)
        assert _pixels(last.images).shape == (4, 32, 32, 3)  # can still be read
        return batches

    once()
    gc.collect()
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        processes = once()._loaders._processes
        assert [process.returncode for process in processes] == [0, 0]
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


def test_loaders_are_chosen_by_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers, gpu, loaders in (
        (2, "1", False, 1),
        (64, "1", False, 1),
        (2, "1", True, 1),
        (6, "1", True, 5),
        (64, "1", True, 8),
        (16, "4", True, 3),
        (4, "8", True, 1),
    ):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", workers)
        assert LoaderSettings().processes(gpu) == loaders
    assert LoaderSettings(loaders=5).processes(False) == 5
