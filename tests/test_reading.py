"""Single images by number: the right pixels, from any filesystem; damage is named."""

import gc
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from shard_fixture import Elsewhere, draw_images, write_shards

from manifests.store import Folder
from training.decoding import LocalShards
from training.reading import DamagedShard, ShardReader

IMAGES = draw_images(47)


@pytest.fixture
def shards(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "shards")
    write_shards(folder, draw_images(12, seed=9), split="heldout")
    write_shards(folder, IMAGES)
    return folder


def test_reads_the_pixels_that_were_written(shards: Folder) -> None:
    reader = ShardReader(shards, 32)
    assert len(reader) == 47
    assert reader.shard_samples == [10, 10, 10, 10, 7]
    some = np.array([46, 0, 10, 9, 31])
    np.testing.assert_array_equal(reader.images(some), IMAGES[some])
    heldout = ShardReader(shards, 32, split="heldout")
    np.testing.assert_array_equal(heldout.images(np.arange(12)), draw_images(12, seed=9))


def test_reads_from_a_store_that_is_not_local(shards: Folder) -> None:
    reader = ShardReader(Elsewhere(shards.address), 32)
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


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_grey_images_are_read_as_one_channel(tmp_path: Path, suffix: str) -> None:
    folder = Folder(tmp_path)
    grey = np.repeat(IMAGES[:5, :, :, :1], 3, axis=3)
    write_shards(folder, grey, suffix=suffix)
    found = ShardReader(folder, 32, channels=1).images(np.arange(5))
    assert found.shape == (5, 32, 32, 1)
    if suffix == ".png":
        np.testing.assert_array_equal(found, grey[..., :1])
    else:
        assert np.abs(found.astype(int) - grey[..., :1]).mean() < 8


def test_every_level_of_grey_is_exact(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    levels = np.arange(1024, dtype=np.uint8).reshape(1, 32, 32, 1)
    write_shards(folder, np.repeat(levels, 3, axis=3))
    np.testing.assert_array_equal(ShardReader(folder, 32, channels=1).images(np.array([0])), levels)


def test_more_shards_than_may_be_open(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_shards(folder, IMAGES[:20], per_shard=1)
    shards = LocalShards([str(folder.local_path(f"train-{i:06d}.tar")) for i in range(20)], most_open=3)
    reader = ShardReader(folder, 32)
    before = len(os.listdir("/proc/self/fd"))
    for sample in [*range(20), 0, 19, 1]:
        ((_, data),) = reader.index.encoded(np.array([sample]), shards.read_at)
        assert data == reader.read(sample)
    shards.close()
    assert len(os.listdir("/proc/self/fd")) <= before + 20  # those of the reader


def test_readers_that_are_gone_leave_no_file_open(shards: Folder) -> None:
    def open_files() -> int:
        gc.collect()
        return sum(os.path.realpath(f"/proc/self/fd/{n}").startswith(folder) for n in os.listdir("/proc/self/fd"))

    folder = os.path.realpath(shards.path())
    before = open_files()
    reader = ShardReader(shards, 32)
    reader.images(np.arange(len(IMAGES)))
    assert open_files() > before
    del reader
    assert open_files() == before
