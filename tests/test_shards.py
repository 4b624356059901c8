"""Tars: the same samples give the same bytes, stock readers read them, and a group never straddles a split."""

import gc
import hashlib
import io
import json
import tarfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from shard_fixture import draw_images

from manifests.schema import SHARD_INDEX
from manifests.shards import (
    ShardSample,
    dataset_summary,
    read_image,
    shard_name,
    shard_number,
    split_of,
    write_shard,
)
from manifests.store import Folder

SEED = 3
IDS = st.text("0123456789abcdef", min_size=1, max_size=64)


def drawn_samples(count: int) -> list[ShardSample]:
    samples = []
    for number, image in enumerate(draw_images(count, seed=1)):
        data = cv2.imencode(".png", image)[1].tobytes()
        digest = hashlib.sha256(data).hexdigest()
        facts = {"source": "rooms", "source_key": f"ключ/{number}", "width": 32}
        samples.append(ShardSample(digest, hashlib.sha256(digest.encode()).hexdigest(), data, facts))
    return samples


SAMPLES = drawn_samples(40)


def written(folder: Folder, samples: list[ShardSample], seed: int = SEED) -> tuple[dict[str, Any], list[Any]]:
    entry, index = write_shard(folder, "train", 0, samples, "png", seed)
    assert index.schema == SHARD_INDEX
    return entry, index.to_pylist()


def names_in(tar_bytes: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar_bytes)) as tar:
        return tar.getnames()


@given(st.permutations(SAMPLES[:12]))
def test_order_of_arrival_does_not_show(samples: list[ShardSample]) -> None:
    one, other = Folder("mock:///one"), Folder("mock:///other")
    assert written(one, samples) == written(other, SAMPLES[:12])
    assert one.read_bytes("train-000000.tar") == other.read_bytes("train-000000.tar")


def test_the_bytes_are_those_of_a_plain_tar(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    _, rows = written(folder, SAMPLES[:5])
    by_id = {sample.sample_id: sample for sample in SAMPLES}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            sample = by_id[row["sample_id"]]
            facts = json.dumps(sample.facts, sort_keys=True, separators=(",", ":")).encode()
            for ending, data in (("png", sample.image), ("json", facts)):
                member = tarfile.TarInfo(f"{sample.sample_id}.{ending}")
                member.size, member.mode, member.uname, member.gname = len(data), 0o444, "dcgan", "dcgan"
                tar.addfile(member, io.BytesIO(data))
    assert folder.read_bytes("train-000000.tar") == plain.getvalue()


def test_the_seed_sets_the_order(tmp_path: Path) -> None:
    orders = [[row["sample_id"] for row in written(Folder(tmp_path), SAMPLES, seed)[1]] for seed in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) != orders[0]


def test_stock_webdataset_reads_the_same_images(tmp_path: Path) -> None:
    written(Folder(tmp_path), SAMPLES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the tar open
        read = list(webdataset.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False))
        gc.collect()
    assert {sample["__key__"]: sample["png"] for sample in read} == {s.sample_id: s.image for s in SAMPLES}
    assert len(read) == len(SAMPLES)
    facts = {sample["__key__"]: json.loads(sample["json"]) for sample in read}
    assert facts == {s.sample_id: s.facts for s in SAMPLES}


def test_members_say_nothing_of_who_wrote_them_and_when(tmp_path: Path) -> None:
    written(Folder(tmp_path), SAMPLES[:3])
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        members = tar.getmembers()
    assert len(members) == 6
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "dcgan", "dcgan")}
    # A dot in a key would cut it there.
    assert all(m.name.count(".") == 1 for m in members)


@pytest.mark.parametrize(("image_format", "extension"), [("png", "png"), ("jpeg", "jpg")])
def test_members_are_named_by_format(tmp_path: Path, image_format: str, extension: str) -> None:
    write_shard(Folder(tmp_path), "heldout", 12, SAMPLES[:1], image_format, SEED)
    with tarfile.open(tmp_path / "heldout-000012.tar") as tar:
        assert tar.getnames() == [f"{SAMPLES[0].sample_id}.{extension}", f"{SAMPLES[0].sample_id}.json"]


