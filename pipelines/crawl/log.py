"""What has been fetched of a part so far: a file that is only appended to, flushed to disk record by record."""

import fcntl
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from manifests.store import sync_folder

# Magic, bytes of the row, bytes of the body; CRC-32 of these two numbers, the row and the body.
_HEAD = struct.Struct("<4sIQI")
_SIZES = struct.Struct("<IQ")
_MAGIC = b"url1"
_WAIT_FOR_LOCK_S = 60.0

Row = dict[str, Any]


class Log:
    """The log of one part. Of records with one number the last counts."""

    def __init__(self, path: Path) -> None:
        """Open the log, or begin one; a torn record at its end, of a process that was killed, is cut off.

        Raises:
            BlockingIOError: another process goes on writing to it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = open(path, "a+b")  # noqa: SIM115 - closed by close()
        try:
            _lock(self._file)
            self.rows: dict[int, Row] = {}
            self._bodies: dict[int, tuple[int, int]] = {}
            end = 0
            for row, at, size in _records(self._file):
                self._remember(row, at, size)
                end = at + size
            if os.fstat(self._file.fileno()).st_size != end:
                self._file.truncate(end)
            self._sync()
            sync_folder(path.parent)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, row: Row, body: bytes | None = None) -> None:
        """Add a record; it is on the disk when this returns. `row` has a `number`."""
        text = json.dumps(row).encode()
        body = body or b""
        head = _HEAD.pack(_MAGIC, len(text), len(body), _checksum(text, body))
        self._file.seek(0, os.SEEK_END)
        at = self._file.tell() + len(head) + len(text)
        self._file.write(head + text)
        self._file.write(body)
        self._sync()
        self._remember(row, at, len(body))

    def body(self, number: int) -> bytes | None:
        """The body of the last record of a number; None where it has none."""
        at, size = self._bodies[number]
        if not size:
            return None
        self._file.seek(at)
        return self._file.read(size)

    def _remember(self, row: Row, at: int, size: int) -> None:
        self.rows[row["number"]] = row
        self._bodies[row["number"]] = (at, size)

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _lock(file: IO[bytes]) -> None:
    """Wait for a process of a run that was killed, which may not have noticed yet; and keep others off."""
    deadline = time.monotonic() + _WAIT_FOR_LOCK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _records(file: IO[bytes]) -> Iterator[tuple[Row, int, int]]:
    """Row, place and size of the body of each whole record, up to the first that is not whole."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        magic, text_bytes, body_bytes, checksum = _HEAD.unpack(head)
        if magic != _MAGIC or text_bytes + body_bytes > size - file.tell():
            return
        text, at = file.read(text_bytes), file.tell()
        body = file.read(body_bytes)
        if _checksum(text, body) != checksum:
            return
        yield json.loads(text), at, body_bytes


def _checksum(text: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(text, zlib.crc32(_SIZES.pack(len(text), len(body)))))


class Tail:
    """Counts the records of a log that another process writes; each is looked at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._count = 0

    def count(self) -> int:
        """How many there are by now."""
        try:
            with open(self._path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                while self._at + _HEAD.size <= size:
                    file.seek(self._at)
                    magic, text_bytes, body_bytes, _ = _HEAD.unpack(file.read(_HEAD.size))
                    end = self._at + _HEAD.size + text_bytes + body_bytes
                    if magic != _MAGIC or end > size:
                        break
                    self._at, self._count = end, self._count + 1
        except OSError:
            pass  # not begun, or sealed meanwhile
        return self._count
