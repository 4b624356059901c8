"""Grey thumbs, in memory or in a file: a kilobyte each is too much to hold of millions, and few are needed at once."""

import os
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from manifests.schema import THUMB_PX

Rows = npt.NDArray[np.integer] | npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

_BYTES = THUMB_PX * THUMB_PX
_BLOCK_IMAGES = 4096


class StoredLumas:
    """Lumas uint8[N, 32, 32] in a temporary file without a name, which goes with the last object that reads it.

    Indexing by rows gives other rows of the same file, and reads nothing. Several threads may read at once.
    """

    def __init__(self, parts: Iterable[Pixels]) -> None:
        """Write all `parts`, uint8[N, 32, 32] each, one after another."""
        self._file = _NamelessFile()
        count = 0
        for part in parts:
            self._file.append(np.ascontiguousarray(part).tobytes())
            count += len(part)
        self._rows = np.arange(count)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, 32, 32)."""
        return len(self._rows), THUMB_PX, THUMB_PX

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Rows) -> "StoredLumas":
        other = StoredLumas.__new__(StoredLumas)
        other._file, other._rows = self._file, self._rows[rows]
        return other

    def read(self) -> Pixels:
        """All of them, uint8[N, 32, 32]."""
        pixels = np.empty(self.shape, np.uint8)
        for place, row in enumerate(self._rows.tolist()):
            self._file.read_into(pixels[place].data.cast("B"), row * _BYTES)
        return pixels


class _NamelessFile:
    """A temporary file that is closed, and with it gone, when nothing refers to it any more."""

    def __init__(self) -> None:
        self._descriptor, name = tempfile.mkstemp(prefix="lumas-")
        os.unlink(name)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def append(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def read_into(self, buffer: memoryview, start: int) -> None:
        count = os.preadv(self._descriptor, [buffer], start)
        if count != len(buffer):
            raise OSError(f"{count} of {len(buffer)} bytes at {start} of a temporary file; run the stage again")


Lumas = Pixels | StoredLumas


def read(lumas: Lumas, rows: Rows) -> Pixels:
    """Some rows of lumas, uint8[K, 32, 32]."""
    chosen = lumas[rows]
    return chosen.read() if isinstance(chosen, StoredLumas) else chosen


def blocks(lumas: Lumas) -> Iterator[Pixels]:
    """All rows, some thousands at a time."""
    for start in range(0, len(lumas), _BLOCK_IMAGES):
        yield read(lumas, np.arange(start, min(start + _BLOCK_IMAGES, len(lumas))))
