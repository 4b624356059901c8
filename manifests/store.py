"""Atomic files, JSON and Parquet in a folder on any filesystem that `pyarrow.fs` opens.

Nothing half-written is ever visible under its final name: a file is written under a temporary name that starts
with a dot, flushed to disk, and renamed. Names that start with a dot are never listed.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq

# Columns of few distinct values; all others hold ids or bytes, on which a dictionary is only a cost.
_DICTIONARY_COLUMNS = {"source", "status", "reason", "format", "change", "split", "shard"}
# Already compressed by their own format.
_STORED_COLUMNS = {"image"}


def part_name(number: int) -> str:
    """The file of a part, in every folder that keeps one a part."""
    return f"part-{number:05d}.parquet"


class Folder:
    """A folder of a run: a local path, or a URI such as `s3://bucket/runs/1`.

    Only its address is kept when pickled, so it travels to other processes.
    """

    def __init__(self, address: str | Path) -> None:
        text = os.fspath(address)
        self.address = text.rstrip("/") if "://" in text else os.path.abspath(text)
        self._opened: tuple[pa_fs.FileSystem, str] | None = None

    def __repr__(self) -> str:
        return f"Folder({self.address!r})"

    def __str__(self) -> str:
        return self.address

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return (Folder, (self.address,))

    @property
    def filesystem(self) -> pa_fs.FileSystem:
        """The filesystem that the folder lies on."""
        return self._open()[0]

    @property
    def is_local(self) -> bool:
        """Whether the folder lies on this machine's (or a mounted) filesystem."""
        return isinstance(self.filesystem, pa_fs.LocalFileSystem)

    def _open(self) -> tuple[pa_fs.FileSystem, str]:
        if self._opened is None:
            if "://" in self.address:
                try:
                    self._opened = pa_fs.FileSystem.from_uri(self.address)
                except pa.ArrowInvalid as error:
                    raise OSError(
                        f"{self.address} can't be opened ({error}); give a path, or a URI as s3://..."
                    ) from error
            else:
                self._opened = (pa_fs.LocalFileSystem(), self.address)
        return self._opened

    def path(self, name: str = "") -> str:
        """The path of a file in the folder, as its filesystem knows it."""
        root = self._open()[1]
        return f"{root}/{name}" if name else root

    def child(self, name: str) -> "Folder":
        """The folder `name` inside this one (made when something is written to it)."""
        return Folder(f"{self.address}/{name}")

    def local_path(self, name: str = "") -> Path | None:
        """The file's path on this machine, None where the folder is remote."""
        return Path(self.path(name)) if self.is_local else None

    def exists(self, name: str = "") -> bool:
        """Whether the file (or the folder itself) is there."""
        return bool(self.filesystem.get_file_info(self.path(name)).type != pa_fs.FileType.NotFound)

    def names(self) -> list[str]:
        """Names of the finished files directly inside, sorted; empty where the folder is absent."""
        selector = pa_fs.FileSelector(self.path(), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(i.base_name for i in infos if i.type == pa_fs.FileType.File and not i.base_name.startswith("."))

    def folders(self) -> list[str]:
        """Names of the folders directly inside, sorted; empty where the folder is absent."""
        selector = pa_fs.FileSelector(self.path(), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(i.base_name for i in infos if i.type == pa_fs.FileType.Directory)

    def size_bytes(self, name: str) -> int:
        """The size of a file."""
        info = self.filesystem.get_file_info(self.path(name))
        if info.type != pa_fs.FileType.File:
            raise FileNotFoundError(f"{self.path(name)} is not there")
        return int(info.size)

    def delete(self, name: str) -> None:
        """Delete a file; absent is fine."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(name))

    def delete_all(self, last: str | None = None) -> None:
        """Delete the folder with all that it holds, the file `last` after all others; absent is fine."""
        if not self.exists():
            return
        if last is not None:
            for info in self.filesystem.get_file_info(pa_fs.FileSelector(self.path(), recursive=True)):
                if info.type == pa_fs.FileType.File and info.path != self.path(last):
                    self.filesystem.delete_file(info.path)
        self.filesystem.delete_dir(self.path())

    @contextlib.contextmanager
    def write_atomic(self, name: str) -> Iterator[IO[bytes]]:
        """A binary file to write to, visible under `name` only after the block ended without an error."""
        temporary = f".{name}.{uuid.uuid4().hex}"
        self.filesystem.create_dir(self.path(), recursive=True)
        try:
            if self.is_local:
                with open(self.path(temporary), "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(self.path(temporary), self.path(name))
                sync_folder(self.path())
            else:
                with self.filesystem.open_output_stream(self.path(temporary)) as stream:
                    yield cast(IO[bytes], stream)
                self.filesystem.move(self.path(temporary), self.path(name))
        except BaseException:
            self.delete(temporary)
            raise

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file, atomically."""
        with self.write_atomic(name) as file:
            file.write(data)

    def write_note(self, name: str, data: bytes) -> None:
        """Write a small file whose loss does no harm: at once, neither atomic nor flushed to disk."""
        self.filesystem.create_dir(self.path(), recursive=True)
        with self.filesystem.open_output_stream(self.path(name)) as stream:
            stream.write(data)

    def read_bytes(self, name: str) -> bytes:
        """The bytes of a file."""
        with self.filesystem.open_input_file(self.path(name)) as file:
            return bytes(file.read())

    def open_input(self, name: str) -> pa.NativeFile:
        """A file opened for random access."""
        return self.filesystem.open_input_file(self.path(name))

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as indented JSON, atomically."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        self.write_bytes(name, (text + "\n").encode())

    def read_json(self, name: str) -> Any:
        """The value of a JSON file."""
        return json.loads(self.read_bytes(name))

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a Parquet file, atomically: zstd, and the same bytes for the same table."""
        with self.write_atomic(name) as file:
            pq.write_table(
                table,
                file,
                compression={c: "none" if c in _STORED_COLUMNS else "zstd" for c in table.column_names},
                use_dictionary=[c for c in table.column_names if c in _DICTIONARY_COLUMNS],
                write_statistics=[c for c in table.column_names if c.endswith("_id")],
            )

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The table of a Parquet file, or some columns of it."""
        return pq.read_table(self.path(name), columns=columns, filesystem=self.filesystem, partitioning=None)

    def read_tables(self, prefix: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The tables of all Parquet files whose names start with `prefix`, one by one, in order of name."""
        for name in self.names():
            if name.startswith(prefix) and name.endswith(".parquet"):
                yield self.read_table(name, columns)


def sync_folder(path: str | Path) -> None:
    """Make a rename in the folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
