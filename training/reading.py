"""The samples of a split of the shards: the index, and single images by number."""

import os
import weakref
from collections import OrderedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests.shards import read_labels
from manifests.store import Folder
from training.decoding import DIGEST_BYTES, BadSample, Index, LocalShards, ReadAt, decode_into
from training.endings import Untrainable
from training.memory import share_arrays

INDEX = "index.parquet"
_REMOTE_OPEN = 64


class DamagedShard(Exception):
    """A sample can't be read from its shard, or isn't what the index says."""


class ShardReader:
    """Random access to the images of one split; `training.batches` reads them in bulk, by processes.

    Samples are numbered by (shard, offset), from 0. About 20 bytes of memory a sample, shared with the loaders; a
    bounded number of shards is open at a time.
    """

    def __init__(
        self, shards: Folder, size_px: int, split: str = "train", verify: bool = True, channels: int = 3
    ) -> None:
        self.folder, self.size_px, self.split, self.verify, self.channels = shards, size_px, split, verify, channels
        table = shards.read_table(INDEX, ["shard", "offset", "size_bytes", "sha256", "split"])
        table = table.filter(pc.field("split") == split).sort_by([("shard", "ascending"), ("offset", "ascending")])
        counts = table.group_by("shard", use_threads=False).aggregate([("shard", "count")])
        self.shards: list[str] = counts["shard"].to_pylist()
        self.shard_samples: list[int] = counts["shard_count"].to_pylist()
        missing = sorted(set(self.shards) - set(shards.names()))
        if missing:
            raise DamagedShard(f"{shards}/{missing[0]} is in {INDEX} but not in the folder; write the shards again")
        n = len(table)
        self.shared = share_arrays(
            {
                "offsets": ("<i8", [n]),
                "sizes": ("<i4", [n]),
                "digests": ("<u8", [n if verify else 0]),
                "shard_ends": ("<i8", [len(self.shards)]),
            }
        )
        weakref.finalize(self, os.close, self.shared.descriptor)
        arrays = self.shared.arrays
        arrays["offsets"][:] = table["offset"].to_numpy()
        arrays["sizes"][:] = table["size_bytes"].to_numpy()
        arrays["shard_ends"][:] = np.cumsum(self.shard_samples)
        if verify:
            arrays["digests"][:] = _digests(table["sha256"])
        self.index = Index(arrays)
        self._read_at = self._reader()

    def __len__(self) -> int:
        return len(self.index.offsets)

    def local_paths(self) -> list[str] | None:
        """The shards' paths on this machine; None where the folder is remote."""
        paths = [self.folder.local_path(shard) for shard in self.shards]
        return [str(path) for path in paths if path is not None] if None not in paths else None

    def read(self, sample: int) -> bytes:
        """The encoded image of a sample.

        Raises:
            DamagedShard: the bytes in the shard are cut short, or not those of the index.
        """
        try:
            return next(self.index.encoded(np.array([sample]), self._read_at))[1]
        except BadSample as bad:
            raise self.damaged(bad.sample, bad.what) from bad

    def images(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The decoded images of some samples.

        Returns:
            images: uint8[N, size_px, size_px, channels], RGB or grey, 0..255.

        Raises:
            DamagedShard: as `read`, or an image can't be decoded or has another size than the preset's.
        """
        out = np.empty((len(samples), self.size_px, self.size_px, self.channels), dtype=np.uint8)
        try:
            for image, (sample, data) in zip(out, self.index.encoded(samples, self._read_at), strict=True):
                decode_into(image, sample, data)
        except BadSample as bad:
            raise self.damaged(bad.sample, bad.what) from bad
        return out

    def labels(self, classes: int) -> npt.NDArray[np.int64]:
        """The class of every sample: int64[N], 0 .. classes - 1.

        Raises:
            Untrainable: as `read_classes`.
        """
        return read_classes(self.folder, classes, self.split)

    def damaged(self, sample: int, what: str) -> DamagedShard:
        """The error that names a sample which can't be read, and what is wrong with it."""
        shard = self.shards[int(np.searchsorted(self.index.shard_ends, sample, side="right"))]
        rows = self.folder.read_table(INDEX, ["sample_id", "shard", "offset"])
        here = (pc.field("shard") == shard) & (pc.field("offset") == int(self.index.offsets[sample]))
        names = rows.filter(here)["sample_id"].to_pylist()
        return DamagedShard(f"{self.folder}/{shard}, sample {names[0]}: {what}; write the shards again")

    def _reader(self) -> ReadAt:
        paths = self.local_paths()
        if paths is not None:
            shards = LocalShards(paths)
            weakref.finalize(self, shards.close)
            return shards.read_at
        held: OrderedDict[int, pa.NativeFile] = OrderedDict()

        def read_at(shard: int, size_bytes: int, offset: int) -> bytes:
            if shard not in held:
                if len(held) >= _REMOTE_OPEN:
                    held.popitem(last=False)[1].close()
                held[shard] = self.folder.open_input(self.shards[shard])
            held.move_to_end(shard)
            return bytes(held[shard].read_at(size_bytes, offset))

        return read_at


def read_classes(shards: Folder, classes: int, split: str = "train") -> npt.NDArray[np.int64]:
    """The class of every sample of a split, by shard and offset: int64[N], 0 .. classes - 1.

    Raises:
        Untrainable: a sample has none, or one that is out of range.
    """
    held = read_labels(shards, INDEX, split)
    labels = None if held is None else np.asarray(pc.fill_null(held, -1).to_numpy(), np.int64)
    missing = None if labels is None else int((labels < 0).sum())
    if labels is None or missing:
        which = "its samples" if labels is None else f"{missing:,} of {len(labels):,} samples"
        raise Untrainable(
            f"classes={classes}, but {shards}/{INDEX} has no labels of {which}; name the labels in the recipe (an idx "
            "source's labels=...) and run with --redo shard, or set classes=0"
        )
    if len(labels) and labels.max() >= classes:
        raise Untrainable(
            f"classes={classes}, but {shards}/{INDEX} has labels up to {labels.max()}; set classes={labels.max() + 1}"
        )
    return labels


def _digests(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    text = "".join(pc.utf8_slice_codeunits(column, 0, 2 * DIGEST_BYTES).to_pylist())
    return np.frombuffer(bytes.fromhex(text), dtype=">u8").astype(np.uint64)
