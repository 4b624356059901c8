"""The loader processes, as the trainer sees them: started, asked, listened to, ended."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

from training.decoding import OPEN_SHARDS
from training.loader import REPLY, REQUEST, Task
from training.memory import SharedArrays

_END_S = 5.0
_SETTLE_S = 10.0


class LoaderDied(Exception):
    """A loader process ended by itself."""


class Loaders(contextlib.AbstractContextManager["Loaders"]):
    """Loader processes over one ring; leaving the block ends them.

    index, ring: as `training.loader.Task` has them; their descriptors must be open until the block is entered.
    """

    def __init__(
        self, loaders: int, shards: Sequence[str], index: SharedArrays, ring: SharedArrays, most_open: int = OPEN_SHARDS
    ) -> None:
        self._count, self._shards, self._most_open = loaders, list(shards), most_open
        self._index, self._ring = index, ring
        self._processes: list[subprocess.Popen[bytes]] = []
        self._poll = select.poll()
        self._of_output: dict[int, int] = {}

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> "Loaders":
        try:
            for loader in range(self._count):
                self._processes.append(self._start(loader))
        except BaseException:
            self.__exit__()
            raise
        for loader, process in enumerate(self._processes):
            assert process.stdout is not None
            self._of_output[process.stdout.fileno()] = loader
            self._poll.register(process.stdout, select.POLLIN)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            finally:
                assert process.stdout is not None
                process.stdout.close()

    def _start(self, loader: int) -> subprocess.Popen[bytes]:
        task = Task(
            parent=os.getpid(),
            loader=loader,
            loaders=self._count,
            shards=self._shards,
            most_open=self._most_open,
            samples=self._index.descriptor,
            samples_layout=dict(self._index.layout),
            ring=self._ring.descriptor,
            ring_layout=dict(self._ring.layout),
        )
        descriptor = os.memfd_create("dcgan-task", os.MFD_CLOEXEC)
        try:
            # Not through a pipe, which a long list of shards would fill before the process is there to read it.
            with open(descriptor, "wb", closefd=False) as file:
                file.write(json.dumps(task._asdict()).encode())
            return subprocess.Popen(
                [sys.executable, "-m", "training.loader", str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=(descriptor, self._index.descriptor, self._ring.descriptor),
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                # Apart from the trainer's group, so that Ctrl-C reaches the trainer alone, which then ends them.
                process_group=0,
            )
        finally:
            os.close(descriptor)

    def ask(self, slot: int, turn: int) -> None:
        """Have all loaders fill their rows of a slot."""
        message = REQUEST.pack(slot, turn)
        for loader, process in enumerate(self._processes):
            assert process.stdin is not None
            try:
                os.write(process.stdin.fileno(), message)
            except BrokenPipeError:
                raise self._died(loader) from None

    def answers(self) -> list[tuple[int, int, int, str]]:
        """At least one answer: (slot, turn, outcome, what is wrong).

        Raises:
            LoaderDied: a process ended.
        """
        found = []
        for descriptor, _ in self._poll.poll():
            message = os.read(descriptor, REPLY.size)
            if len(message) < REPLY.size:
                raise self._died(self._of_output[descriptor])
            slot, turn, outcome, what = REPLY.unpack(message)
            found.append((slot, turn, outcome, what.rstrip(b"\0").decode(errors="replace")))
        return found

    def _died(self, loader: int) -> LoaderDied:
        code = self._processes[loader].wait(_SETTLE_S)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        return LoaderDied(
            f"loader process {loader + 1} of {self._count} {how}; if memory ran out, lower loaders or ahead_batches, "
            "and run the same command again to go on"
        )
