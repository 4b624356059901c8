"""Shard: kept samples into WebDataset tars, through Ray Data's group-by, and the index of where each lies."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from ray.data import DataContext
from ray.exceptions import RayError

from manifests.schema import Status
from manifests.shards import (
    SPLITS,
    ShardSample,
    Split,
    dataset_summary,
    join_rows,
    shard_name,
    shard_number,
    split_of,
    write_shard,
)
from manifests.store import Folder
from pipelines.parts import StageError, own_words
from pipelines.recipe import ShardSettings
from pipelines.stages.context import Context, Counts, frozen_parts, part_name

FOLDER = "shards"
PLAN_FILE = "plan.json"
_ENTRY = b"dataset.json"

_FACTS = ["source", "source_key", "width", "height", "facts"]
_ROUTED = pa.schema(
    [
        pa.field("shard", pa.string()),
        pa.field("sample_id", pa.string()),
        pa.field("record_id", pa.string()),
        pa.field("image", pa.binary()),
        pa.field("facts", pa.string()),
    ]
)


def progress(context: Context) -> tuple[int, int]:
    """(finished, all) shards."""
    folder = context.run.child(FOLDER)
    if not folder.exists(PLAN_FILE):
        return 0, 0
    expected = folder.read_json(PLAN_FILE)["samples"]
    return len(expected) - len(_unfinished(folder, expected)), len(expected)


def run(context: Context) -> Counts:
    """Write every shard, index.parquet and dataset.json."""
    folder, settings, seed = context.run.child(FOLDER), context.recipe.shard, context.recipe.seed
    numbers = [part.number for part in frozen_parts(context.run)]
    plan = _plan(context, numbers)
    expected: dict[str, int] = plan["samples"]
    image_format = context.recipe.ingest.image_format
    total = sum(expected.values())
    route = partial(route_part, context.run, settings, seed, plan["shards"])
    write = partial(write_group, folder, image_format, seed)
    left = _unfinished(folder, expected)
    with context.reporter.bar("shard", total, done=total - sum(expected[name] for name in left)) as bar:
        # What a lost node or worker took with it is done once more; then an error is an error.
        for last in (False, True):
            try:
                for done in _group(partial(route, only=left), write, numbers, context.recipe.resources.workers, left):
                    bar.advance(done)
            except RayError as error:
                if last:
                    raise StageError(own_words(error)) from error
            left = _unfinished(folder, expected)
            if not left:
                break
    return _finish(folder, expected, context.recipe.ingest.image_px, image_format)


def _plan(context: Context, numbers: list[int]) -> dict[str, Any]:
    """How many shards there are, and how many samples each of them gets; frozen when the run is first sharded."""
    folder, settings, seed = context.run.child(FOLDER), context.recipe.shard, context.recipe.seed
    if folder.exists(PLAN_FILE):
        plan: dict[str, Any] = folder.read_json(PLAN_FILE)
        return plan
    kept = Counter(split for split, _ in _kept_groups(context.run, numbers, settings, seed))
    if not kept["train"]:
        raise StageError(
            "no sample is left to train on; see the reasons in manifest.parquet, loosen ingest.filters or "
            "deduplicate.verdict, and run with --redo"
        )
    shards = {split: math.ceil(kept[split] / settings.shard_images) for split in SPLITS}
    samples: Counter[str] = Counter()
    for split, group in _kept_groups(context.run, numbers, settings, seed):
        samples[shard_name(split, shard_number(seed, group, shards[split]))] += 1
    folder.write_json(PLAN_FILE, {"shards": shards, "samples": dict(sorted(samples.items()))})
    return {"shards": shards, "samples": dict(sorted(samples.items()))}


def _kept_groups(run: Folder, numbers: list[int], settings: ShardSettings, seed: int) -> Iterator[tuple[Split, str]]:
    for number in numbers:
        decided = run.child("groups").read_table(part_name(number), ["sample_id", "status", "group_id"])
        decided = decided.filter(pc.equal(decided["status"], Status.KEPT.value))
        for group in pc.coalesce(decided["group_id"], decided["sample_id"]).to_pylist():
            yield split_of(seed, group, settings.heldout_share), group


def _unfinished(folder: Folder, expected: dict[str, int]) -> set[str]:
    # The rows of a shard are written after its tar, so they say that it is finished.
    names = set(folder.names())
    if "dataset.json" in names:
        return set()
    return {name for name in expected if _rows_name(name) not in names or name not in names}


def _rows_name(shard: str) -> str:
    return shard.replace(".tar", ".parquet")


def _group(route: Any, write: Any, numbers: list[int], workers: int | None, left: set[str]) -> Iterator[int]:
    if not left:
        return
    DataContext.get_current().max_errored_blocks = 0
    parts = ray.data.from_items([{"number": n} for n in numbers], override_num_blocks=len(numbers))
    routed = parts.map_batches(route, batch_size=None, batch_format="pyarrow", concurrency=workers, num_cpus=1)
    groups = routed.groupby("shard", num_partitions=len(left))
    for row in groups.map_groups(write, batch_format="pyarrow", num_cpus=1).iter_rows():
        yield int(row["samples"])


def route_part(
    run: Folder, settings: ShardSettings, seed: int, shards: dict[str, int], batch: pa.Table, only: set[str]
) -> pa.Table:
    """The kept samples of the batch's parts that belong to one of the shards `only`, each with its shard's name."""
    tables = [_routed(run, settings, seed, shards, number, only) for number in batch["number"].to_pylist()]
    return pa.concat_tables(tables)


def _routed(
    run: Folder, settings: ShardSettings, seed: int, shards: dict[str, int], number: int, only: set[str]
) -> pa.Table:
    decided = run.child("groups").read_table(part_name(number), ["sample_id", "status", "group_id"])
    kept = pc.equal(decided["status"], Status.KEPT.value)
    groups = pc.coalesce(decided["group_id"], decided["sample_id"]).filter(kept).to_pylist()
    splits = [split_of(seed, group, settings.heldout_share) for group in groups]
    names = [shard_name(s, shard_number(seed, g, shards[s])) for s, g in zip(splits, groups, strict=True)]
    wanted = np.array([name in only for name in names], dtype=bool)
    columns = ["sample_id", "record_id", "image", *_FACTS]
    table = run.child("samples").read_table(part_name(number), columns).filter(kept).filter(pa.array(wanted))
    facts = [json.dumps(row) for row in table.select([*_FACTS, "record_id"]).to_pylist()]
    return pa.table(
        {
            "shard": pa.array([n for n, w in zip(names, wanted, strict=True) if w], pa.string()),
            "sample_id": table["sample_id"],
            "record_id": table["record_id"],
            "image": table["image"],
            "facts": pa.array(facts, pa.string()),
        },
        schema=_ROUTED,
    )


def write_group(folder: Folder, image_format: str, seed: int, rows: pa.Table) -> pa.Table:
    """Write the shard that all of `rows` belong to."""
    name = rows["shard"][0].as_py()
    split: Split = "train" if name.startswith("train") else "heldout"
    samples = (
        ShardSample(row["sample_id"], row["record_id"], row["image"], json.loads(row["facts"]))
        for batch in rows.to_batches(max_chunksize=1024)
        for row in batch.to_pylist()
    )
    number = int(name.removesuffix(".tar").rpartition("-")[2])
    entry, index = write_shard(folder, split, number, samples, image_format, seed)
    folder.write_table(_rows_name(name), index.replace_schema_metadata({_ENTRY: json.dumps(entry)}))
    return pa.table({"shard": [name], "samples": [len(index)]})


def _finish(folder: Folder, expected: dict[str, int], image_px: int, image_format: str) -> Counts:
    """Put the shards' rows together, check them against the plan, and say what the data set is."""
    if not folder.exists("dataset.json"):
        tables, entries = [], []
        for name in sorted(expected):
            table = folder.read_table(_rows_name(name))
            entries.append(json.loads(table.schema.metadata[_ENTRY]))
            tables.append(table.replace_schema_metadata(None))
            if len(table) != expected[name]:
                raise StageError(f"{name}: expected {expected[name]} samples, got {len(table)}; run with --redo shard")
        folder.write_table("index.parquet", join_rows(tables))
        folder.write_json("dataset.json", dataset_summary(entries, image_px, image_format))
    for name in expected:
        folder.delete(_rows_name(name))
    dataset = folder.read_json("dataset.json")
    samples = dataset["samples"]
    return {"shards": len(dataset["shards"]), "samples": sum(samples.values()), **samples}
