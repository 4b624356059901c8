"""How a process ends in which Ray was at work."""

import atexit
import os
import sys
import threading
from typing import NoReturn

_LOST_OUTPUT = 120  # as Python's own exit status where what was printed could not be written out


def leave(status: int) -> NoReturn:
    """End the process with a status, once all is done that Python does at its end, but before C++ clears up.

    Threads of Ray and gRPC outlive ray.shutdown (seen: worker.io, gcs_client_io_s, event_engine). Now and then one of
    them uses what C++ destroys at exit, and the process dies of SIGSEGV: finished work then looks as if it had failed.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, and ends those of executors
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        status = status or _LOST_OUTPUT
    os._exit(status)


def is_needed() -> bool:
    """Whether this process has loaded Ray."""
    return "ray" in sys.modules
