"""What is logged of a training run: rows of metrics.jsonl, and the same for TensorBoard.

Rows are kept in memory and written whole just before each checkpoint, so that after a kill the rows that count are
those up to the checkpoint.
"""

import json
import math
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tensorboardX import SummaryWriter

from manifests.store import Folder
from training.adversarial import Measures, mean_over_workers

METRICS = "metrics.jsonl"
MEASURES = ("loss_d", "loss_g", "d_real", "d_fake")
Row = dict[str, Any]


class Diverged(Exception):
    """A loss is no longer a number."""


def check_finite(row: Row) -> None:
    """Raise Diverged if a figure of the row is not finite."""
    for name, value in row.items():
        if value is not None and not math.isfinite(value):
            raise Diverged(
                f"{name}={value} at update {row['update']}; lower the preset's learning_rate or start with another seed"
            )


class Interval:
    """Sums of the updates' measures since the last row, on the device: adding never waits for it."""

    def __init__(self, device: torch.device) -> None:
        self._sums = {name: torch.zeros((), device=device) for name in MEASURES}
        self._counts = dict.fromkeys(MEASURES, 0)
        self.images = 0
        self.waited_s = 0.0
        self._started = time.perf_counter()

    def add(self, measures: Measures, images: int, waited_s: float) -> None:
        """Add one update's measures, its images (over all workers), and the time that it waited for them."""
        for name, value in measures.items():
            self._sums[name] = self._sums[name] + value
            self._counts[name] += 1
        self.images += images
        self.waited_s += waited_s

    def row(self) -> Row:
        """The means over the interval and over the workers, null for what no update measured; speed and waiting.

        Waits for the device, and for the other workers.
        """
        sums = mean_over_workers(torch.stack([self._sums[name] for name in MEASURES])).tolist()
        means = {
            name: round(total / self._counts[name], 6) if self._counts[name] else None
            for name, total in zip(MEASURES, sums, strict=True)
        }
        seconds = max(time.perf_counter() - self._started, 1e-9)
        return means | {
            "images_per_s": round(self.images / seconds, 2),
            "data_wait_share": round(self.waited_s / seconds, 4),
        }


class MetricsLog:
    """The rows of a run so far, and their TensorBoard events. A context manager.

    Opened on a run that is resumed after `update` updates, it keeps the rows up to there.
    """

    def __init__(self, folder: Folder, update: int) -> None:
        self.folder = folder
        self.rows: list[Row] = [row for row in read_rows(folder) if row["update"] <= update]
        self._events = tempfile.TemporaryDirectory(prefix="tensorboard-")
        self._writer = SummaryWriter(self._events.name, purge_step=update + 1 if update else None)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._events.cleanup()

    def add(self, row: Row) -> None:
        """Add a row."""
        self.rows.append(row)
        for name in (*MEASURES, "images_per_s", "data_wait_share"):
            if row[name] is not None:
                self._writer.add_scalar(name, row[name], row["update"])

    def add_picture(self, name: str, picture: npt.NDArray[np.uint8], update: int) -> None:
        """Add a picture to TensorBoard. picture: uint8[H, W, 3], RGB."""
        self._writer.add_image(name, picture, update, dataformats="HWC")

    def save(self) -> None:
        """Write all rows, and copy TensorBoard's events into the run folder."""
        self.folder.write_bytes(METRICS, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
        self._writer.flush()
        events = self.folder.child("tensorboard")
        for file in sorted(Path(self._events.name).iterdir()):
            events.write_bytes(file.name, file.read_bytes())


def read_rows(folder: Folder) -> list[Row]:
    """The rows of a training folder's metrics.jsonl; none where it is absent."""
    if not folder.exists(METRICS):
        return []
    return [json.loads(line) for line in folder.read_bytes(METRICS).decode().splitlines()]
