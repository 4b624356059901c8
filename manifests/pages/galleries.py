"""What stands in galleries: the largest groups, those members that the verdict was least sure of, and pictures."""

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from manifests.audit import texts
from manifests.pages.template import image_uri
from manifests.schema import THUMB_PX, Reason
from manifests.store import Folder

COLUMNS = ["sample_id", "source_key", "width", "height", "whole_thumb"]
BATCH_ROWS = 1024  # that are in memory with their thumbs
PICTURE_PX = 64


class Member(NamedTuple):
    """A sample of a near-duplicate group: bits between its hashes and its keeper's, and how sure the verdict was.

    The border of the score is at 0; the keeper itself has none.
    """

    sample_id: str
    keeper_id: str
    distance: int
    score: float | None


class Look(NamedTuple):
    """What a sample looks like: its whole thumb as a PNG data URI, and the source's size."""

    source_key: str
    width: int | None
    height: int | None
    picture: str


def largest_groups(groups: pa.Table, limit: int, members: int) -> list[tuple[int, list[Member]]]:
    """The largest groups: size, and the keeper with the surest of the others, `members` in all."""
    order = [("count_all", "descending"), ("group_id", "ascending")]
    sizes = groups.group_by("group_id").aggregate([([], "count_all")]).sort_by(order).slice(0, limit)
    chosen = []
    for row in sizes.to_pylist():
        group = groups.filter(pc.equal(groups["group_id"], row["group_id"]))
        group = group.append_column("other", pc.not_equal(group["sample_id"], group["keeper_id"]).cast(pa.int8()))
        surest = group.sort_by([("other", "ascending"), ("score", "descending"), ("sample_id", "ascending")])
        chosen.append((row["count_all"], _members(surest.slice(0, members))))
    return chosen


def borderline(groups: pa.Table, limit: int) -> list[Member]:
    """The members that the verdict was least sure of, the least sure first."""
    others = groups.filter(pc.not_equal(groups["sample_id"], groups["keeper_id"]))
    return _members(others.sort_by([("score", "ascending"), ("sample_id", "ascending")]).slice(0, limit))


def looks(run: Folder, sample_ids: set[str]) -> dict[str, Look]:
    """The looks of some samples. Reads ids part by part, and thumbs only of parts that hold one of them."""
    found: dict[str, Look] = {}
    for rows in _rows_of(run, "sample_id", sample_ids, COLUMNS):
        found = _looks(rows) | found
        if len(found) == len(sample_ids):
            break
    return found


def pictures(run: Folder, record_ids: set[str]) -> dict[str, str]:
    """The training images of some rows as JPEG data URIs of at most PICTURE_PX pixels a side, by record id."""
    found: dict[str, str] = {}
    for rows in _rows_of(run, "record_id", record_ids, ["record_id", "image"]):
        images = zip(rows["record_id"].to_pylist(), rows["image"].to_pylist(), strict=True)
        found |= {record: _jpeg_uri(image) for record, image in images if image}
        if len(found) == len(record_ids):
            break
    return found


def _rows_of(run: Folder, key: str, values: set[str], columns: list[str]) -> Iterator[pa.Table]:
    """The ingested rows that have one of the values, a stretch of a part at a time."""
    wanted = pa.array(sorted(values), pa.string())
    samples = run.child("samples")
    for name in samples.names() if values else []:
        if not name.startswith("part-"):
            continue
        here = pc.is_in(samples.read_table(name, [key]).column(0), wanted)
        if not pc.any(here).as_py():
            continue
        with samples.open_input(name) as file:
            for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS, columns=columns):
                yield pa.table(batch).filter(pc.is_in(batch.column(key), wanted))


def _looks(rows: pa.Table) -> dict[str, Look]:
    found = {}
    keys = texts(rows["source_key"])
    for row, key in zip(rows.drop_columns(["source_key"]).to_pylist(), keys, strict=True):
        if row["whole_thumb"] is not None:
            found[row["sample_id"]] = Look(key, row["width"], row["height"], picture_uri(row["whole_thumb"]))
    return found


def details(run: Folder, sample_ids: set[str]) -> dict[str, str]:
    """What the ledger says of why some near-duplicates were removed; nothing of samples that were not."""
    if not run.exists("manifest.parquet"):
        return {}
    found: dict[str, str] = {}
    wanted = pa.array(sorted(sample_ids), pa.string())
    with run.open_input("manifest.parquet") as file:
        columns = ["sample_id", "reason", "detail"]
        for batch in pq.ParquetFile(file).iter_batches(columns=columns):
            near = pc.equal(batch.column("reason"), Reason.NEAR_DUPLICATE.value)
            rows = batch.filter(pc.and_(near, pc.is_in(batch.column("sample_id"), wanted))).to_pylist()
            found |= {row["sample_id"]: row["detail"] for row in rows if row["detail"]}
    return found


def picture_uri(thumb: bytes) -> str:
    """A thumb, uint8[32, 32, 3] RGB, as a PNG data URI."""
    pixels = np.frombuffer(thumb, np.uint8).reshape(THUMB_PX, THUMB_PX, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return image_uri(buffer.getvalue())


def _jpeg_uri(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as image:
        shown = image.convert("RGB")
    shown.thumbnail((PICTURE_PX, PICTURE_PX))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=85)
    return image_uri(buffer.getvalue(), "jpeg")


def _members(groups: pa.Table) -> list[Member]:
    columns = (groups[name].to_pylist() for name in Member._fields)
    return [Member(*row) for row in zip(*columns, strict=True)]
