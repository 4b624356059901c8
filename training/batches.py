"""Shards -> batches of images, decoded ahead of time by processes into shared memory, from any update on.

A ring of slots, each a batch; loader k of n fills rows k, k + n, ... of this worker's share of each batch. Between
the processes go fixed messages of a few bytes; pixels are written once, where the trainer reads them.
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from training.cache import ShardCache
from training.decoding import OPEN_SHARDS
from training.loader import BROKEN, FINE
from training.memory import share_arrays
from training.order import SampleOrder, Share
from training.pinning import PinnedSlots
from training.processes import LoaderDied, Loaders
from training.reading import ShardReader

_MOST_LOADERS = 8
_CACHED_OPEN = 16  # what is deleted from the cache keeps its bytes on the disk while it is open


class LoaderSettings(BaseModel):
    """How images are read ahead. Changes no result."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    loaders: int | None = Field(
        default=None,
        ge=1,
        description="processes that read and decode, for each worker; none: 1 beside a training on CPUs, with a GPU as "
        "many as the cores allow, up to 8",
    )
    ahead_batches: int = Field(default=4, ge=1, description="batches that are decoded ahead of the one in use")
    verify: bool = Field(default=True, description="check each image that is read against its sha256 in the index")
    cache_gb: float = Field(
        default=20.0,
        gt=0,
        description="disk that shards of an object store may take on each node, in GB; what the batches at hand "
        "need is kept beyond it",
    )
    cache_folder: str | None = Field(
        default=None, description="where they are kept meanwhile; none: a temporary folder of the data set"
    )

    def processes(self, gpu: bool) -> int:
        """Loader processes of one worker."""
        if self.loaders is not None:
            return self.loaders
        if not gpu:
            return 1
        workers_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return max(1, min(_MOST_LOADERS, len(os.sched_getaffinity(0)) // workers_here - 1))


class Batch(NamedTuple):
    """A worker's share of the global batch of an update.

    images: torch.uint8[n, C, H, W], channels last, RGB or grey, 0..255; samples: int64[n], as they were read
    Both lie in shared memory that is used again once the next batch is asked for.
    """

    update: int
    images: torch.Tensor
    samples: npt.NDArray[np.int64]


class Batches(Iterator[Batch]):
    """The batches of some updates, in their order, and the processes that fill them. See `open_batches`."""

    def __init__(
        self,
        reader: ShardReader,
        order: SampleOrder,
        updates: Iterable[int],
        share: Share,
        settings: LoaderSettings,
        pin: bool = False,
    ) -> None:
        self._reader, self._order, self._share = reader, order, share
        self._updates = iter(updates)
        self._next: int | None = None  # an update whose shards are still being fetched
        self._turn = 0
        # One is in use, and where copies to a GPU run by themselves one more may still be.
        slots = settings.ahead_batches + (2 if pin else 1)
        n, side, channels = len(share.rows()), reader.size_px, reader.channels
        ring = share_arrays(
            {
                "turn": ("<i8", [1]),
                "wanted": ("<i8", [slots, n]),
                "samples": ("<i8", [slots, n]),
                "images": ("|u1", [slots, n, side, side, channels]),
            }
        )
        self._ring = ring.arrays
        self._tensors = [torch.from_numpy(images).permute(0, 3, 1, 2) for images in ring.arrays["images"]]
        self._free = deque(range(slots))
        self._in_use: int | None = None
        self._filling: deque[tuple[int, int]] = deque()  # (update, slot), oldest first
        self._unfilled = [0] * slots  # loaders that have not answered yet
        self._wrong: dict[int, tuple[int, str]] = {}  # slot -> the sample that is wrong in it, and how
        try:
            with contextlib.ExitStack() as stack:
                self._pinned = stack.enter_context(PinnedSlots(self._ring["images"], pin))
                paths = reader.local_paths()
                self._cache: ShardCache | None = None
                if paths is None:
                    self._cache = stack.enter_context(
                        ShardCache.of_reader(reader, settings.cache_folder, int(settings.cache_gb * 1e9))
                    )
                    self._cache.check_room(reader.shards, order.window_samples / order.samples)
                    paths = [str(self._cache.path(shard)) for shard in reader.shards]
                most_open = OPEN_SHARDS if self._cache is None else _CACHED_OPEN
                loaders = Loaders(settings.processes(pin), paths, reader.shared, ring, most_open)
                self._loaders = stack.enter_context(loaders)
                self._stack = stack.pop_all()
        finally:
            os.close(ring.descriptor)  # the loaders have their own

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
            DamagedShard: a sample of it can't be read, or isn't what the index says.
            LoaderDied: a loader process ended by itself.
        """
        self._release()
        self._fill()
        if not self._filling:
            raise StopIteration
        update, slot = self._filling[0]
        while self._unfilled[slot]:
            self._answer()
        if slot in self._wrong:
            raise self._reader.damaged(*self._wrong[slot])
        self._filling.popleft()
        self._in_use = slot
        return Batch(update, self._tensors[slot], self._ring["samples"][slot])

    def seek(self, updates: Iterable[int]) -> None:
        """Go on with other updates, with the same processes; what was read ahead is dropped."""
        self._release()
        self._turn += 1
        self._ring["turn"][0] = self._turn
        while any(self._unfilled):
            self._answer()
        self._free.extend(slot for _, slot in self._filling)
        self._filling.clear()
        self._wrong.clear()
        self._updates, self._next = iter(updates), None

    def close(self) -> None:
        """End the processes. The last batch stays readable."""
        self._turn += 1
        self._ring["turn"][0] = self._turn  # so that they need not finish what they are at
        self._stack.close()

    def _release(self) -> None:
        if self._in_use is not None:
            self._free.extend(self._pinned.release(self._in_use))
            self._in_use = None

    def _fill(self) -> None:
        """Hand out the free slots."""
        while self._free:
            if self._next is None:
                self._next = next(self._updates, None)
            if self._next is None:
                return
            if self._cache is not None and not self._fetched(self._cache, self._next):
                return
            slot, update, self._next = self._free.popleft(), self._next, None
            self._ring["wanted"][slot] = self._order.samples_at(self._share.positions(update))
            self._ring["samples"][slot] = -1
            self._filling.append((update, slot))
            self._unfilled[slot] = len(self._loaders)
            self._loaders.ask(slot, self._turn)

    def _fetched(self, cache: ShardCache, update: int) -> bool:
        """Whether the shards of an update are here; waits for them where there is nothing else to wait for."""
        size, first = self._share.batch_images, self._filling[0][0] if self._filling else update
        shards: list[int] = []
        position = min(first, update) * size
        while position < (update + 1) * size:
            window = self._order.window_at(position)
            shards += window.shards.tolist()
            position = window.end
        names, ahead = self._reader.shards, self._order.window_at(position).shards.tolist()
        needed = [names[shard] for shard in shards]
        cache.want(needed, [names[shard] for shard in ahead])
        if not self._filling:
            cache.wait(needed)
        return cache.has(needed)

    def _answer(self) -> None:
        """Take the loaders' answers."""
        for slot, turn, outcome, what in self._loaders.answers():
            self._unfilled[slot] -= 1
            if outcome == FINE or turn != self._turn:
                continue
            if outcome == BROKEN:
                raise LoaderDied(f"a loader process can't go on: {what}")
            self._wrong.setdefault(slot, (outcome, what))


@contextlib.contextmanager
def open_batches(
    reader: ShardReader,
    order: SampleOrder,
    updates: Iterable[int],
    share: Share,
    settings: LoaderSettings | None = None,
    pin: bool = False,
) -> Iterator[Batches]:
    """A worker's share of the global batches of some updates, as an iterator; its processes end with the block.

    `updates` may leave out updates that need no real images, and may begin anywhere: nothing is read for those left
    out or before. `pin` registers the batches' memory with CUDA, so that copies to the GPU need not be waited for.
    """
    batches = Batches(reader, order, updates, share, settings or LoaderSettings(), pin)
    try:
        yield batches
    finally:
        batches.close()
