"""Any folder of images, read recursively. Every file is a record; whether it is an image, its content says."""

import os
import stat
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from pipelines.sources.record import PartRange, Record, SourceError, SourceSettings, text_key


class FolderSource(SourceSettings):
    """All files below a folder but hidden ones (`.name`). Links to folders are not followed, links to files are."""

    kind: Literal["folder"]
    path: str = Field(description="The folder; local or mounted")
    largest_file_bytes: int = Field(1 << 30, ge=1, description="Larger files are never read into memory")

    def ranges(self, part_images: int) -> list[PartRange]:
        """Ranges of at most `part_images` files, in order of path."""
        if "://" in self.path:
            raise SourceError(f"source {self.name}: {self.path} is a URI; a folder source reads local or mounted paths")
        root = os.fsencode(self.path)
        try:
            os.scandir(root).close()
        except OSError as error:
            raise SourceError(
                f"source {self.name}: {self.path} can't be listed ({error.strerror}); set sources.N.path to a folder "
                "that you may read"
            ) from error
        names = sorted(_files(root))
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
            key = text_key(name)
            try:
                yield Record(key, _read_file(os.path.join(root, name), self.largest_file_bytes))
            except OSError as error:
                yield Record(key, None, problem=error.strerror or type(error).__name__)


def _files(root: bytes) -> Iterator[bytes]:
    """Paths below `root`, relative to it, of all that is not a folder; in no order."""
    folders = [b""]
    while folders:
        below = folders.pop()
        try:
            entries = list(os.scandir(os.path.join(root, below)))
        except OSError:
            # A folder that can't be listed is handed on as a record, so that it shows in the ledger.
            yield below
            continue
        for entry in entries:
            path = os.path.join(below, entry.name)
            if entry.name.startswith(b"."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            else:
                yield path


def _read_file(path: bytes, largest_bytes: int) -> bytes:
    """The bytes of a regular file. Raises OSError for all that is none: a pipe would block for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
        if status.st_size > largest_bytes:
            raise OSError(0, f"{status.st_size} bytes, over largest_file_bytes={largest_bytes}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)
