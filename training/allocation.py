"""How glibc keeps memory while a network trains."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER_BYTES = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep what it frees, for the next update to take: it asks for the same blocks each time.

    Large tensors are otherwise mapped and unmapped at each use, and their pages taken and zeroed anew: 4 to 7 % of an
    update's time. Where the C library is not glibc, nothing is changed.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_MAX, 0)
        set_option(_M_TRIM_THRESHOLD, _NEVER_BYTES)
