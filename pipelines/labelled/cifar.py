"""CIFAR-10's binary version: rows of a label and 32x32 red, green and blue values; in a folder, or in its tar.gz."""

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.labelled.pictures import Labelled, fitted
from pipelines.sources.record import SourceError
from pipelines.sources.tar import DamagedTar, members, opened_tar

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""In the order of the labels."""

_SIDE_PX = 32
_ROW_BYTES = 1 + 3 * _SIDE_PX * _SIDE_PX
_NAMES = {"train": "data_batch_*.bin", "test": "test_batch.bin"}
_PICKLED = {"train": "data_batch_?", "test": "test_batch"}
_FETCH = "cifar-10-binary.tar.gz"


def read_cifar(path: str, part: Literal["train", "test"], size_px: int, channels: int) -> Labelled:
    """The pictures of data_batch_*.bin or of test_batch.bin, in a folder or a tar (also .gz); or of the one file named.

    Raises:
        SourceError: there are none, or they are no rows of CIFAR-10; or it is the version for Python, whose pickles run
            what code they like when they are read.
    """
    batches = _batches(path, part)
    rows = np.concatenate([_rows(f"{path}: {name}", data) for name, data in sorted(batches.items())])
    planes = rows[:, 1:].reshape(-1, 3, _SIDE_PX, _SIDE_PX)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return Labelled(fitted(images, size_px, channels), rows[:, 0].astype(np.int64), CLASSES)


def _batches(path: str, part: Literal["train", "test"]) -> dict[str, bytes]:
    single = path.endswith(".bin") and not os.path.isdir(path)
    pattern = os.path.basename(path) if single else _NAMES[part]
    seen: set[str] = set()
    found: dict[str, bytes] = {}
    try:
        for name, data in _files(path, pattern):
            if name in found:
                raise SourceError(f"{path} holds {name} twice; name the folder that holds the batches once")
            seen.add(name)
            if data is not None:
                found[name] = data
    except DamagedTar as error:
        raise SourceError(f"{path} is no whole tar ({error}); fetch {_FETCH} again") from error
    except OSError as error:
        raise SourceError(
            f"{path} can't be read ({error.strerror or error}); name a folder with {_NAMES[part]}, or {_FETCH}"
        ) from error
    if found:
        return found
    if fnmatch.filter(seen, _PICKLED[part]):
        raise SourceError(
            f"{path} holds CIFAR-10's version for Python: pickles, which can run any code when they are read, and are "
            f"never read here; fetch the binary version, {_FETCH}"
        )
    raise SourceError(
        f"{path} holds no {_NAMES[part]} (of {len(seen)} files); name CIFAR-10's binary version, {_FETCH}"
    )


def _files(path: str, pattern: str) -> Iterator[tuple[str, bytes | None]]:
    """(name, bytes) of each file, those alone whose name fits the pattern with their bytes."""
    if os.path.isdir(path):
        for file in Path(path).rglob("*"):
            if file.is_file():
                yield file.name, file.read_bytes() if fnmatch.fnmatch(file.name, pattern) else None
        return
    name = os.path.basename(path)
    if name == pattern or fnmatch.fnmatch(name, _PICKLED["train"]) or name == _PICKLED["test"]:
        yield name, Path(path).read_bytes() if name == pattern else None
        return
    with opened_tar(path, "r:*") as tar:
        for member in members(tar):
            name = os.path.basename(member.name)
            stream = tar.extractfile(member) if member.isfile() and fnmatch.fnmatch(name, pattern) else None
            yield name, None if stream is None else stream.read()


def _rows(name: str, data: bytes) -> npt.NDArray[np.uint8]:
    if not data or len(data) % _ROW_BYTES:
        raise SourceError(
            f"{name} has {len(data):,} bytes, which is no multiple of CIFAR-10's {_ROW_BYTES} a picture (a label and "
            f"3 x 32 x 32 values); fetch {_FETCH} again"
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, _ROW_BYTES)
    if rows[:, 0].max() >= len(CLASSES):
        raise SourceError(
            f"{name} has a label {rows[:, 0].max()}, and CIFAR-10's are 0..{len(CLASSES) - 1}; fetch {_FETCH} again"
        )
    return rows
