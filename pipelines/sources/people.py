"""Lists of what is known beforehand: a CSV or Parquet file of file (or url) -> person, url, licence.

A list is read once, when the parts are made: what it says of a record then travels in the part, so that no worker ever
holds the list.
"""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.sources.lists import TEXT, UnreadableList, read_list
from pipelines.sources.record import SourceError

_OPTIONAL = ("url", "licence")
_ROWS_AT_ONCE = 4096


class Known(NamedTuple):
    """What a list says of a record; None where it says nothing."""

    person: str | None = None
    url: str | None = None
    licence: str | None = None


def read_people(source: str, address: str, key: str) -> pa.Table:
    """A list as a table of `key`, person, url and licence; empty values are null, absent columns (url, licence) too.

    `key` is the column that says which record a row is of: file or url.

    Raises:
        SourceError: it can't be read, lacks columns, has rows without a key, or has a key twice.
    """
    names = tuple(dict.fromkeys((key, "person", *_OPTIONAL)))
    try:
        found, all_names = read_list(address, names)
    except UnreadableList as error:
        raise SourceError(
            f"source {source}: people {address} can't be read ({error}); name a CSV with a header line, in UTF-8, or "
            f"a Parquet file, with the columns {key}, person and, if known, url and licence"
        ) from error
    missing = [name for name in (key, "person") if name not in found.column_names]
    if missing:
        raise SourceError(
            f"source {source}: people {address} has no column {' and no column '.join(missing)}; it has "
            f"{', '.join(all_names) or 'none'}"
        )
    absent = pa.nulls(len(found), TEXT)
    table = pa.table({name: found[name] if name in found.column_names else absent for name in names})
    _check_keys(source, address, table[key], key)
    return table


def _check_keys(source: str, address: str, keys: pa.ChunkedArray, key: str) -> None:
    faults = []
    if keys.null_count:
        faults.append(f"{keys.null_count:,} of {len(keys):,} rows have no {key}")
    counts = pc.value_counts(keys.drop_null())
    again = counts.filter(pc.greater(pc.struct_field(counts, 1), 1))
    if len(again):
        faults.append(f"{len(again):,} {key}s stand in more than one row (such as {again[0]['values'].as_py()})")
    if faults:
        raise SourceError(f"source {source}: people {address}: {'; '.join(faults)}; give each {key} one row")


def known_of(people: pa.Table, key: str, records: Sequence[str]) -> tuple[Iterator[Known], int]:
    """What the list says of each record, in their order; and how many of its rows are of no record."""
    at = pc.index_in(pa.array(records, TEXT), value_set=people[key].combine_chunks())
    table = people.select(list(Known._fields)).take(at)
    return _rows(table), people.num_rows - len(pc.unique(at.drop_null()))


def _rows(table: pa.Table) -> Iterator[Known]:
    for batch in table.to_batches(_ROWS_AT_ONCE):
        yield from map(Known, *(column.to_pylist() for column in batch.columns))


def unknown_row(people: pa.Table, key: str, records: Sequence[str]) -> str:
    """The key of the first row that is of no record."""
    strange = pc.invert(pc.is_in(people[key], value_set=pa.array(records, TEXT)))
    return str(people[key].filter(strange)[0].as_py())


def packed(known: Known) -> bytes:
    """What is known, as a part keeps it; nothing for nothing."""
    return json.dumps(known, ensure_ascii=False).encode("utf-8") if any(known) else b""


def unpacked(data: bytes) -> Known:
    """What `packed` packed."""
    return Known(*json.loads(data)) if data else Known()
