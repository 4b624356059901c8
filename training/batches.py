"""Shards -> batches of images, read by offset, decoded ahead of time, resumable at any update."""

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from manifests.store import Folder
from training.order import Positions, SampleOrder, batch_positions

INDEX = "index.parquet"
_DIGEST_HEX = 16  # 64 bits of each sha256 are kept: ample to notice damage, and 8 bytes a sample


class DamagedShard(Exception):
    """A sample can't be read from its shard, or isn't what the index says."""


class ShardReader:
    """Random access to the images of one split, by any number of threads.

    Samples are numbered by (shard, offset), from 0. About 20 bytes of memory a sample; a local shard is open only
    while a sample is read, so the number of shards meets no limit on open files.
    """

    def __init__(self, shards: Folder, size_px: int, split: str = "train", verify: bool = True) -> None:
        self.folder, self.size_px, self.split, self.verify = shards, size_px, split, verify
        table = shards.read_table(INDEX, ["shard", "offset", "size_bytes", "sha256", "split"])
        table = table.filter(pc.field("split") == split).sort_by([("shard", "ascending"), ("offset", "ascending")])
        counts = table.group_by("shard", use_threads=False).aggregate([("shard", "count")])
        self.shards: list[str] = counts["shard"].to_pylist()
        self.shard_samples: list[int] = counts["shard_count"].to_pylist()
        self._shard_ends = np.cumsum(self.shard_samples)
        self._offsets: npt.NDArray[np.int64] = table["offset"].to_numpy()
        self._sizes: npt.NDArray[np.int32] = table["size_bytes"].to_numpy().astype(np.int32)
        self._digests = _digests(table["sha256"]) if verify else None
        self._remote: dict[str, pa.NativeFile] = {}
        missing = sorted(set(self.shards) - set(shards.names()))
        if missing:
            raise DamagedShard(f"{shards}/{missing[0]} is in {INDEX} but not in the folder; write the shards again")

    def __len__(self) -> int:
        return len(self._offsets)

    def _read_at(self, shard: str, size_bytes: int, offset: int) -> bytes:
        path = self.folder.local_path(shard)
        if path is None:
            if shard not in self._remote:
                self._remote[shard] = self.folder.open_input(shard)
            return bytes(self._remote[shard].read_at(size_bytes, offset))
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.pread(descriptor, size_bytes, offset)
        finally:
            os.close(descriptor)

    def read(self, sample: int) -> bytes:
        """The encoded image of a sample.

        Raises:
            DamagedShard: the bytes in the shard are cut short, or not those of the index.
        """
        size_bytes = int(self._sizes[sample])
        data = self._read_at(self._shard_of(sample), size_bytes, int(self._offsets[sample]))
        if len(data) != size_bytes:
            raise self._damaged(sample, f"expected {size_bytes} bytes, got {len(data)}")
        if self._digests is not None:
            found = int.from_bytes(hashlib.sha256(data).digest()[: _DIGEST_HEX // 2], "big")
            if found != int(self._digests[sample]):
                raise self._damaged(sample, f"sha256 is {found:016x}..., the index has {self._digests[sample]:016x}...")
        return data

    def _shard_of(self, sample: int) -> str:
        return self.shards[int(np.searchsorted(self._shard_ends, sample, side="right"))]

    def _damaged(self, sample: int, what: str) -> DamagedShard:
        shard = self._shard_of(sample)
        rows = self.folder.read_table(INDEX, ["sample_id", "shard", "offset"])
        here = (pc.field("shard") == shard) & (pc.field("offset") == int(self._offsets[sample]))
        names = rows.filter(here)["sample_id"].to_pylist()
        return DamagedShard(f"{self.folder}/{shard}, sample {names[0]}: {what}; write the shards again")

    def images(self, samples: Positions) -> npt.NDArray[np.uint8]:
        """The decoded images of some samples.

        Returns:
            images: uint8[N, size_px, size_px, 3], RGB, 0..255.

        Raises:
            DamagedShard: as `read`, or an image can't be decoded or has another size than the preset's.
        """
        out = np.empty((len(samples), self.size_px, self.size_px, 3), dtype=np.uint8)
        for row, sample in enumerate(samples.tolist()):
            image = cv2.imdecode(np.frombuffer(self.read(sample), dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
            if image is None:
                raise self._damaged(sample, "the image can't be decoded")
            if image.shape != out.shape[1:]:
                height, width = image.shape[:2]
                raise self._damaged(
                    sample, f"the image is {width}x{height}, the preset's size_px is {self.size_px}; set both alike"
                )
            out[row] = image
        return out


def _digests(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    text = "".join(pc.utf8_slice_codeunits(column, 0, _DIGEST_HEX).to_pylist())
    return np.frombuffer(bytes.fromhex(text), dtype=">u8").astype(np.uint64)


def real_batches(
    reader: ShardReader,
    order: SampleOrder,
    updates: Iterable[int],
    batch_images: int,
    rank: int = 0,
    world: int = 1,
    threads: int = 2,
    ahead: int = 4,
) -> Generator[tuple[int, torch.Tensor], None, None]:
    """Worker `rank`'s images of the global batches of some updates, decoded ahead of time by threads.

    `updates` may leave out updates that need no real images; nothing is read for those. At most `ahead` batches are
    waiting at any time. Close the iterator to stop the threads.

    Yields:
        (update, images): images: uint8[batch_images / world, 3, size_px, size_px], RGB, 0..255, channels last.
    """

    def read(update: int) -> torch.Tensor:
        samples = order.samples_at(batch_positions(update, batch_images, rank, world))
        return torch.from_numpy(reader.images(samples)).permute(0, 3, 1, 2)

    waiting: deque[tuple[int, Future[Any]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
        try:
            for update in updates:
                waiting.append((update, pool.submit(read, update)))
                if len(waiting) > ahead:
                    first, images = waiting.popleft()
                    yield first, images.result()
            while waiting:
                first, images = waiting.popleft()
                yield first, images.result()
        finally:
            for _, images in waiting:
                images.cancel()
