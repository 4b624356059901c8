"""Any folder of images, read recursively. Every file is a record; whether it is an image, its content says.

Whom an image shows, the folder that it lies in may say, or a list.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator

from pipelines.sources import people
from pipelines.sources.people import Known
from pipelines.sources.record import PartRange, Record, SourceError, SourceSettings, text_key


class FolderSource(SourceSettings):
    """All files below a folder but hidden ones (`.name`). Links to folders are not followed, links to files are."""

    kind: Literal["folder"]
    path: str = Field(description="The folder; local or mounted")
    largest_file_bytes: int = Field(1 << 30, ge=1, description="Larger files are never read into memory")
    person: Literal["none", "folder"] = Field(
        "none", description="folder: the first folder below path is named after the person that its images show"
    )
    people: str | None = Field(
        None,
        description="CSV or Parquet of file -> person, url, licence; file is the path below the folder. Local or a URI",
    )

    @model_validator(mode="after")
    def _one_says_who(self) -> "FolderSource":
        if self.people is not None and self.person != "none":
            raise ValueError(f"people={self.people} and person={self.person}: both would name the person; give one")
        return self

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
        if self.people is not None:
            names = self._with_known(self.people, names)
        return [
            PartRange(len(chunk), names=tuple(chunk))
            for chunk in (names[i : i + part_images] for i in range(0, len(names), part_images))
        ]

    def _with_known(self, address: str, names: list[bytes]) -> list[bytes]:
        """The names, each with what the list says of it after a null byte, which no name holds."""
        table = people.read_people(self.name, address, "file")
        keys = [text_key(name) for name in names]
        known, strange = people.known_of(table, "file", keys)
        if strange:
            raise SourceError(
                f"source {self.name}: people {address}: {strange:,} of {table.num_rows:,} rows name no file below "
                f"{self.path} (such as {people.unknown_row(table, 'file', keys)}); file is the path below it, as in "
                f"{keys[0]}: mend or remove these rows"
            )
        return [name + b"\0" + people.packed(said) for name, said in zip(names, known, strict=True)]

    def told(self, part: PartRange, entry: bytes) -> Record:
        """The key, and what the list or the folder says."""
        name, _, packed = entry.partition(b"\0")
        known = Known(_first_folder(name)) if self.person == "folder" else people.unpacked(packed)
        return Record(text_key(name), None, **known._asdict())

    def read(self, part: PartRange) -> Iterator[Record]:
        """The files' bytes; one that can't be read is a record that says why."""
        root = os.fsencode(self.path)
        for entry in part.names:
            name = entry.partition(b"\0")[0]
            data, problem = None, None
            try:
                data = _read_file(os.path.join(root, name), self.largest_file_bytes)
            except OSError as error:
                problem = error.strerror or type(error).__name__
            yield replace(self.told(part, entry), data=data, problem=problem)


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


def _first_folder(name: bytes) -> str | None:
    folder, slash, _ = name.partition(b"/")
    return folder.decode("utf-8", "backslashreplace") if slash else None


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
