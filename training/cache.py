"""Shards of an object store, kept on this machine while they are needed; all workers of a node share one folder.

A shard is in use while a process holds a shared lock on its file, so a process that is killed holds nothing back. What
is not in use is deleted when room is needed, and the folder when the last worker that uses it ends.
"""

import contextlib
import fcntl
import getpass
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.fs as pa_fs

from manifests.store import Folder
from training.reading import DamagedShard, ShardReader

_FETCHERS = 4  # an object store gives one reader a part of its speed
_CHUNK_BYTES = 8 << 20
_RETRY_S = 0.05
_USERS = ".users"
_PART = ".part"


class _Stopped(Exception):
    """The cache was closed while a shard was on its way."""


class ShardCache(contextlib.AbstractContextManager["ShardCache"]):
    """Local copies of shards, fetched ahead by threads."""

    def __init__(self, shards: Folder, sizes: dict[str, int], place: Path, limit_bytes: int) -> None:
        """`sizes`: of the shards in bytes, to know how many fit."""
        self.folder, self.place, self.limit_bytes = shards, place, limit_bytes
        self._sizes = sizes
        self._held: dict[str, Future[int]] = {}  # shard -> a descriptor that holds its lock
        self._stop = threading.Event()

    @classmethod
    def of_reader(cls, reader: ShardReader, place: str | None, limit_bytes: int) -> "ShardCache":
        """The cache of a reader's shards, in a folder of its own inside `place`, or where temporary files go."""
        sizes = _sizes(reader.folder)
        missing = sorted(set(reader.shards) - set(sizes))
        if missing:
            raise DamagedShard(f"{reader.folder}/{missing[0]} is no longer in the folder; write the shards again")
        return cls(reader.folder, sizes, _place_of(reader, place or tempfile.gettempdir()), limit_bytes)

    def __enter__(self) -> "ShardCache":
        while True:
            self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.place.stat().st_uid != os.getuid():
                raise PermissionError(f"{self.place} is another user's; give another cache_folder")
            try:
                self._users = os.open(self.place / _USERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # the last worker of before is deleting it
            fcntl.flock(self._users, fcntl.LOCK_SH)
            if os.fstat(self._users).st_nlink:
                break
            os.close(self._users)
        self._pool = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="shards")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for shard in list(self._held):
            self._let_go(shard)
        self._pool.shutdown(cancel_futures=True)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(self.place, ignore_errors=True)
        finally:
            os.close(self._users)

    def path(self, shard: str) -> Path:
        """Where the copy of a shard lies, once it is there."""
        return self.place / shard

    def check_room(self, shards: Sequence[str], window_share: float) -> None:
        """Raise ValueError if a window's share of the shards doesn't fit, which would fetch them again and again."""
        window_bytes = min(1.0, window_share) * sum(self._sizes[shard] for shard in shards)
        if window_bytes > self.limit_bytes:
            raise ValueError(
                f"cache_gb={self.limit_bytes / 1e9:g} is less than a window's shards ({window_bytes / 1e9:.3g} GB); "
                "raise cache_gb or lower window_samples"
            )

    def want(self, shards: Sequence[str], ahead: Sequence[str]) -> None:
        """Fetch and hold `shards`, then as many of those `ahead` as fit; let go of all others."""
        now = dict.fromkeys(shards)
        wanted = dict(now)
        room = self.limit_bytes - sum(self._sizes[shard] for shard in now)
        for shard in ahead:
            if shard not in wanted:
                room -= self._sizes[shard]
                if room < 0:
                    break
                wanted[shard] = None
        for shard in [shard for shard in self._held if shard not in wanted]:
            self._let_go(shard)
        for shard in wanted:
            if shard not in self._held or _failed(self._held[shard]):
                self._held[shard] = self._pool.submit(self._hold, shard)

    def has(self, shards: Sequence[str]) -> bool:
        """Whether shards that were wanted are all here. Raises as `wait`."""
        for shard in shards:
            if self._held[shard].done():
                self._held[shard].result()
        return all(self._held[shard].done() for shard in shards)

    def wait(self, shards: Sequence[str]) -> None:
        """Wait for shards that were wanted.

        Raises:
            DamagedShard: one came cut short.
            OSError: one can't be fetched.
        """
        for shard in shards:
            self._held[shard].result()

    def _let_go(self, shard: str) -> None:
        def close(held: Future[int]) -> None:
            if not held.cancelled() and held.exception() is None:
                os.close(held.result())

        held = self._held.pop(shard)
        held.cancel()
        held.add_done_callback(close)

    def _hold(self, shard: str) -> int:
        """A descriptor with a shared lock on the copy of a shard, which is fetched if it isn't here."""
        with self._alone_with(shard):
            held = _lock(self.path(shard))
            while held is None:
                self._fetch(shard)
                held = _lock(self.path(shard))
        return held

    def _fetch(self, shard: str) -> None:
        part = self.place / f".{shard}{_PART}"
        with self.folder.open_input(shard) as source:
            expected = source.size()
            with self._alone_with("room"), open(part, "wb") as file:
                self._make_room(expected)
                os.truncate(part, expected)  # takes its room before another thread looks for some
            with open(part, "r+b") as file:
                while chunk := source.read(_CHUNK_BYTES):
                    if self._stop.is_set():
                        raise _Stopped(shard)
                    file.write(chunk)
                found = file.tell()
        if found != expected:
            os.unlink(part)
            raise DamagedShard(
                f"{self.folder}/{shard}: expected {expected} bytes, got {found}; run the same command again"
            )
        os.replace(part, self.path(shard))

    @contextlib.contextmanager
    def _alone_with(self, shard: str) -> Iterator[None]:
        """Only one thread of all workers of the node fetches a shard."""
        descriptor = os.open(self.place / f".{shard}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._stop.is_set():
                        raise _Stopped(shard) from None
                    time.sleep(_RETRY_S)
            yield
        finally:
            os.close(descriptor)

    def _make_room(self, size_bytes: int) -> None:
        """Delete copies that nobody uses, oldest first, until one more fits; those in use stay, fit or not."""
        with os.scandir(self.place) as entries:
            copies = [(e.stat(), e.path) for e in entries if not e.name.startswith(".") or e.name.endswith(_PART)]
        total = sum(stat.st_size for stat, _ in copies) + size_bytes
        for stat, path in sorted(copies, key=lambda copy: copy[0].st_mtime_ns):
            if total <= self.limit_bytes:
                return
            if _delete_unused(path, path.removesuffix(_PART) + ".lock" if path.endswith(_PART) else path):
                total -= stat.st_size


def _failed(fetched: Future[int]) -> bool:
    return fetched.done() and not fetched.cancelled() and fetched.exception() is not None


def _lock(path: Path) -> int | None:
    """A descriptor with a shared lock on a file; None where there is no such file (any more)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if os.fstat(descriptor).st_nlink:
        return descriptor
    os.close(descriptor)
    return None


def _delete_unused(path: str, lock: str) -> bool:
    """Delete a file if nobody holds a lock on `lock`."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except (BlockingIOError, FileNotFoundError):
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _sizes(folder: Folder) -> dict[str, int]:
    infos = folder.filesystem.get_file_info(pa_fs.FileSelector(folder.path()))
    return {info.base_name: int(info.size) for info in infos if info.type == pa_fs.FileType.File}


def _place_of(reader: ShardReader, above: str) -> Path:
    """A folder named after what the index says, so that shards that were written anew are other ones."""
    digest = hashlib.sha256(f"{reader.folder}\0{getpass.getuser()}\0".encode())
    for array in (reader.index.offsets, reader.index.sizes, reader.index.digests):
        digest.update(np.ascontiguousarray(array).data)
    return Path(above) / f"dcgan-shards-{digest.hexdigest()[:16]}"
