"""Memory that a GPU copies from by itself: page-locked, and not written again while it does."""

import contextlib
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


class PinnedSlots(contextlib.AbstractContextManager["PinnedSlots"]):
    """The slots of a ring, page-locked while inside the block where `pin` is set and CUDA is there."""

    def __init__(self, slots: npt.NDArray[np.uint8], pin: bool) -> None:
        self._address, self._size_bytes = slots.ctypes.data, slots.nbytes
        self._cuda: Any = torch.cuda if pin and torch.cuda.is_available() else None
        self._copying: deque[tuple[int, Any]] = deque()

    def __enter__(self) -> "PinnedSlots":
        if self._cuda:
            self._cuda.check_error(int(self._cuda.cudart().cudaHostRegister(self._address, self._size_bytes, 0)))
        return self

    def __exit__(self, *_: object) -> None:
        if self._cuda:
            self._cuda.synchronize()  # a copy may be under way
            self._cuda.cudart().cudaHostUnregister(self._address)

    def release(self, slot: int) -> list[int]:
        """The slots that may be written again, now that the trainer has asked for all copies of `slot`."""
        if not self._cuda:
            return [slot]
        copied = self._cuda.Event()
        copied.record()
        self._copying.append((slot, copied))
        ready = []
        while len(self._copying) > 1:  # the newest is not waited for: its copy has hardly begun
            before, copied = self._copying.popleft()
            copied.synchronize()
            ready.append(before)
        return ready
