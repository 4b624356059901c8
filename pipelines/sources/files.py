"""The files that a crawl consists of: a single one, or those below a folder, on any filesystem that pyarrow opens."""

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple, TypeVar, cast

import pyarrow as pa
import pyarrow.fs as pa_fs

from manifests.store import Folder
from pipelines.sources.record import SourceError

Listed = TypeVar("Listed")

# Far files are read in steps of this size. What lies between two images is read too, which costs less than to ask anew.
_FAR_READ_BYTES = 1 << 20
# Listing waits for disks and networks more than it computes.
_LISTED_AT_ONCE = 8


class File(NamedTuple):
    """A file of a crawl: its name below the source's path, and its size when it was listed."""

    name: str
    size_bytes: int

    def packed(self) -> bytes:
        """The file as a part keeps it."""
        return f"{self.size_bytes} {self.name}".encode()

    @classmethod
    def unpacked(cls, packed: bytes) -> "File":
        """The file of `packed`."""
        size_bytes, _, name = packed.decode().partition(" ")
        return cls(name, int(size_bytes))


def listed_files(source: str, path: str, endings: tuple[str, ...]) -> list[File]:
    """The files below a folder with one of these endings, hidden ones left out, in order of name; or the one file.

    Raises:
        SourceError: there is nothing, or nothing that may be read.
    """
    folder = Folder(path)
    try:
        root = folder.filesystem.get_file_info(folder.path())
        if root.type == pa_fs.FileType.File:
            return [File(root.base_name, int(root.size))]
        infos = folder.filesystem.get_file_info(pa_fs.FileSelector(folder.path(), recursive=True))
        start = len(folder.path().rstrip("/")) + 1
        files = [File(info.path[start:], int(info.size)) for info in infos if info.type == pa_fs.FileType.File]
    except UnicodeDecodeError as error:
        raise SourceError(
            f"source {source}: a name below {path} is no UTF-8 ({error.object!r}); rename that file"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise SourceError(
            f"source {source}: {path} can't be listed ({_words(error)}); set sources.N.path to a file, or a folder of "
            f"files, that you may read"
        ) from error
    shown = [file for file in files if not any(step.startswith(".") for step in file.name.split("/"))]
    fitting = sorted(file for file in shown if file.name.lower().endswith(endings))
    if not fitting:
        raise SourceError(
            f"source {source}: {path} holds no files named {' or '.join(f'*{e}' for e in endings)} (of "
            f"{len(shown):,} files); check the path and the kind"
        )
    return fitting


@contextlib.contextmanager
def opened_file(path: str, name: str) -> Iterator[IO[bytes]]:
    """A file of those that `listed_files` listed, for random access.

    Raises:
        OSError: it can't be opened.
    """
    folder = Folder(path)
    info = folder.filesystem.get_file_info(folder.path())
    place = folder.path() if info.type == pa_fs.FileType.File else folder.path(name)
    if folder.is_local:
        with open(place, "rb") as file:
            yield file
        return
    with folder.filesystem.open_input_file(place) as far:
        yield cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, far), _FAR_READ_BYTES))


@contextlib.contextmanager
def unchanged_file(source: str, path: str, file: File) -> Iterator[IO[bytes]]:
    """A file that was listed earlier, for random access.

    Raises:
        SourceError: it is gone, can't be read, or has another size now.
    """
    try:
        with opened_file(path, file.name) as opened:
            if opened.seek(0, os.SEEK_END) != file.size_bytes:
                raise changed(source, path, file)
            opened.seek(0)
            yield opened
    except OSError as error:
        raise SourceError(f"source {source}: {file.name} of {path} can't be read ({_words(error)})") from error


def changed(source: str, path: str, file: File) -> SourceError:
    """The error of a file that is not what it was when the run began."""
    return SourceError(
        f"source {source}: {file.name} of {path} changed since the run began; put it back, or start a new run folder"
    )


def listed_of_each(files: Iterable[File], look: Callable[[File], Listed]) -> Iterator[Listed]:
    """What `look` returns of each file, in the files' order; some are looked at at once."""
    with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:
        try:
            yield from pool.map(look, files)
        finally:
            # An error of one file ends it: don't look at the rest.
            pool.shutdown(cancel_futures=True)


def _words(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error).splitlines()[0] if str(error) else type(error).__name__
