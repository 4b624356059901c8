"""dcgan pack: an LSUN-format LMDB from a folder or a tar of images."""

import contextlib
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from rich.console import Console

from manifests import images
from pipelines.cluster import cores
from pipelines.progress import Bar, Reporter
from pipelines.sources.folder import FolderSource
from pipelines.sources.lsun import lsun_key, write_lmdb
from pipelines.sources.record import SourceError, text_key
from pipelines.sources.tar import NO_FILE, DamagedTar, opened_tar, raw_name

_CHUNK_IMAGES = 64
_WEBP_LARGEST_PX = 16_383


def pack(
    source: Annotated[Path, typer.Argument(help="A folder (recursive) or a tar of images", exists=True)],
    out: Annotated[Path, typer.Argument(help="The LMDB to write")],
    webp: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            metavar="QUALITY",
            help="Encode as WebP; default: bytes untouched",
        ),
    ] = None,
) -> None:
    """Write an LSUN-format LMDB: keys of 40 hex digits, made of the names, and encoded images.

    With --webp, files that are no images are left out and named; without it every file goes in untouched.
    """
    console = Console(markup=False)
    left_out: list[str] = []
    names = list(_names(source))
    with Reporter(console) as reporter, reporter.bar("pack", len(names)) as bar:
        count = write_lmdb(out, _items(source, webp, left_out, bar))
    for line in left_out[:20]:
        console.print(f"left out {line}", highlight=False)
    more = f", {len(left_out):,} left out" if left_out else ""
    console.print(f"{count:,} images in {out}{more}", highlight=False)


def _items(source: Path, webp: int | None, left_out: list[str], bar: Bar) -> Iterator[tuple[str, bytes]]:
    for name, data, problem in _encoded(source, webp):
        bar.advance(1)
        if problem is not None:
            left_out.append(f"{name}: {problem}")
            continue
        yield lsun_key(name), data


def _names(source: Path) -> Iterator[str]:
    if source.is_dir():
        for part in _folder(source).ranges(1 << 30):
            yield from (name.decode("utf-8", "backslashreplace") for name in part.names)
    else:
        with _opened(source) as tar:
            yield from (member.name for member in tar if not member.isdir())


def _files(source: Path) -> Iterator[tuple[str, bytes, str | None]]:
    """(name, bytes, why they could not be read)."""
    if source.is_dir():
        folder = _folder(source)
        for part in folder.ranges(1 << 30):
            for record in folder.read(part):
                yield record.key, record.data or b"", record.problem
    else:
        with _opened(source) as tar:
            for member in tar:
                name = text_key(raw_name(member))
                if member.isfile() or member.islnk():  # tar stores a second name of the same file as a hard link
                    file = tar.extractfile(member)
                    yield name, file.read() if file else b"", None
                elif not member.isdir():
                    yield name, b"", NO_FILE


def _folder(source: Path) -> FolderSource:
    return FolderSource(kind="folder", name="pack", path=str(source))


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with opened_tar(source, "r:*") as tar:
            yield tar
    except DamagedTar as error:
        raise SourceError(
            f"{source} is neither a folder nor a whole tar ({error}); name a folder or tar of images"
        ) from error


def _encoded(source: Path, webp: int | None) -> Iterator[tuple[str, bytes, str | None]]:
    if webp is None:
        yield from _files(source)
        return
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
        chunk: list[tuple[str, bytes, str | None]] = []
        for file in _files(source):
            chunk.append(file)
            if len(chunk) == _CHUNK_IMAGES:
                yield from pool.map(partial(_as_webp, webp), chunk, chunksize=8)
                chunk = []
        yield from pool.map(partial(_as_webp, webp), chunk, chunksize=8)


def _as_webp(quality: int, file: tuple[str, bytes, str | None]) -> tuple[str, bytes, str | None]:
    name, data, problem = file
    if problem is not None:
        return file
    try:
        image = images.decode_rgb(data, images.read_header(data, images.Limits()))
    except images.ImageError as error:
        return name, b"", str(error)
    if max(image.shape) > _WEBP_LARGEST_PX:
        return name, b"", f"{image.shape[1]}x{image.shape[0]}, and WebP holds {_WEBP_LARGEST_PX} px a side"
    ok, encoded = cv2.imencode(".webp", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return (name, encoded.tobytes(), None) if ok else (name, b"", "OpenCV could not encode it as WebP")