def test_the_index_finds_every_image(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    entry, rows = written(folder, SAMPLES)
    by_id = {sample.sample_id: sample for sample in SAMPLES}
    tar = folder.read_bytes("train-000000.tar")
    assert entry == {
        "name": "train-000000.tar",
        "split": "train",
        "samples": len(SAMPLES),
        "size_bytes": len(tar),
        "sha256": hashlib.sha256(tar).hexdigest(),
    }
    assert {row["sample_id"] for row in rows} == by_id.keys()
    for row in rows:
        image = read_image(folder, row["shard"], row["offset"], row["size_bytes"])
        assert image == by_id[row["sample_id"]].image
        assert hashlib.sha256(image).hexdigest() == row["sha256"]
        assert row["record_id"] == by_id[row["sample_id"]].record_id
    # Rows stand in the order of the tar, so reading by index reads it from front to back.
    assert [row["offset"] for row in rows] == sorted(row["offset"] for row in rows)


def test_a_sample_that_comes_twice_writes_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(ValueError, match=f"{SAMPLES[0].sample_id} is twice"):
        written(folder, [*SAMPLES, SAMPLES[0]])
    assert folder.names() == []


def test_a_shard_cut_short_is_told_of(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    _, rows = written(folder, SAMPLES[:4])
    tar = folder.read_bytes("train-000000.tar")
    last = rows[-1]
    end = last["offset"] + last["size_bytes"]
    for length in (0, 1, last["offset"] - 1, last["offset"], last["offset"] + 1, end - 1):
        folder.write_bytes("train-000000.tar", tar[:length])
        with pytest.raises(ValueError, match=f"expected {last['size_bytes']} bytes at {last['offset']}, got .*--redo"):
            read_image(folder, "train-000000.tar", last["offset"], last["size_bytes"])
    folder.write_bytes("train-000000.tar", tar[:end])
    assert len(read_image(folder, "train-000000.tar", last["offset"], last["size_bytes"])) == last["size_bytes"]


@given(st.integers(0, 1 << 62), IDS, st.floats(0, 0.99), st.integers(1, 5000))
def test_a_group_has_one_place(seed: int, group: str, heldout_share: float, shards: int) -> None:
    # Both hang on the group alone, never on the sample: so all of its samples share them.
    assert split_of(seed, group, heldout_share) == split_of(seed, group, heldout_share)
    assert 0 <= shard_number(seed, group, shards) < shards
    assert split_of(seed, group, 0.0) == "train"
    if split_of(seed, group, heldout_share) == "heldout":
        assert split_of(seed, group, min(1.0, heldout_share + 0.01)) == "heldout"


def test_places_are_shared_out_evenly() -> None:
    groups = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(20_000)]
    heldout = [group for group in groups if split_of(SEED, group, 0.05) == "heldout"]
    assert len(heldout) == pytest.approx(1000, abs=5 * 31)  # 5 deviations of a binomial
    for of in (groups, heldout):  # the split must not lean on the shard
        counts = np.array(list(Counter(shard_number(SEED, group, 10) for group in of).values()))
        assert len(counts) == 10
        assert ((counts - len(of) / 10) ** 2 / (len(of) / 10)).sum() < 34  # chi-square, 9 degrees: 1 in 10,000
    other = [group for group in groups if split_of(SEED + 1, group, 0.05) == "heldout"]
    assert len(set(heldout) & set(other)) < 150  # 50 expected where seeds are independent


@given(st.integers(0, len(SAMPLES) - 1))
def test_a_removed_sample_leaves_the_other_tars_alone(removed: int) -> None:
    def tars(samples: list[ShardSample]) -> dict[int, bytes]:
        folder, found = Folder("mock:///tars"), {}
        for number in range(4):
            own = [sample for sample in samples if shard_number(SEED, sample.sample_id, 4) == number]
            write_shard(folder, "train", number, own, "png", SEED)
            found[number] = folder.read_bytes(shard_name("train", number))
        return found

    before = tars(SAMPLES)
    after = tars(SAMPLES[:removed] + SAMPLES[removed + 1 :])
    own = shard_number(SEED, SAMPLES[removed].sample_id, 4)
    assert {number for number in before if before[number] != after[number]} == {own}
    # And inside its own tar the others stay in their order.
    was, now = names_in(before[own]), names_in(after[own])
    assert now == [name for name in was if not name.startswith(SAMPLES[removed].sample_id)]


def test_the_summary_counts_by_split() -> None:
    entries = [
        {"name": "train-000001.tar", "split": "train", "samples": 5, "size_bytes": 1, "sha256": "b"},
        {"name": "heldout-000000.tar", "split": "heldout", "samples": 2, "size_bytes": 1, "sha256": "c"},
        {"name": "train-000000.tar", "split": "train", "samples": 4, "size_bytes": 1, "sha256": "a"},
    ]
    summary = dataset_summary(entries, 64, "png")
    assert summary["samples"] == {"train": 9, "heldout": 2}
    assert [e["name"] for e in summary["shards"]] == ["heldout-000000.tar", "train-000000.tar", "train-000001.tar"]
    assert dataset_summary(entries[::-1], 64, "png") == summary
