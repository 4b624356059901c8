"""A part of a crawl: its log while it is fetched, one sealed file of it afterwards."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.denied import NOTHING_DENIED, DenyList
from manifests.store import Folder, part_name, sync_folder
from pipelines.crawl.addresses import host_of, parsed_url
from pipelines.crawl.connections import Lookup, opened_session, system_lookup
from pipelines.crawl.fetcher import Fetcher
from pipelines.crawl.log import Log, Tail
from pipelines.crawl.rows import FETCHED
from pipelines.crawl.settings import FetchSettings

# Of images that are in memory at once while a part is sealed or read.
_ROW_GROUP_BYTES = 16 * 2**20
_WITHOUT_IMAGE = [name for name in FETCHED.names if name != "image"]

Row = dict[str, Any]


sealed_name = part_name
"""The file of a part that is finished."""


def log_path(folder: Folder, part: int) -> Path:
    """The log of a part that is being fetched."""
    path = folder.local_path(f"log-{part:05d}.bin")
    assert path is not None, "check_ready refuses folders that can't be appended to"
    return path


def _unfinished_log_path(folder: Folder, part: int) -> Path:
    path = log_path(folder, part)
    return path.with_name(f".{path.name}")


async def fetch_parts(
    folder: Folder,
    settings: FetchSettings,
    rows: Sequence[Row],
    lookup: Lookup = system_lookup,
    denied: DenyList = NOTHING_DENIED,
) -> None:
    """Fetch and seal the parts of a group that are not sealed, one after another.

    `rows`: the group's, as PLANNED. `denied`: what is not asked for, or not kept.
    """
    hosts = frozenset(host_of(url) for url in (parsed_url(row["target"]) for row in rows) if url is not None)
    async with opened_session(settings, lookup) as session:
        fetcher = Fetcher(settings, session, hosts, denied)
        for part in dict.fromkeys(row["part"] for row in rows):
            settle(folder, part)
            if not folder.exists(sealed_name(part)):
                await _fetch_part(folder, part, fetcher, [row for row in rows if row["part"] == part])


async def _fetch_part(folder: Folder, part: int, fetcher: Fetcher, rows: list[Row]) -> None:
    path = log_path(folder, part)
    with Log(path) as log:
        left = [row for row in rows if row["number"] not in log.rows or log.rows[row["number"]]["may_retry"]]
        one_at_a_time = asyncio.Lock()

        async def fetch(row: Row) -> None:
            outcome, image = await fetcher.fetch(row["target"], row["hops"])
            record = {"number": row["number"], **outcome.row()}
            async with one_at_a_time:
                await asyncio.to_thread(log.append, record, image)

        async with asyncio.TaskGroup() as tasks:
            for row in left:
                tasks.create_task(fetch(row))
        _seal(folder, part, rows, log)
    drop_log(folder, part)


def _seal(folder: Folder, part: int, rows: list[Row], log: Log) -> None:
    def records() -> Iterator[Row]:
        for row in rows:
            number = row["number"]
            of_plan = {name: row[name] for name in ("number", "source", "url", "listed")}
            yield {**of_plan, **log.rows[number], "image": log.body(number)}

    with folder.write_atomic(sealed_name(part)) as file:
        compression = dict.fromkeys(_WITHOUT_IMAGE, "zstd") | {"image": "none"}
        leaves = {f"listed.list.element.{name}": "zstd" for name in ("key", "url", "person", "licence")}
        del compression["listed"]
        with pq.ParquetWriter(file, FETCHED, compression=compression | leaves, use_dictionary=["source"]) as writer:
            for batch in _batches(records()):
                writer.write_table(pa.Table.from_pylist(batch, FETCHED), row_group_size=len(batch))


def _batches(records: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record["image"] or b"")
        if size >= _ROW_GROUP_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def read_sealed(folder: Folder, part: int, columns: Sequence[str] = FETCHED.names) -> Iterator[pa.Table]:
    """The rows of a sealed part, in tables of which each fits into memory."""
    with folder.open_input(sealed_name(part)) as file:
        sealed = pq.ParquetFile(file)
        for place in range(sealed.num_row_groups):
            yield sealed.read_row_group(place, columns=list(columns))


def reopen(folder: Folder, part: int) -> bool:
    """Make a sealed part one that is being fetched, if it has rows that may be tried again; whether it has."""
    retry = [table["may_retry"].to_pylist() for table in read_sealed(folder, part, ["may_retry"])]
    if not any(any(flags) for flags in retry):
        return False
    path = log_path(folder, part)
    temporary = _unfinished_log_path(folder, part)
    temporary.unlink(missing_ok=True)
    with Log(temporary) as log:
        for table in read_sealed(folder, part):
            for row in table.to_pylist():
                if not row["may_retry"]:
                    image = row.pop("image")
                    log.append({name: row[name] for name in row if name not in ("source", "url", "listed")}, image)
    # The log stands before the part is gone, so that a kill loses nothing; while both stand, the part is what counts.
    temporary.rename(path)
    sync_folder(path.parent)
    folder.delete(sealed_name(part))
    return True


def settle(folder: Folder, part: int) -> None:
    """Leave one of the two where a kill left a part that is sealed and a log beside it.

    A log that holds the whole part was about to be deleted. One that lacks rows was made to fetch these again: it is
    made again from what is sealed, which may have changed since.
    """
    path = log_path(folder, part)
    if not path.exists() or not folder.exists(sealed_name(part)):
        return
    with folder.open_input(sealed_name(part)) as file:
        rows = pq.ParquetFile(file).metadata.num_rows
    if Tail(path).count() >= rows or not reopen(folder, part):
        drop_log(folder, part)


def drop_log(folder: Folder, part: int) -> None:
    """Delete the log of a part that is sealed, and one that was not made to its end; absent is fine."""
    log_path(folder, part).unlink(missing_ok=True)
    _unfinished_log_path(folder, part).unlink(missing_ok=True)
