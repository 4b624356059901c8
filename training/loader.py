"""A loader process: reads and decodes its rows of each batch into memory that it shares with the trainer.

    python -m training.loader DESCRIPTOR      what training.batches starts

DESCRIPTOR: memory with the process's task as JSON. A message on standard input names a slot to fill, a reply on
standard output says that its rows are there. Nothing else travels between the two, and a process ends by itself when
its trainer does.
"""

import json
import os
import select
import struct
import sys
from typing import Any, NamedTuple

import cv2

from training.decoding import BadSample, Index, LocalShards, decode_into
from training.memory import map_arrays

REQUEST = struct.Struct("<ii")  # slot, turn
REPLY = struct.Struct("<iiq240s")  # slot, turn, sample or one of these, what is wrong with it
FINE, BROKEN = -1, -2
_PARENT_CHECK_MS = 2_000


class Task(NamedTuple):
    """What a loader process is to do, as plain values. Layouts are those of `training.memory`."""

    parent: int  # the trainer's process
    loader: int  # takes rows loader, loader + loaders, ... of each slot
    loaders: int
    shards: list[str]  # paths
    most_open: int
    samples: int  # descriptors and layouts: of the index's arrays, and of the ring's
    samples_layout: dict[str, Any]
    ring: int
    ring_layout: dict[str, Any]


def serve(task: Task, requests: int, replies: int) -> None:
    """Fill slots as asked until `requests` is closed, or the trainer is gone.

    A request of a turn that is over is answered unfilled.
    """
    index = Index(map_arrays(task.samples, task.samples_layout).arrays)
    ring = map_arrays(task.ring, task.ring_layout).arrays
    shards = LocalShards(task.shards, task.most_open)
    mine = slice(task.loader, None, task.loaders)
    turn_now = memoryview(ring["turn"].data)
    waiting = select.poll()
    waiting.register(requests, select.POLLIN)
    while True:
        while not waiting.poll(_PARENT_CHECK_MS):
            # Another child of the trainer may hold our input open after the trainer was killed.
            if os.getppid() != task.parent:
                return
        message = os.read(requests, REQUEST.size)
        if len(message) < REQUEST.size:
            return
        slot, turn = REQUEST.unpack(message)
        outcome, what = FINE, ""
        images, done = ring["images"][slot, mine], ring["samples"][slot, mine]
        try:
            encoded = index.encoded(ring["wanted"][slot, mine], shards.read_at)
            for row, (sample, data) in enumerate(encoded):
                if turn_now[0] != turn:
                    break
                decode_into(images[row], sample, data)
                done[row] = sample
        except BadSample as bad:
            outcome, what = bad.sample, bad.what
        except Exception as error:
            outcome, what = BROKEN, f"{type(error).__name__}: {error}"
        # Fewer bytes than a pipe takes at once, so that a reply is whole or not there.
        os.write(replies, REPLY.pack(slot, turn, outcome, what.encode()[:240]))


def main() -> None:
    """Do the task that is named on the command line."""
    cv2.setNumThreads(1)
    # What a library prints must not come between the replies.
    replies = os.dup(1)
    os.dup2(2, 1)
    descriptor = int(sys.argv[1])
    # The memory is shared by all children, and with it the place in the file: read by place.
    values = json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    try:
        serve(Task(**values), 0, replies)
    except BrokenPipeError:
        os._exit(0)  # the trainer is gone


if __name__ == "__main__":
    main()
