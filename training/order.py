"""The order of samples: a pure function of (seed, epoch), the same for any number of workers.

An endless stream of positions runs through the epochs: position p is sample p % n of epoch p // n. Global batch t is
positions t * B to (t + 1) * B - 1, across an epoch's end where it falls so, hence every sample is used exactly once in
an epoch and no tail is dropped. Worker r of w takes an interleaved share of each global batch, and its loader k of n
rows k, k + n, ... of that share. The place to resume at is one integer.

Within an epoch the shards are put in a random order and cut into windows of whole shards; the samples of a window are
shuffled together. A window bounds what is read at random at one time.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.draws import Stream, permutation, philox
from training.endings import Untrainable

Positions = npt.NDArray[np.int64]


class _Epoch(NamedTuple):
    """The windows of an epoch: shards in their order, and where each window starts in both."""

    shards: Positions
    window_shards: Positions  # [windows + 1]: the window's first place in `shards`
    window_starts: Positions  # [windows + 1]: the window's first position in the epoch


class Window(NamedTuple):
    """What is shuffled together.

    shards: int64[K], their numbers; end: the position in the stream after the window's last sample
    """

    shards: Positions
    end: int


class Share(NamedTuple):
    """Which images of every global batch worker `rank` of `world` takes: blocks rank, rank + world, ... of it.

    A block is `block` images on end. The global batches, and the blocks in them, don't hang on the number of workers.
    """

    batch_images: int
    rank: int = 0
    world: int = 1
    block: int = 1

    def check(self) -> None:
        """Raise Untrainable if the workers can't have equal shares of whole blocks."""
        least = self.block * self.world
        if self.batch_images % least:
            below, above = self.batch_images // least * least, -(-self.batch_images // least) * least
            batches = " or ".join(str(batch) for batch in (below, above) if batch)
            fitting = [
                w for w in range(1, self.batch_images // self.block + 1) if self.batch_images % (w * self.block) == 0
            ]
            blocks = f" in blocks of {self.block}" if self.block > 1 else ""
            workers = f"; or workers: {', '.join(map(str, fitting))}" if fitting else ""
            raise Untrainable(
                f"batch_images={self.batch_images} does not divide by {self.world} workers{blocks}; "
                f"try batch_images={batches}{workers}"
            )

    @property
    def images(self) -> int:
        """Images of this share."""
        return self.batch_images // self.world

    def rows(self) -> Positions:
        """The places within a global batch: int64[images], rising."""
        self.check()
        blocks = np.arange(self.batch_images, dtype=np.int64).reshape(-1, self.block)
        return blocks[self.rank :: self.world].reshape(-1)

    def positions(self, batch: int) -> Positions:
        """The positions in the stream of this share of a global batch: int64[images], rising."""
        return batch * self.batch_images + self.rows()


class SampleOrder:
    """The stream of samples of a data set. Samples are numbered shard by shard, from 0 to n - 1.

    Holds the few windows that were used last; all else is computed from the seed.
    """

    def __init__(self, shard_samples: Sequence[int], seed: int, window_samples: int) -> None:
        self.shard_samples = np.asarray(shard_samples, dtype=np.int64)
        self.samples = int(self.shard_samples.sum())
        if self.samples == 0:
            raise Untrainable("there are no samples to train on; the shards' train split is empty")
        if window_samples < 1:
            raise ValueError(f"window_samples={window_samples} must be 1 or more")
        self.seed = seed
        self.window_samples = window_samples
        self._shard_starts = np.concatenate(([0], np.cumsum(self.shard_samples)[:-1]))
        self._epoch = lru_cache(maxsize=2)(self._windows_of)
        self._window = lru_cache(maxsize=3)(self._samples_of)

    @property
    def identity(self) -> str:
        """16 hex digits that say which order it is, but for the seed: of the shards' sizes and the window."""
        sizes = self.shard_samples.astype("<i8").tobytes()
        return hashlib.sha256(f"{self.window_samples}\0".encode() + sizes).hexdigest()[:16]

    def samples_at(self, positions: Positions) -> Positions:
        """The sample at each position of the endless stream.

        positions: int64[K], 0 or more -> samples: int64[K], 0 .. n - 1.
        """
        chosen = np.empty(len(positions), dtype=np.int64)
        epochs, places = np.divmod(positions, self.samples)
        for epoch in np.unique(epochs).tolist():
            windows = self._epoch(epoch)
            of_epoch = np.flatnonzero(epochs == epoch)
            of_window = np.searchsorted(windows.window_starts, places[of_epoch], side="right") - 1
            for window in np.unique(of_window).tolist():
                rows = of_epoch[of_window == window]
                chosen[rows] = self._window(epoch, window)[places[rows] - windows.window_starts[window]]
        return chosen

    def window_at(self, position: int) -> Window:
        """The window that holds a position of the stream."""
        epoch, place = divmod(position, self.samples)
        windows = self._epoch(epoch)
        window = int(np.searchsorted(windows.window_starts, place, side="right")) - 1
        shards = windows.shards[windows.window_shards[window] : windows.window_shards[window + 1]]
        return Window(shards, epoch * self.samples + int(windows.window_starts[window + 1]))

    def _windows_of(self, epoch: int) -> _Epoch:
        shards = permutation(len(self.shard_samples), philox(self.seed, Stream.SHARDS, epoch))
        ends = np.cumsum(self.shard_samples[shards])
        window_shards, window_starts = [0], [0]
        while window_starts[-1] < self.samples:
            # The fewest further shards that fill a window; the last window takes what is left.
            full = int(np.searchsorted(ends, window_starts[-1] + self.window_samples)) + 1
            full = min(full, len(shards))
            window_shards.append(full)
            window_starts.append(int(ends[full - 1]))
        return _Epoch(shards, np.array(window_shards), np.array(window_starts))

    def _samples_of(self, epoch: int, window: int) -> Positions:
        """The samples of a window, in their order."""
        windows = self._epoch(epoch)
        shards = windows.shards[windows.window_shards[window] : windows.window_shards[window + 1]]
        starts, counts = self._shard_starts[shards], self.shard_samples[shards]
        samples = np.concatenate([np.arange(s, s + c) for s, c in zip(starts, counts, strict=True)])
        return samples[permutation(len(samples), philox(self.seed, Stream.SAMPLES, epoch, window))]
