"""A folder a class, as ImageNet and exports of many kinds have it; on disk, or inside a tar or tar.gz."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from pipelines.labelled.pictures import ImageError, Labelled, decoded, warn_of_left_out
from pipelines.sources.record import SourceError, text_key
from pipelines.sources.tar import DamagedTar, members, opened_tar, raw_name

# What is looked for where the path holds the parts rather than the classes; ImageNet calls its test part val.
_PARTS = {"train": ("train",), "test": ("test", "val")}
_TOLD = 3

Part = Literal["train", "test"]


def read_class_folders(
    path: str, part: Part, size_px: int, channels: int, classes: Sequence[str] | None = None
) -> Labelled:
    """The pictures below path/CLASS/, of any size and format; classes in order of name, unless they are given.

    `path` may go on inside a tar: cifar10.tar.gz/train. Where it holds a folder of the part's name (train; test or
    val), that one is meant. A file that gives no picture is left out, and told of in the log. Hidden files and files
    beside the class folders are no pictures.

    Raises:
        SourceError: there are no pictures, all are of one class, or one is of none of the given classes.
    """
    pixels = bytearray()
    of_picture: list[str] = []
    left_out: list[str] = []
    for name, data in _below(path, part):
        of_class, slash, _ = name.partition("/")
        if not slash:
            continue
        if classes is not None and of_class not in classes:
            raise SourceError(
                f"{path}: {name} is of class {of_class}, of which the training part has no pictures (it has "
                f"{', '.join(classes[:_TOLD])} ...); give both parts the same folders"
            )
        try:
            pixels += decoded(data, size_px, channels).tobytes()
        except (ImageError, cv2.error, OSError) as error:
            left_out.append(f"{name}: {error}")
        else:
            of_picture.append(of_class)
    warn_of_left_out(path, left_out, len(of_picture))
    if not of_picture:
        raise SourceError(
            f"{path} holds no pictures in class folders, as CLASS/1.jpg ({len(left_out)} files gave none); name the "
            "folder that holds the classes"
        )
    names = tuple(classes) if classes is not None else tuple(sorted(set(of_picture)))
    numbers = {name: number for number, name in enumerate(names)}
    images = np.frombuffer(pixels, np.uint8).reshape(-1, size_px, size_px, channels)
    labels = np.array([numbers[name] for name in of_picture], np.int64)
    return Labelled(images, labels, names, tuple(left_out))


def _below(path: str, part: Part) -> Iterator[tuple[str, bytes]]:
    """(CLASS/NAME, bytes) of each file, in order of name on disk, and in the tar's order in a tar."""
    at, inside = _split(path)
    try:
        if at.is_dir():
            yield from _of_folder(at, part)
        else:
            yield from _of_tar(at, inside or _part_inside(at, part))
    except DamagedTar as error:
        raise SourceError(f"{at} is no whole tar ({error}); fetch it again") from error
    except OSError as error:
        raise SourceError(
            f"{path} can't be read ({error.strerror or error}); name a folder of class folders, or a tar of them"
        ) from error


def _split(path: str) -> tuple[Path, str]:
    """A path on disk, and where it goes on inside a tar."""
    at = Path(path)
    tar = next((above for above in at.parents if above.is_file()), at)
    return tar, "" if tar == at else at.relative_to(tar).as_posix() + "/"


def _of_folder(folder: Path, part: Part) -> Iterator[tuple[str, bytes]]:
    own = (folder / name for name in _PARTS[part])
    root = next((at for at in own if at.is_dir() and any(entry.is_dir() for entry in at.iterdir())), folder)
    for file in sorted(root.glob("*/**/*")):
        name = file.relative_to(root)
        if file.is_file() and not any(step.startswith(".") for step in name.parts):
            yield name.as_posix(), file.read_bytes()


def _part_inside(path: Path, part: Part) -> str:
    with opened_tar(path, "r:*") as tar:
        tops = {top for top, _, below in (_name(member).partition("/") for member in members(tar)) if "/" in below}
    return next((f"{name}/" for name in _PARTS[part] if name in tops), "")


def _of_tar(path: Path, inside: str) -> Iterator[tuple[str, bytes]]:
    with opened_tar(path, "r:*") as tar:
        for member in members(tar):
            name = _name(member)
            hidden = any(step.startswith(".") for step in name.split("/"))
            file = tar.extractfile(member) if member.isfile() and name.startswith(inside) and not hidden else None
            if file is not None:
                yield name.removeprefix(inside), file.read()


def _name(member: tarfile.TarInfo) -> str:
    return text_key(raw_name(member)).removeprefix("./")
