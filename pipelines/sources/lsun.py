"""LSUN LMDBs: hex keys, encoded images as values. Reader, writer, and the check that a damaged one can't kill us."""

import contextlib
import hashlib
import os
import struct
import uuid
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import lmdb
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from pipelines.sources.record import PartRange, Record, SourceError, SourceSettings, text_key

_DATA_FILE = "data.mdb"
_MAGIC = 0xBEEFC0DE
_PAGE_HEADER_BYTES = 16
# In a meta page: magic and version, address and map size, then two databases of 48 bytes, last page, transaction.
_META = struct.Struct("<II QQ 96s QQ")
# The file grows as it is written; the map is only an upper bound on addresses.
_MAP_SIZE_BYTES = 1 << 40
_PUT_BATCH = 1024


class LsunSource(SourceSettings):
    """One LSUN LMDB (`bedroom_train_lmdb` and the like). Several of them are several sources."""

    kind: Literal["lsun"]
    path: str = Field(description="The LMDB's folder; local or mounted, since an LMDB is memory-mapped")
    truth: str | None = Field(
        None, description="A truth.parquet beside a drawn LMDB: the planted near-duplicates to measure against"
    )
    first: int | None = Field(None, ge=1, description="Take only this many records, the first in order of key")

    def ranges(self, part_images: int) -> list[PartRange]:
        """Key ranges of at most `part_images` records, from a scan that reads keys only."""
        check_lmdb(self.path, self.name)
        self._check_truth()
        ranges: list[PartRange] = []
        with _opened(self.path, self.name) as cursor:
            count = 0
            start = b""
            for key in cursor.iternext(keys=True, values=False):
                if self.first is not None and len(ranges) * part_images + count >= self.first:
                    break
                if count == 0:
                    start = bytes(key)
                count += 1
                if count == part_images:
                    ranges.append(PartRange(count, start))
                    count = 0
            if count:
                ranges.append(PartRange(count, start))
        if not ranges:
            raise SourceError(f"source {self.name}: {self.path} holds no records; check the path")
        return ranges

    def _check_truth(self) -> None:
        if self.truth is None:
            return
        try:
            columns = set(pq.read_schema(self.truth).names)
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(
                f"source {self.name}: truth {self.truth} can't be read ({error}); name the truth.parquet of "
                "dcgan draw, or leave truth out"
            ) from error
        if not {"source_key", "origin_key"} <= columns:
            raise SourceError(
                f"source {self.name}: truth {self.truth} has no columns source_key and origin_key; it has "
                f"{', '.join(sorted(columns))}"
            )

    def read(self, part: PartRange) -> Iterator[Record]:
        """The records of a key range."""
        with _opened(self.path, self.name) as cursor:
            found = cursor.set_key(part.start)
            for number in range(part.records):
                if not found:
                    raise SourceError(
                        f"source {self.name}: expected {part.records} records from key {part.start!r} on, "
                        f"got {number}; {self.path} changed since the run began: start a new run folder"
                    )
                key, value = cursor.item()
                yield Record(text_key(bytes(key)), bytes(value))
                found = cursor.next()


@contextlib.contextmanager
def _opened(path: str, name: str) -> Iterator[lmdb.Cursor]:
    """A cursor over a checked LMDB."""
    check_lmdb(path, name)
    try:
        with _environment(os.path.realpath(_data_file(path)), os.getpid()).begin(buffers=False) as transaction:
            yield transaction.cursor()
    except lmdb.Error as error:
        raise SourceError(f"source {name}: {path} can't be read as an LMDB ({error}); fetch it again") from error


@cache
def _environment(data_file: str, process_id: int) -> lmdb.Environment:
    # Once per process (opening the same LMDB twice in one is undefined), and never one from before a fork.
    return lmdb.open(data_file, readonly=True, lock=False, readahead=False, max_readers=1, subdir=False)


def _data_file(path: str) -> Path:
    return Path(path) / _DATA_FILE if os.path.isdir(path) else Path(path)


def check_lmdb(path: str, name: str) -> None:
    """Compare the data file's size with what its newest meta page says.

    A truncated LMDB opens without complaint, and kills the process with SIGBUS at the first missing page.

    Raises:
        SourceError: not local, not there, no LMDB, or cut short.
    """
    if "://" in path:
        raise SourceError(
            f"source {name}: {path} is a URI; an LMDB is memory-mapped and must be local: copy it or mount its disk"
        )
    data_file = _data_file(path)
    try:
        size_bytes = data_file.stat().st_size
        with data_file.open("rb") as file:
            head = file.read(_PAGE_HEADER_BYTES + _META.size)
            first = _read_meta(head)
            # The page size stands in the flags of the first of the two databases.
            page_bytes = struct.unpack_from("<I", head, _PAGE_HEADER_BYTES + 24)[0] if first else 0
            second = None
            if first and 512 <= page_bytes <= 1 << 16:
                file.seek(page_bytes)
                second = _read_meta(file.read(_PAGE_HEADER_BYTES + _META.size))
    except OSError as error:
        raise SourceError(
            f"source {name}: {data_file} can't be read ({error.strerror}); set sources.N.path to an LMDB's folder"
        ) from error
    if first is None or second is None:
        raise SourceError(f"source {name}: {data_file} is no LMDB (or its first pages are damaged); fetch it again")
    last_page = max(first, second, key=lambda meta: meta[1])[0]
    expected_bytes = (last_page + 1) * page_bytes
    if size_bytes < expected_bytes:
        raise SourceError(
            f"source {name}: {data_file} is cut short: expected {expected_bytes} bytes, "
            f"got {size_bytes}; fetch it again"
        )


def _read_meta(page: bytes) -> tuple[int, int] | None:
    """(last page, transaction) of a meta page; None where it is none."""
    if len(page) < _PAGE_HEADER_BYTES + _META.size:
        return None
    magic, _, _, _, _, last_page, transaction = _META.unpack_from(page, _PAGE_HEADER_BYTES)
    return (last_page, transaction) if magic == _MAGIC else None


def lsun_key(name: str) -> str:
    """An LSUN-like key, 40 hex digits, of a name."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def write_lmdb(path: str | Path, items: Iterable[tuple[str, bytes]]) -> int:
    """Write an LMDB of (key, encoded image); return how many were written.

    It appears under its name only when it is complete. The same items give the same values under the same keys.

    Raises:
        FileExistsError: there is something at `path` already.
        SourceError: a key comes twice.
    """
    final = Path(path)
    if final.exists():
        raise FileExistsError(f"{final} is there already; delete it or name another")
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
    count = 0
    try:
        environment = lmdb.open(str(temporary), map_size=_MAP_SIZE_BYTES, subdir=True, sync=False)
        with contextlib.closing(environment):
            batch: list[tuple[bytes, bytes]] = []
            for key, value in items:
                batch.append((key.encode(), value))
                if len(batch) == _PUT_BATCH:
                    count += _put(environment, batch)
                    batch = []
            count += _put(environment, batch)
            environment.sync(True)
        (temporary / "lock.mdb").unlink(missing_ok=True)
        temporary.rename(final)
    finally:
        if temporary.exists():
            for file in temporary.iterdir():
                file.unlink()
            temporary.rmdir()
    return count


def _put(environment: lmdb.Environment, batch: list[tuple[bytes, bytes]]) -> int:
    with environment.begin(write=True) as transaction:
        for key, value in batch:
            if not transaction.put(key, value, overwrite=False):
                raise SourceError(f"key {key.decode()} comes twice; every image needs a name of its own")
    return len(batch)
