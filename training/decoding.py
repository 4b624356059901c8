"""Samples by their place in shards -> pixels. Imports little, so that loader processes start at once."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

DIGEST_BYTES = 8  # of each sha256: ample to notice damage
OPEN_SHARDS = 256  # of each process; well under the usual limit of 1,024 open files

ReadAt = Callable[[int, int, int], bytes]  # (shard, size_bytes, offset) -> the bytes there


class BadSample(Exception):
    """A sample can't be read, or isn't what the index says: (sample, what is wrong)."""

    def __init__(self, sample: int, what: str) -> None:
        super().__init__(sample, what)
        self.sample, self.what = sample, what


class LocalShards:
    """Shards on this machine, read at any place; those used last stay open."""

    def __init__(self, paths: Sequence[str], most_open: int = OPEN_SHARDS) -> None:
        self._paths, self._most_open = paths, most_open
        self._open: OrderedDict[int, int] = OrderedDict()

    def read_at(self, shard: int, size_bytes: int, offset: int) -> bytes:
        """The bytes at a place in a shard; fewer where it ends before."""
        descriptor = self._open.get(shard)
        if descriptor is None:
            if len(self._open) >= self._most_open:
                os.close(self._open.popitem(last=False)[1])
            descriptor = self._open[shard] = os.open(self._paths[shard], os.O_RDONLY | os.O_CLOEXEC)
        else:
            self._open.move_to_end(shard)
        # Rather than a memory map: a file that is cut short while it is mapped kills the process that looks at it.
        return os.pread(descriptor, size_bytes, offset)

    def close(self) -> None:
        """Close the shards that are open."""
        while self._open:
            os.close(self._open.popitem()[1])


class Index:
    """Where each sample lies. Samples are numbered by (shard, offset), from 0.

    offsets: int64[N], sizes: int32[N], digests: uint64[N] or uint64[0] to check nothing, shard_ends: int64[shards],
    the number of the first sample after each shard's.
    """

    def __init__(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self.offsets, self.sizes = arrays["offsets"], arrays["sizes"]
        self.digests, self.shard_ends = arrays["digests"], arrays["shard_ends"]

    def encoded(self, samples: npt.NDArray[np.int64], read_at: ReadAt) -> "Encoded":
        """An iterator of (sample, its bytes).

        Raises:
            BadSample: the shard can't be opened or is cut short, or the bytes are not those of the index.
        """
        return Encoded(self, samples, read_at)


class Encoded:
    """The encoded images of some samples, one by one."""

    def __init__(self, index: Index, samples: npt.NDArray[np.int64], read_at: ReadAt) -> None:
        self._read_at = read_at
        shards = np.searchsorted(index.shard_ends, samples, side="right").tolist()
        digests = index.digests[samples].tolist() if len(index.digests) else [None] * len(samples)
        # Plain numbers: an array gives them one by one far more slowly than a list.
        self._places = zip(
            samples.tolist(),
            shards,
            index.sizes[samples].tolist(),
            index.offsets[samples].tolist(),
            digests,
            strict=True,
        )

    def __iter__(self) -> "Encoded":
        return self

    def __next__(self) -> tuple[int, bytes]:
        sample, shard, size_bytes, offset, digest = next(self._places)
        try:
            data = self._read_at(shard, size_bytes, offset)
        except OSError as error:
            raise BadSample(sample, f"the shard can't be read ({error.strerror or error})") from error
        if len(data) != size_bytes:
            raise BadSample(sample, f"expected {size_bytes} bytes, got {len(data)}")
        if digest is not None:
            found = int.from_bytes(hashlib.sha256(data).digest()[:DIGEST_BYTES], "big")
            if found != digest:
                raise BadSample(sample, f"sha256 is {found:016x}..., the index has {digest:016x}...")
        return sample, data


def decode_into(out: npt.NDArray[np.uint8], sample: int, data: bytes) -> None:
    """Decode an image into `out`: uint8[H, W, C], RGB (C = 3) or grey (C = 1), 0..255.

    Raises:
        BadSample: it can't be decoded, or has another size.
    """
    side, channels = out.shape[0], out.shape[2]
    flags = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if image is None:
        raise BadSample(sample, "the image can't be decoded")
    if image.shape[0] != side or image.shape[1] != side:
        height, width = image.shape[:2]
        raise BadSample(sample, f"the image is {width}x{height}, the preset's size_px is {side}; set both alike")
    # OpenCV's Python interface decodes into memory of its own only: one copy, of the image's bytes.
    out[...] = image if channels == 3 else image[:, :, None]
