"""The manifest: the parts' ledgers with what was decided of each row, and whom and what each kept row stands for."""

import math
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests.schema import LEDGER, MANIFEST, TEXTS, Status
from manifests.store import Folder
from pipelines.stages.context import part_name

MANIFEST_FILE = "manifest.parquet"
GROUPS_FOLDER = "groups"
# Rows that are in memory at once.
_ROWS = 100_000
# Columns of few distinct values.
_DICTIONARY = ["source", "status", "reason", "format", "person", "licence"]
_LISTS = {"persons": "person", "urls": "url"}

DECIDED = pa.schema(
    [
        MANIFEST.field(name)
        for name in ("sample_id", "status", "reason", "detail", "group_id", "keeper_id", "distance", "score")
    ]
)
"""groups/part-*.parquet: what was decided of each row of the part, in the order of the part."""


def write_manifest(run: Folder, numbers: list[int]) -> None:
    """Write manifest.parquet: all parts' ledgers with what was decided, sorted by record id.

    Record ids are hashes, so a range of them is an even share of the rows: a range is sorted at a time, and memory
    stays the same however many there are. But for one thing: persons and urls of rows that went for another, which is
    in any of the ranges, are held.
    """
    rows = sum(_rows(run.child("samples"), number) for number in numbers)
    ranges = max(1, math.ceil(rows / _ROWS))
    edges = [f"{i * (1 << 64) // ranges:016x}" for i in range(ranges)]
    brought = pa.concat_tables([_brought(run, number) for number in numbers])
    with run.write_atomic(MANIFEST_FILE) as file:
        writer = pq.ParquetWriter(file, MANIFEST, compression="zstd", use_dictionary=_DICTIONARY)
        with writer:
            for low, high in zip(edges, [*edges[1:], "g"], strict=True):
                tables = map(partial(_range, run, low=low, high=high), numbers)
                ledger = pa.concat_tables(tables).sort_by("record_id")
                columns = {name: lists(ledger, brought, of) for name, of in _LISTS.items()}
                columns |= {name: ledger[name] for name in ledger.column_names}
                writer.write_table(pa.table({name: columns[name] for name in MANIFEST.names}, schema=MANIFEST))


def _rows(samples: Folder, number: int) -> int:
    with samples.open_input(part_name(number)) as file:
        return int(pq.read_metadata(file).num_rows)


def _range(run: Folder, number: int, low: str, high: str) -> pa.Table:
    """The manifest's rows of one part whose record id is in [low, high), without the lists."""
    ledger = run.child("samples").read_table(part_name(number), LEDGER.names)
    decided = run.child(GROUPS_FOLDER).read_table(part_name(number))
    fields = [field for field in MANIFEST if field.name not in _LISTS]
    columns = {f.name: decided[f.name] if f.name in decided.column_names else ledger[f.name] for f in fields}
    table = pa.table(columns, schema=pa.schema(fields))
    inside = pc.and_(pc.greater_equal(table["record_id"], low), pc.less(table["record_id"], high))
    return table.filter(inside)


def _brought(run: Folder, number: int) -> pa.Table:
    """keeper_id, person and url of a part's rows that were dropped for another one."""
    decided = run.child(GROUPS_FOLDER).read_table(part_name(number), ["status", "keeper_id"])
    said = run.child("samples").read_table(part_name(number), list(_LISTS.values()))
    went = pc.and_(pc.equal(decided["status"], Status.DROPPED.value), pc.is_valid(decided["keeper_id"]))
    some = pc.or_(pc.is_valid(said["person"]), pc.is_valid(said["url"]))
    return said.append_column("keeper_id", decided["keeper_id"]).filter(pc.and_(went, some))


def lists(ledger: pa.Table, brought: pa.Table, column: str) -> pa.Array:
    """Of each kept row the distinct values of a column, its own and those that other rows bring; null of other rows.

    `ledger`: sample_id, status and the column; `brought`: the column and keeper_id, the sample of the row that stays,
    which may be of another range, or of an earlier run.
    """
    kept = pa.array(np.flatnonzero(pc.equal(ledger["status"], Status.KEPT.value).to_numpy()))
    samples = ledger["sample_id"].take(kept).combine_chunks()
    own = pa.table({"row": kept, "value": ledger[column].take(kept)})
    place = pc.index_in(brought["keeper_id"], value_set=samples)
    others = pa.table({"row": pc.take(kept, place), "value": brought[column]})
    pairs = pa.concat_tables([own, others]).drop_null().group_by(["row", "value"]).aggregate([])
    pairs = pairs.sort_by([("row", "ascending"), ("value", "ascending")])
    lengths = np.bincount(pairs["row"].to_numpy(), minlength=len(ledger))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = pairs["value"].combine_chunks()
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=TEXTS, mask=pa.array(lengths == 0))
