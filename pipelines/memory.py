"""Memory of the driver and the workers: how their allocators are set, and what the garbage collector looks at."""

import ctypes
import gc
import os
from functools import cache

import pyarrow as pa

# Left to itself glibc raises its thresholds as large blocks are freed, and keeps what it has; Arrow's own pools keep
# theirs. A worker that had done eight parts then held a fifth more than after one, and it went on (measured); with
# these it held the same.
_LARGE_BYTES = 1 << 20
# Below this much at the top of the heap nothing is given back, or every picture's buffers would be taken anew: 3 %.
_SPARE_BYTES = 32 << 20
_ARENAS = 2
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": str(_ARENAS),
    "MALLOC_MMAP_THRESHOLD_": str(_LARGE_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(_SPARE_BYTES),
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}

# A training asks for the same large blocks at each update. With these it keeps what it frees; else large tensors are
# mapped and unmapped at each use, and their pages taken and zeroed anew: 4 to 7 % of an update on CPUs. In one arena,
# since in any but the first blocks of more than 64 MB are mapped all the same, and Ray trains in a thread.
KEEPING = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}


def give_back_memory() -> None:
    """Let this process, and those that it starts from now on, return freed memory to the system.

    Settings that the user made in the environment are left as they are; where the C library is not glibc, only Arrow's
    pool is set.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if os.environ["ARROW_DEFAULT_MEMORY_POOL"] == "system":
        pa.set_memory_pool(pa.system_memory_pool())
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for option, name in (
            (_M_ARENA_MAX, "MALLOC_ARENA_MAX"),
            (_M_MMAP_THRESHOLD, "MALLOC_MMAP_THRESHOLD_"),
            (_M_TRIM_THRESHOLD, "MALLOC_TRIM_THRESHOLD_"),
        ):
            set_option(option, int(os.environ[name]))


@cache
def leave_imports_uncollected() -> None:
    """Take what was imported so far out of the garbage collector's rounds; once per process.

    Ray, torch and the rest are 370,000 objects that live as long as the process. Looking them through each time took
    26 us an image of ingest.
    """
    gc.freeze()
