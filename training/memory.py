"""Arrays that child processes share: anonymous memory without a name, so nothing is left behind by a kill."""

import mmap
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_ALIGN_BYTES = 64  # a cache line

# What lies in the memory, in order: name -> (dtype, shape). Plain values, so that it can be sent as JSON.
Layout = Mapping[str, tuple[str, Sequence[int]]]


class SharedArrays(NamedTuple):
    """Arrays in one piece of shared memory, which stays as long as any of them or a process's map of it.

    descriptor: of the memory, to hand to a child process; the maker closes it
    """

    descriptor: int
    layout: Layout
    arrays: dict[str, npt.NDArray[Any]]
    buffer: mmap.mmap


def share_arrays(layout: Layout) -> SharedArrays:
    """New shared arrays, all zero. Close `descriptor` once no further child needs it."""
    descriptor = os.memfd_create("dcgan", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, max(1, _places(layout)[1]))
        return map_arrays(descriptor, layout)
    except BaseException:
        os.close(descriptor)
        raise


def map_arrays(descriptor: int, layout: Layout) -> SharedArrays:
    """The arrays that another process, or this one, put into the memory behind a descriptor."""
    buffer = mmap.mmap(descriptor, 0)
    places, _ = _places(layout)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, (dtype, shape) in layout.items():
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(buffer, dtype=dtype, count=count, offset=places[name]).reshape(shape)
    return SharedArrays(descriptor, layout, arrays, buffer)


def _places(layout: Layout) -> tuple[dict[str, int], int]:
    places, end = {}, 0
    for name, (dtype, shape) in layout.items():
        places[name] = end
        size_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        end += -(-size_bytes // _ALIGN_BYTES) * _ALIGN_BYTES
    # One byte more, for an empty array at the end still needs a place within the memory.
    return places, end + _ALIGN_BYTES
