"""WebDataset tars and their index: which shard a sample goes to, the writer, and the readers by index.

The same samples give the same bytes: fixed times and owners, members in an order that comes of the ids alone.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import webdataset

from manifests.schema import LABEL, SHARD_INDEX
from manifests.store import Folder

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")

# A tar stores numbers of the owner and the time; fixed, so that they say nothing and never change.
_MTIME_S = 0
_LARGEST_LABEL = (1 << 31) - 1
_OWNER = "dcgan"
_TAR_HEADER_BYTES = 512


class ShardSample(NamedTuple):
    """One sample on its way into a tar."""

    sample_id: str
    record_id: str
    image: bytes
    facts: dict[str, Any]  # what KEY.json says


def _fraction(*parts: object) -> float:
    """A number in [0, 1) that comes of the parts alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def split_of(seed: int, group_id: str, heldout_share: float) -> Split:
    """Train or heldout, by hash of the group id, so that a group never straddles the two."""
    return "heldout" if _fraction("split", seed, group_id) < heldout_share else "train"


def shard_number(seed: int, group_id: str, shards: int) -> int:
    """The number of the shard, 0..shards-1, by hash of the group id."""
    return int(_fraction("shard", seed, group_id) * shards)


def shard_name(split: Split, number: int) -> str:
    """The file name of a shard."""
    return f"{split}-{number:06d}.tar"


def place_in_shard(seed: int, sample_id: str) -> str:
    """What samples are ordered by inside a shard."""
    return hashlib.sha256(f"place\0{seed}\0{sample_id}".encode()).hexdigest()


def write_shard(
    folder: Folder, split: Split, number: int, samples: Iterable[ShardSample], image_format: str, seed: int
) -> tuple[dict[str, Any], pa.Table]:
    """Write one tar, atomically; return its entry in `dataset.json` and its rows of the index, with their labels.

    The tar is put together in memory, so a shard's size bounds it. `image_format`: png or jpeg. Members are
    `KEY.png` (or `KEY.jpg`) and `KEY.json`, KEY being the sample id: no dots, at which WebDataset would cut it.

    Raises:
        ValueError: a sample id is there twice.
    """
    extension = {"png": "png", "jpeg": "jpg"}[image_format]
    name = shard_name(split, number)
    ordered = sorted(samples, key=lambda s: place_in_shard(seed, s.sample_id))
    buffer = io.BytesIO()
    rows: list[dict[str, Any]] = []
    labels: list[int | None] = []
    seen: set[str] = set()
    with webdataset.TarWriter(
        buffer, mtime=_MTIME_S, user=_OWNER, group=_OWNER, compress=False, encoder=False
    ) as writer:
        for sample in ordered:
            if sample.sample_id in seen:
                raise ValueError(f"sample {sample.sample_id} is twice in {name}; every sample has one row")
            seen.add(sample.sample_id)
            offset = writer.tarstream.offset + _TAR_HEADER_BYTES
            writer.write({"__key__": sample.sample_id, extension: sample.image})
            text = json.dumps(sample.facts, sort_keys=True, separators=(",", ":"))
            writer.write({"__key__": sample.sample_id, "json": text.encode()})
            rows.append(
                {
                    "sample_id": sample.sample_id,
                    "record_id": sample.record_id,
                    "split": split,
                    "shard": name,
                    "offset": offset,
                    "size_bytes": len(sample.image),
                    "sha256": hashlib.sha256(sample.image).hexdigest(),
                }
            )
            labels.append(_label(sample.facts))
    data = buffer.getvalue()
    folder.write_bytes(name, data)
    entry = {
        "name": name,
        "split": split,
        "samples": len(rows),
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    table = pa.Table.from_pylist(rows, schema=SHARD_INDEX)
    if any(label is not None for label in labels):
        table = table.append_column(LABEL, pa.array(labels, LABEL.type))
    return entry, table


def _label(facts: dict[str, Any]) -> int | None:
    """The number of the class that a source says an image is of."""
    said = facts.get("facts")
    told = json.loads(said) if isinstance(said, str) else None
    label = told.get("label") if isinstance(told, dict) else None
    return label if type(label) is int and 0 <= label <= _LARGEST_LABEL else None


def join_rows(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of several shards as one index, which has a column of labels where any of them has."""
    table = pa.concat_tables(tables, promote_options="default")
    schema = SHARD_INDEX.append(LABEL) if LABEL.name in table.column_names else SHARD_INDEX
    return table.select(schema.names).cast(schema)


def read_image(folder: Folder, shard: str, offset: int, size_bytes: int) -> bytes:
    """The encoded image that lies at an index row's place.

    Raises:
        ValueError: the shard is shorter than its index says.
    """
    with folder.open_input(shard) as file:
        data = bytes(file.read_at(size_bytes, offset))
    if len(data) != size_bytes:
        raise ValueError(
            f"{shard}: expected {size_bytes} bytes at {offset}, got {len(data)}; the shard is cut short, "
            "make it again with --redo shard"
        )
    return data


def read_labels(folder: Folder, index: str, split: str) -> pa.ChunkedArray | None:
    """The labels of a split's samples by shard and offset, null where one has none; None where the index has no labels.

    index: the name of the index's file.
    """
    with folder.open_input(index) as file, pq.ParquetFile(file) as parquet:
        if LABEL.name not in parquet.schema_arrow.names:
            return None
        table = parquet.read(["shard", "offset", "split", LABEL.name])
    table = table.filter(pc.field("split") == split).sort_by([("shard", "ascending"), ("offset", "ascending")])
    return table[LABEL.name]


def dataset_summary(entries: Sequence[dict[str, Any]], image_px: int, image_format: str) -> dict[str, Any]:
    """What `dataset.json` says: the shards with their sha256, and the samples of each split."""
    ordered = sorted(entries, key=lambda e: str(e["name"]))
    return {
        "image_px": image_px,
        "image_format": image_format,
        "samples": {split: sum(int(e["samples"]) for e in ordered if e["split"] == split) for split in SPLITS},
        "shards": ordered,
    }
