"""Batches: the right pixels, in the stream's order, from any update on; damage is named. Latent draws by counter."""

import io
import tarfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from shard_fixture import draw_images, write_shards

from manifests.store import Folder
from training.batches import DamagedShard, ShardReader, real_batches
from training.draws import Distribution, Stream, draw_z, philox, random_z
from training.order import SampleOrder, Share

IMAGES = draw_images(47)


@pytest.fixture
def shards(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "shards")
    write_shards(folder, draw_images(12, seed=9), split="heldout")
    write_shards(folder, IMAGES)
    return folder


class _Elsewhere(Folder):
    """A folder that gives no local paths, as one in an object store."""

    def local_path(self, name: str = "") -> Path | None:
        return None


def test_reads_the_pixels_that_were_written(shards: Folder) -> None:
    reader = ShardReader(shards, 32)
    assert len(reader) == 47
    assert reader.shard_samples == [10, 10, 10, 10, 7]
    some = np.array([46, 0, 10, 9, 31])
    np.testing.assert_array_equal(reader.images(some), IMAGES[some])
    heldout = ShardReader(shards, 32, split="heldout")
    np.testing.assert_array_equal(heldout.images(np.arange(12)), draw_images(12, seed=9))


def test_reads_from_a_store_that_is_not_local(shards: Folder) -> None:
    reader = ShardReader(_Elsewhere(shards.address), 32)
    np.testing.assert_array_equal(reader.images(np.arange(47)), IMAGES)


def test_reads_jpeg(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_shards(folder, IMAGES[:3], suffix=".jpg")
    off = ShardReader(folder, 32).images(np.arange(3)).astype(int) - IMAGES[:3]
    assert np.abs(off).mean() < 8


def test_offsets_are_those_of_the_tar(shards: Folder) -> None:
    reader = ShardReader(shards, 32)
    with tarfile.open(fileobj=io.BytesIO(shards.read_bytes("train-000001.tar"))) as tar:
        member = tar.extractfile("000013.png")
        assert member is not None
        assert reader.read(13) == member.read()


def test_damaged_bytes_are_named(shards: Folder) -> None:
    data = bytearray(shards.read_bytes("train-000002.tar"))
    index = shards.read_table("index.parquet").to_pylist()
    row = next(r for r in index if r["sample_id"] == "train-sample-25")
    data[row["offset"] + row["size_bytes"] // 2] ^= 1
    shards.write_bytes("train-000002.tar", bytes(data))
    reader = ShardReader(shards, 32)
    reader.images(np.array([24, 26]))
    with pytest.raises(DamagedShard, match=r"train-000002.tar, sample train-sample-25: sha256 is"):
        reader.images(np.array([24, 25]))


def test_a_shard_cut_short_is_named(shards: Folder) -> None:
    shards.write_bytes("train-000004.tar", shards.read_bytes("train-000004.tar")[:700])
    reader = ShardReader(shards, 32, verify=False)
    with pytest.raises(DamagedShard, match=r"train-000004.tar, sample train-sample-40: expected \d+ bytes, got 188"):
        reader.read(40)


def test_without_verification_an_undecodable_image_is_still_named(shards: Folder) -> None:
    shards.write_bytes("train-000000.tar", bytes(len(shards.read_bytes("train-000000.tar"))))
    with pytest.raises(DamagedShard, match="sample train-sample-3: the image can't be decoded"):
        ShardReader(shards, 32, verify=False).images(np.array([3]))


def test_a_missing_shard_is_named_before_any_work(shards: Folder) -> None:
    shards.delete("train-000003.tar")
    with pytest.raises(DamagedShard, match=r"train-000003\.tar is in index.parquet but not in the folder"):
        ShardReader(shards, 32)


def test_another_size_than_the_presets_is_refused(shards: Folder) -> None:
    with pytest.raises(DamagedShard, match="the image is 32x32, the preset's size_px is 64"):
        ShardReader(shards, 64).images(np.array([0]))


def test_the_order_does_not_hang_on_the_order_of_the_index(shards: Folder) -> None:
    index = shards.read_table("index.parquet")
    mixed = index.take(pa.array(np.random.default_rng(0).permutation(len(index))))
    shards.write_table("index.parquet", mixed)
    np.testing.assert_array_equal(ShardReader(shards, 32).images(np.arange(47)), IMAGES)


def test_batches_follow_the_stream_from_any_update(shards: Folder) -> None:
    reader = ShardReader(shards, 32)
    order = SampleOrder(reader.shard_samples, 5, 20)
    whole = dict(real_batches(reader, order, range(12), Share(8)))
    for update, images in whole.items():
        expected = IMAGES[order.samples_at(Share(8).positions(update))]
        np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), expected)
        assert images.shape == (8, 3, 32, 32)
        assert images.is_contiguous(memory_format=torch.channels_last)
    resumed = list(real_batches(reader, order, range(7, 12, 2), Share(8), threads=3, ahead=1))
    assert [update for update, _ in resumed] == [7, 9, 11]
    assert all(torch.equal(images, whole[update]) for update, images in resumed)


def test_workers_get_the_rows_of_the_global_batch(shards: Folder) -> None:
    reader = ShardReader(shards, 32)
    order = SampleOrder(reader.shard_samples, 5, 20)
    ((_, whole),) = real_batches(reader, order, [4], Share(8))
    for rank in range(4):
        ((_, part),) = real_batches(reader, order, [4], Share(8, rank, 4))
        assert torch.equal(part, whole[rank::4])


def test_damage_reaches_the_consumer_and_closing_stops_the_threads(shards: Folder) -> None:
    shards.write_bytes("train-000001.tar", b"")
    reader = ShardReader(shards, 32)
    order = SampleOrder(reader.shard_samples, 5, 20)
    with pytest.raises(DamagedShard, match=r"train-000001\.tar"):
        list(real_batches(reader, order, range(6), Share(8)))
    batches = real_batches(reader, SampleOrder([10], 5, 20), range(10**9), Share(2))
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_latent_vectors_are_those_of_the_update_and_the_seed(distribution: Distribution) -> None:
    whole = draw_z(3, 17, 12, 100, distribution)
    assert whole.shape == (12, 100)
    np.testing.assert_array_equal(draw_z(3, 17, 12, 100, distribution), whole)
    assert not np.isin(draw_z(3, 18, 12, 100, distribution), whole).any()
    assert not np.isin(draw_z(4, 17, 12, 100, distribution), whole).any()


def test_latent_distributions() -> None:
    uniform = draw_z(0, 0, 2000, 100, "uniform")
    assert uniform.dtype == np.float32
    assert -1 <= uniform.min() < -0.999
    assert 0.999 < uniform.max() <= 1
    assert np.square(uniform).mean() == pytest.approx(1 / 3, rel=0.01)
    normal = draw_z(0, 0, 2000, 100, "normal")
    assert normal.std() == pytest.approx(1, rel=0.01)
    assert abs(normal).max() > 3.5


def test_a_longer_draw_begins_with_the_shorter_and_streams_differ() -> None:
    short, long = (random_z(philox(1, Stream.GRID), n, 100, "uniform") for n in (8, 64))
    np.testing.assert_array_equal(long[:8], short)
    assert not np.isin(random_z(philox(1, Stream.WALK), 8, 100, "uniform"), long).any()
