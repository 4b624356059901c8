"""Proof that an epoch dealt every sample exactly once, made of what the workers really read.

Each worker marks the samples of its share, those that D looked at as the loader read them, and those of G's turns,
which are passed over, as the order has them. At an epoch's end the workers' marks are added up: each sample must have
exactly one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from training.order import Positions
from training.ranks import rank, sum_of_workers

_LOOKED_AT, _PASSED_OVER = 1, 16  # up to 15 of each can be told apart in a byte: more than enough to see that it is wrong

Marks = npt.NDArray[np.uint8]


class OrderBroken(Exception):
    """An epoch dealt a sample twice, or not at all."""


class Proof:
    """The marks of the epoch at hand, and the rows of those that ended.

    Holds a byte a sample.
    """

    def __init__(self, samples: int, device: torch.device, rows: list[dict[str, Any]] | None = None) -> None:
        self.samples, self.device = samples, device
        self.rows: list[dict[str, Any]] = list(rows or [])
        self._marks: dict[int, Marks] = {}
        self._digests: dict[int, int] = {}

    def deal(self, positions: Positions, samples: Positions, looked_at: bool) -> None:
        """Mark the samples that this worker had at some positions of the stream: int64[K] each."""
        epochs, places = np.divmod(positions, self.samples)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            marks = self._marks.setdefault(epoch, np.zeros(self.samples, dtype=np.uint8))
            np.add.at(marks, samples[here], _LOOKED_AT if looked_at else _PASSED_OVER)
            self._digests[epoch] = (self._digests.get(epoch, 0) + _digest(places[here], samples[here])) % 2**64

    def end_epochs(self, position: int) -> list[dict[str, Any]]:
        """Check the epochs that end at or before a position of the stream, and return their rows. Every worker calls it.

        A row: epoch (from 1), dealt, looked_at, passed_over, and a digest of which sample stood at which place, which
        is the same for any number of workers.

        Raises:
            OrderBroken: in all workers.
        """
        ended = []
        while (len(self.rows) + 1) * self.samples <= position:
            epoch = len(self.rows)
            marks, digest = self._together(epoch)
            looked_at, passed_over = (int((marks == mark).sum()) for mark in (_LOOKED_AT, _PASSED_OVER))
            if looked_at + passed_over != self.samples:
                wrong = int(np.flatnonzero((marks != _LOOKED_AT) & (marks != _PASSED_OVER))[0])
                raise OrderBroken(
                    f"epoch {epoch + 1} dealt {looked_at + passed_over:,} of {self.samples:,} samples exactly once; sample "
                    f"{wrong} was looked at {marks[wrong] % 16} times and passed over {marks[wrong] // 16} times: "
                    "this is a fault of the program, and what was trained in this epoch is not what the order says"
                )
            self._marks.pop(epoch)
            self._digests.pop(epoch)
            row = {
                "epoch": epoch + 1,
                "dealt": self.samples,
                "looked_at": looked_at,
                "passed_over": passed_over,
                "digest": f"{digest:016x}",
            }
            self.rows.append(row)
            ended.append(row)
        return ended

    def _together(self, epoch: int) -> tuple[Marks, int]:
        marks = self._marks.get(epoch, np.zeros(self.samples, dtype=np.uint8))
        whole = sum_of_workers(torch.from_numpy(marks.copy()).to(self.device)).cpu().numpy()
        signed = np.array([self._digests.get(epoch, 0)], dtype=np.uint64).view(np.int64)
        summed = sum_of_workers(torch.from_numpy(signed.copy()).to(self.device)).cpu().numpy()
        return whole, int(summed.view(np.uint64)[0])

    def state(self) -> tuple[dict[str, Any], Marks]:
        """What a checkpoint keeps: the rows and the digest, and the workers' marks of the epoch at hand.

        Every worker calls it. Afterwards the first worker holds the marks of all.

        Returns:
            plain values for JSON; marks: uint8[samples].
        """
        epoch = len(self.rows)
        marks, digest = self._together(epoch)
        self._begin(epoch, marks, digest)
        return {"rows": list(self.rows), "digest": f"{digest:016x}"}, marks

    def restore(self, state: dict[str, Any], marks: Marks) -> None:
        """Go on from what `state` gave."""
        self.rows = list(state["rows"])
        self._begin(len(self.rows), marks, int(state["digest"], 16))

    def _begin(self, epoch: int, marks: Marks, digest: int) -> None:
        first = rank() == 0
        self._marks = {epoch: marks.copy() if first else np.zeros(self.samples, dtype=np.uint8)}
        self._digests = {epoch: digest if first else 0}


def _digest(places: Positions, samples: Positions) -> int:
    """A sum, mod 2^64, of a hash of each pair: the same in any order of the pairs.

    Source: the mixing function of Steele et al. 2014 (SplitMix64).
    """
    with np.errstate(over="ignore"):
        x = places.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + samples.astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
        return int(x.sum(dtype=np.uint64))
