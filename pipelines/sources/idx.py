"""IDX files, as MNIST comes in: one file of grey images, and one of labels."""

import gzip
import os
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, Any, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipelines.sources.record import PartRange, Record, SourceError, SourceSettings

_BYTES = 0x08  # the type that images and labels have: unsigned bytes
_IMAGES, _LABELS = 3, 1  # dimensions
_KINDS: dict[int, Literal["images", "labels"]] = {_IMAGES: "images", _LABELS: "labels"}
_GZIP = b"\x1f\x8b"

Values = npt.NDArray[np.uint8]


class IdxSource(SourceSettings):
    """The images of an IDX file (`train-images-idx3-ubyte`, also .gz), as grey PNGs; the key is an image's number."""

    kind: Literal["idx"]
    path: str = Field(description="The file of images; local or mounted")
    labels: str | None = Field(None, description="The file of their labels, which go into the ledger's facts")
    largest_bytes: int = Field(
        1 << 30, ge=1, description="A file that unpacks to more is refused; it is held in memory"
    )

    def ranges(self, part_images: int) -> list[PartRange]:
        """Ranges of at most `part_images` images, after a check of both files."""
        images = self._images()
        if self.labels is not None and len(self._labels()) != len(images):
            raise SourceError(
                f"source {self.name}: {self.labels} has {len(self._labels())} labels, {self.path} has {len(images)} "
                "images; name the two files that belong together"
            )
        shape = "x".join(map(str, images.shape))
        return [
            PartRange(min(part_images, len(images) - first), f"{first} {shape}".encode())
            for first in range(0, len(images), part_images)
        ]

    def read(self, part: PartRange) -> Iterator[Record]:
        """The images of a range, each encoded as PNG, with its label in `facts`."""
        images = self._images()
        first, shape = part.start.decode().split()
        if shape != "x".join(map(str, images.shape)):
            raise SourceError(
                f"source {self.name}: {self.path} changed since the run began (was {shape}); put it back, or start a "
                "new run folder"
            )
        labels = self._labels() if self.labels is not None else None
        if labels is not None and len(labels) != len(images):
            raise SourceError(
                f"source {self.name}: {self.labels} changed since the run began (had {len(images)} labels, has "
                f"{len(labels)}); put it back, or start a new run folder"
            )
        for number in range(int(first), int(first) + part.records):
            facts: dict[str, Any] = {} if labels is None else {"label": int(labels[number])}
            yield Record(str(number), cv2.imencode(".png", images[number])[1].tobytes(), facts=facts)

    def _images(self) -> Values:
        return self._values(self.path, _IMAGES)

    def _labels(self) -> Values:
        return self._values(str(self.labels), _LABELS)

    def _values(self, path: str, dimensions: int) -> Values:
        if "://" in path:
            raise SourceError(
                f"source {self.name}: {path} is a URI; an idx source reads local or mounted files: copy it or mount "
                "its disk"
            )
        return read_idx(path, _KINDS[dimensions], self.largest_bytes, f"source {self.name}: ")


def read_idx(path: str, kind: Literal["images", "labels"], largest_bytes: int, teller: str = "") -> Values:
    """The values of an IDX file, plain or .gz: uint8[N, H, W] of images, uint8[N] of labels.

    `teller` begins the errors.

    Raises:
        SourceError: it isn't there, isn't whole, isn't of that kind, or unpacks to more than largest_bytes.
    """
    dimensions = _IMAGES if kind == "images" else _LABELS
    try:
        status = os.stat(path)
        return _read(path, dimensions, largest_bytes, status.st_size, status.st_mtime_ns)
    except _NoIdx as error:
        raise SourceError(f"{teller}{path} {error}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{teller}{path} is damaged or cut short ({error}); fetch it again") from error
    except OSError as error:
        raise SourceError(
            f"{teller}{path} can't be read ({error.strerror or error}); name an IDX file, such as "
            "train-images-idx3-ubyte.gz"
        ) from error


class _NoIdx(Exception):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


# By size and time of change too, so that a file that was put in another's place is read anew. Images and labels: two.
@lru_cache(maxsize=2)
def _read(path: str, dimensions: int, largest_bytes: int, size_bytes: int, changed_ns: int) -> Values:
    """The values of an IDX file: uint8[N, H, W] or uint8[N]."""
    with open(path, "rb") as plain:
        packed = plain.read(2) == _GZIP
        plain.seek(0)
        if not packed:
            return _values(plain, dimensions, largest_bytes)
        with gzip.open(plain, "rb") as unpacked:
            return _values(cast(IO[bytes], unpacked), dimensions, largest_bytes)


def _values(file: IO[bytes], dimensions: int, largest_bytes: int) -> Values:
    kind = _KINDS[dimensions]
    magic = file.read(4)
    wanted = bytes([0, 0, _BYTES, dimensions])
    if magic != wanted:
        raise _NoIdx(f"is no IDX file of {kind}: it begins with {magic.hex()}, not {wanted.hex()}; check the path")
    head = file.read(4 * dimensions)
    if len(head) != 4 * dimensions:
        raise _NoIdx("is cut short in its header; fetch it again")
    shape = tuple(np.frombuffer(head, ">u4").tolist())
    expected = int(np.prod(shape, dtype=object))
    if expected == 0:
        raise _NoIdx(f"holds no {kind} (its sizes are {'x'.join(map(str, shape))}); check the path")
    if expected > largest_bytes:
        raise _NoIdx(f"would unpack to {expected} bytes, over largest_bytes={largest_bytes}; set that higher")
    data = file.read(expected + 1)
    if len(data) != expected:
        got = f"{len(data)}" if len(data) < expected else "more"
        raise _NoIdx(f"is not whole: its header says {expected} bytes of {kind}, it has {got}; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)
