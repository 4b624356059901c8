"""Takedown: who is affected, and every file of a run without them.

Files that others are made from come last, so that a takedown that is cut off goes on when it is asked for again.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.denied import DenyList, copies_hashes, emptied, is_flat, person_sha256, url_sha256
from manifests.perceptual import VIEWS
from manifests.schema import SAMPLES, THUMB_PX
from manifests.shards import ShardSample, Split, dataset_summary, join_rows, write_shard
from manifests.store import Folder

_SEEN = ["record_id", "sample_id", "parent_id", "sha256", "url", "person", "status"]


@dataclass(frozen=True)
class Affected:
    """What a takedown reaches.

    rows: of the deny list, one for each image and face; records: how many images; named: those that were asked for, the
    others are copies of them; kept: sample ids that are in shards
    """

    rows: list[dict[str, Any]]
    images: int
    faces: int
    named: int
    kept: frozenset[str]


def find_affected(
    run: Folder, asked: Callable[[pa.Table], np.ndarray[Any, np.dtype[np.bool_]]], whole_person: str | None = None
) -> Affected:
    """All rows of the images that `asked` names, of their copies in the ledger, and of the faces in any of these.

    asked: bool[N] of a table of rows with record_id, sample_id, sha256, url, person, phash and phash_mirror
    whole_person: the name to deny from now on
    """
    table = _ledger(run)
    image_of = pc.coalesce(table["parent_id"], table["record_id"]).to_pylist()
    groups = _groups(run)
    ties: dict[str, list[int]] = {}
    names: list[list[str]] = []
    for row, (image, sample, sha) in enumerate(
        zip(image_of, table["sample_id"].to_pylist(), table["sha256"].to_pylist(), strict=True)
    ):
        tied = [image, f"sha {sha}"] if sha is not None else [image]
        if sample in groups:
            tied.append(f"group {groups[sample]}")
        names.append(tied)
        for name in tied:
            ties.setdefault(name, []).append(row)
    start = np.flatnonzero(asked(table)).tolist()
    reached, left = set(start), list(start)
    while left:
        for name in names[left.pop()]:
            new = [row for row in ties.pop(name, ()) if row not in reached]
            reached.update(new)
            left += new
    rows = sorted(reached)
    chosen = table.take(pa.array(rows, pa.int64()))
    hashes = _hashes(run, set(chosen["record_id"].to_pylist()))
    asked_images = {image_of[row] for row in start}
    wanted = None if whole_person is None else person_sha256(whole_person)
    denied = [
        {
            "record_id": row["record_id"],
            "sample_id": row["sample_id"],
            "sha256": row["sha256"],
            "url_sha256": None if row["url"] is None else url_sha256(row["url"]),
            "person_sha256": wanted,
            "phashes": hashes.get(row["record_id"]),
        }
        for row in chosen.to_pylist()
    ]
    return Affected(
        rows=denied,
        images=pc.sum(pc.is_null(chosen["parent_id"])).as_py() or 0,
        faces=pc.sum(pc.is_valid(chosen["parent_id"])).as_py() or 0,
        named=len(asked_images),
        kept=frozenset(sample for sample in chosen["sample_id"].to_pylist() if sample is not None)
        & frozenset(_index(run)["sample_id"].to_pylist()),
    )


def _ledger(run: Folder) -> pa.Table:
    columns = [*_SEEN, "phash", "phash_mirror"]
    empty = pa.schema([SAMPLES.field(name) for name in columns]).empty_table()
    return pa.concat_tables([empty, *run.child("samples").read_tables("part-", columns)])


def _groups(run: Folder) -> dict[str, str]:
    """Sample id -> group, of groups of two or more."""
    if not run.child("groups").exists("groups.parquet"):
        return {}
    table = run.child("groups").read_table("groups.parquet", ["sample_id", "group_id"])
    return dict(zip(table["sample_id"].to_pylist(), table["group_id"].to_pylist(), strict=True))


def _hashes(run: Folder, records: set[str]) -> dict[str, list[int]]:
    """Record id -> what copies of it may hash like, of rows that have a thumb."""
    found: dict[str, list[int]] = {}
    wanted = pa.array(sorted(records), pa.string())
    for table in run.child("samples").read_tables("part-", ["record_id", "whole_thumb", "phash", "phash_mirror"]):
        table = table.filter(pc.is_in(table["record_id"], wanted))
        for row in table.filter(pc.is_valid(table["phash"])).to_pylist():
            # Of an image that faces are cut out of, the views are not known: the whole stands for each.
            found[row["record_id"]] = [row["phash"], row["phash_mirror"]] * len(VIEWS)
        table = table.filter(pc.is_valid(table["whole_thumb"]))
        if not len(table):
            continue
        thumbs = np.frombuffer(b"".join(table["whole_thumb"].to_pylist()), np.uint8)
        thumbs = thumbs.reshape(-1, THUMB_PX, THUMB_PX, 3)
        rows = zip(table["record_id"].to_pylist(), thumbs, copies_hashes(thumbs).tolist(), strict=True)
        for record, thumb, hashes in rows:
            found[record] = hashes
            if is_flat(thumb):
                del found[record]
    return found


def _index(run: Folder) -> pa.Table:
    if not run.child("shards").exists("index.parquet"):
        return pa.table({"sample_id": pa.array([], pa.string()), "shard": pa.array([], pa.string())})
    return run.child("shards").read_table("index.parquet", ["sample_id", "shard"])


def touched_shards(run: Folder, denied: frozenset[str]) -> list[str]:
    """The tars that hold one of these samples."""
    index = _index(run)
    held = index.filter(pc.is_in(index["sample_id"], pa.array(sorted(denied), pa.string())))
    return sorted(set(held["shard"].to_pylist()))


def rewrite_shards(run: Folder, denied: DenyList, image_format: str, image_px: int, seed: int) -> list[str]:
    """Write every tar that holds a denied sample without it, then the index; return their names.

    A tar is the same, byte for byte, as one that was written without these samples; one that held no others is deleted.
    No other tar is touched.
    """
    folder = run.child("shards")
    names = touched_shards(run, denied.sample_ids)
    if not names:
        return []
    index, dataset = folder.read_table("index.parquet"), folder.read_json("dataset.json")
    entries = {entry["name"]: entry for entry in dataset["shards"]}
    tables = [index.filter(pc.invert(pc.is_in(index["shard"], pa.array(names, pa.string()))))]
    for name in names:
        split: Split = "train" if name.startswith("train") else "heldout"
        # Of a takedown that was cut off before the index was written, an empty tar and its entry may be gone.
        held = read_samples(folder, name) if folder.exists(name) else ()
        left = [sample for sample in held if sample.sample_id not in denied.sample_ids]
        entries.pop(name, None)
        if not left:
            folder.delete(name)
            continue
        number = int(name.removesuffix(".tar").rpartition("-")[2])
        entries[name], rows = write_shard(folder, split, number, left, image_format, seed)
        tables.append(rows)
    order = [("shard", "ascending"), ("offset", "ascending")]
    folder.write_json("dataset.json", dataset_summary(list(entries.values()), image_px, image_format))
    if folder.exists("plan.json"):
        plan = folder.read_json("plan.json")
        plan["samples"] = {name: entries[name]["samples"] for name in plan["samples"] if name in entries}
        folder.write_json("plan.json", plan)
    # The index comes last: by it the tars are found that are still to be written.
    folder.write_table("index.parquet", _in_order(join_rows(tables), index).sort_by(order))
    return names


def _in_order(table: pa.Table, like: pa.Table) -> pa.Table:
    return table.select(like.column_names).cast(like.schema)


def read_samples(folder: Folder, name: str) -> Iterator[ShardSample]:
    """The samples of a tar that `write_shard` wrote."""
    with tarfile.open(fileobj=io.BytesIO(folder.read_bytes(name)), mode="r:") as tar:
        image = b""
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            key, _, extension = member.name.partition(".")
            if extension != "json":
                image = file.read()
                continue
            facts = json.loads(file.read())
            yield ShardSample(key, facts["record_id"], image, facts)


def purge_tables(run: Folder, denied: DenyList) -> None:
    """Take what is denied out of the tables of ingest, encode and deduplicate; the samples come last."""
    for name in ("groups.parquet", "against.parquet"):
        _keep_rows(run.child("groups"), name, "sample_id", denied.sample_ids)
    for name in run.child("groups").names():
        if name.startswith("part-"):
            _empty_rows(run, "groups", name, denied.record_ids)
    for folder in (run.child("codes"), run.child("samples")):
        for name in folder.names():
            if name.startswith("plants-") or (name.startswith("part-") and folder.address.endswith("/codes")):
                _keep_rows(folder, name, "sample_id", denied.sample_ids)
    for name in run.child("samples").names():
        if name.startswith("part-"):
            _empty_rows(run, "samples", name, denied.record_ids)


def _keep_rows(folder: Folder, name: str, column: str, denied: Iterable[str]) -> None:
    if not folder.exists(name):
        return
    held = pc.is_in(folder.read_table(name, [column])[column], pa.array(sorted(denied), pa.string()))
    if pc.any(held).as_py():
        folder.write_table(name, folder.read_table(name).filter(pc.invert(held)))


def _empty_rows(run: Folder, folder: str, name: str, denied: frozenset[str]) -> None:
    """Empty the denied rows of a part; the tables of all stages have its rows in the same order."""
    ids = run.child("samples").read_table(name, ["record_id"])["record_id"]
    if not pc.any(pc.is_in(ids, pa.array(sorted(denied), pa.string()))).as_py():
        return
    table = run.child(folder).read_table(name)
    rows = [
        emptied(row | {"record_id": record}) if record in denied else row
        for row, record in zip(table.to_pylist(), ids.to_pylist(), strict=True)
    ]
    run.child(folder).write_table(name, pa.Table.from_pylist(rows, schema=table.schema))
