"""A local tar of images. Its members are listed once, with where their bytes lie; a part then reads those places."""

import contextlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from pydantic import Field

from pipelines.sources.record import PartRange, Record, SourceError, SourceSettings, text_key

NO_FILE = "neither a file nor a hard link to one"
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}


class DamagedTar(Exception):
    """A file that is no tar, or only the beginning of one."""


class TarSource(SourceSettings):
    """All files of a tar but hidden ones (`.name`, such as the `._name` that macOS adds). Hard links are files too."""

    kind: Literal["tar"]
    path: str = Field(description="The tar, not compressed; local or mounted")
    largest_file_bytes: int = Field(1 << 30, ge=1, description="Larger files are never read into memory")

    def ranges(self, part_images: int) -> list[PartRange]:
        """Ranges of at most `part_images` members, in the tar's order, from one look at its headers."""
        if "://" in self.path:
            raise SourceError(
                f"source {self.name}: {self.path} is a URI; a tar source reads local or mounted files, a tars source "
                "takes URIs"
            )
        try:
            with open(self.path, "rb") as file:
                size_bytes = os.fstat(file.fileno()).st_size
                places = listed_members(file, f"source {self.name}: {self.path}")
                entries = [place + b"\0" + name for name, place in places]
        except OSError as error:
            raise SourceError(
                f"source {self.name}: {self.path} can't be read ({error.strerror}); set sources.N.path to a tar"
            ) from error
        if not entries:
            raise SourceError(f"source {self.name}: {self.path} holds no files; check the path")
        return [
            PartRange(len(chunk), str(size_bytes).encode(), tuple(chunk))
            for chunk in (entries[i : i + part_images] for i in range(0, len(entries), part_images))
        ]

    def told(self, part: PartRange, entry: bytes) -> Record:
        """The key."""
        return Record(text_key(entry.partition(b"\0")[2]), None)

    def read(self, part: PartRange) -> Iterator[Record]:
        """The members' bytes; one that is no file is a record that says why."""
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size < int(part.start):
                    raise self._changed()
                for entry in part.names:
                    yield self._record(file, entry)
        except OSError as error:
            raise SourceError(f"source {self.name}: {self.path} can't be read ({error.strerror})") from error

    def _record(self, file: IO[bytes], entry: bytes) -> Record:
        place, _, name = entry.partition(b"\0")
        key = text_key(name)
        if place.startswith(b"- "):
            return Record(key, None, problem=place[2:].decode())
        offset, size_bytes = map(int, place.split())
        if size_bytes > self.largest_file_bytes:
            return Record(key, None, problem=f"{size_bytes} bytes, over largest_file_bytes={self.largest_file_bytes}")
        try:
            return Record(key, member_bytes(file, offset, size_bytes))
        except DamagedTar as error:
            raise self._changed() from error

    def _changed(self) -> SourceError:
        return SourceError(
            f"source {self.name}: {self.path} changed since the run began; put it back, or start a new run folder"
        )


def listed_members(file: IO[bytes], label: str) -> Iterator[tuple[bytes, bytes]]:
    """(name, place) of each member that is a record; a place is `offset size`, or `- problem`. Hidden ones are none.

    `label` begins the errors: the source and the tar.

    Raises:
        SourceError: the tar is compressed, is none, is cut short, or holds a name twice.
    """
    _check_plain(file, label)
    try:
        with opened_tar(file, "r:") as tar:
            yield from _places(tar, label)
    except DamagedTar as error:
        raise SourceError(f"{label} is no whole tar ({error}); fetch it again") from error


def _check_plain(file: IO[bytes], label: str) -> None:
    head = file.read(8)
    file.seek(0)
    for magic, tool in _COMPRESSED.items():
        # Of a compressed tar each part would have to unpack all that lies before it.
        if head.startswith(magic):
            raise SourceError(
                f"{label} is compressed, and parts are read by where they lie; {tool} it and name the .tar"
            )


def _places(tar: tarfile.TarFile, label: str) -> Iterator[tuple[bytes, bytes]]:
    places: dict[bytes, bytes] = {}
    for member in members(tar):
        name = raw_name(member)
        if member.isdir():
            continue
        hidden = _is_hidden(name)
        if name in places and not hidden:
            raise SourceError(
                f"{label} holds {text_key(name)} twice; every image needs a name of its own: unpack the tar and name "
                "the folder"
            )
        place = b"- " + NO_FILE.encode()
        if member.isreg() and not member.issparse():
            place = b"%d %d" % (member.offset_data, member.size)
        elif member.islnk():
            # A second name of a file that lies before it.
            place = places.get(member.linkname.encode("utf-8", "surrogateescape"), place)
        places[name] = place
        if not hidden:
            yield name, place


def member_bytes(file: IO[bytes], offset: int, size_bytes: int) -> bytes:
    """The bytes of a member that was listed earlier.

    Raises:
        DamagedTar: it is not there any more.
    """
    file.seek(offset - tarfile.BLOCKSIZE)
    try:
        tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise DamagedTar(str(error)) from error
    data = file.read(size_bytes)
    if len(data) != size_bytes:
        raise DamagedTar("it is cut short")
    return data


@contextlib.contextmanager
def opened_tar(tar_file: str | Path | IO[bytes], mode: Literal["r:", "r:*"]) -> Iterator[tarfile.TarFile]:
    """A tar, by its path or opened, to read from its first member to its last; "r:*" takes compressed ones too.

    Raises:
        DamagedTar: it is none; or, once the block has ended, it is cut short.
    """
    try:
        path, file = (tar_file, None) if isinstance(tar_file, str | Path) else (None, tar_file)
        with tarfile.open(path, mode, fileobj=file, encoding="utf-8", errors="surrogateescape") as tar:
            yield tar
            _check_end(tar)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DamagedTar(str(error)) from error


def _check_end(tar: tarfile.TarFile) -> None:
    """Raise ReadError unless a block of zeros ends the tar; tarfile takes a header that is cut short for its end."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut short")


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All members, in order, without keeping them: of three million that would be gigabytes."""
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]


def raw_name(member: tarfile.TarInfo) -> bytes:
    """A member's name as the tar's bytes have it."""
    return member.name.encode("utf-8", "surrogateescape")


def _is_hidden(name: bytes) -> bool:
    return any(step.startswith(b".") and step not in (b".", b"..") for step in name.split(b"/"))
