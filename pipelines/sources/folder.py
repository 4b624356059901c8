"""Any folder of images, read recursively. Every file is a record; whether it is an image, its content says."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipelines.sources.record import PartRange, Record, SourceError, SourceSettings


class FolderSource(SourceSettings):
    """All files below a folder but hidden ones (`.name`). Links to folders are not followed, links to files are."""

    kind: Literal["folder"]
    path: str = Field(description="The folder; local or mounted")
    largest_file_bytes: int = Field(1 << 30, ge=1, description="Larger files are never read into memory")

    def ranges(self, part_images: int) -> list[PartRange]:
        """Ranges of at most `part_images` files, in order of path."""
        if "://" in self.path:
            raise SourceError(f"source {self.name}: {self.path} is a URI; a folder source reads local or mounted paths")
        root = Path(self.path)
        if not root.is_dir():
            raise SourceError(f"source {self.name}: {self.path} is not a folder; set sources.N.path to one")
        names = sorted(_files(os.fsencode(root), b""))
        if not names:
            raise SourceError(f"source {self.name}: {self.path} holds no files; check the path")
        return [
            PartRange(len(chunk), names=tuple(chunk))
            for chunk in (names[i : i + part_images] for i in range(0, len(names), part_images))
        ]

    def read(self, part: PartRange) -> Iterator[Record]:
        """The files' bytes; one that can't be read is a record that says why."""
        root = os.fsencode(self.path)
        for name in part.names:
            key = file_key(name)
            try:
                yield Record(key, _read_file(os.path.join(root, name), self.largest_file_bytes))
            except OSError as error:
                yield Record(key, None, problem=error.strerror or type(error).__name__)


def _files(root: bytes, below: bytes) -> Iterator[bytes]:
    """Paths below `root`, relative to it, of all that is not a folder."""
    try:
        entries = list(os.scandir(os.path.join(root, below)))
    except OSError:
        # A folder that can't be listed is handed on as a record, so that it shows in the ledger.
        yield below
        return
    for entry in entries:
        if entry.name.startswith(b"."):
            continue
        path = os.path.join(below, entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(root, path)
        else:
            yield path


def _read_file(path: bytes, largest_bytes: int) -> bytes:
    """The bytes of a regular file. Raises OSError for all that is none: a pipe would block for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not _is_regular(status):
            raise OSError(0, "not a regular file")
        if status.st_size > largest_bytes:
            raise OSError(0, f"{status.st_size} bytes, over largest_file_bytes={largest_bytes}")
        return file.read()


def _is_regular(status: os.stat_result) -> bool:
    return (status.st_mode & 0o170000) == 0o100000


def file_key(name: bytes) -> str:
    r"""A file's path as a key in valid UTF-8: other bytes become `\xNN`, and `\` becomes `\\`, so that no two meet."""
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
