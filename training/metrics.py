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
from training.adversarial import Measures
from training.ranks import mean_over_workers

METRICS = "metrics.jsonl"
MEASURES = ("loss_d", "loss_g", "d_real", "d_fake", "grad_d", "grad_g")
PLACES = ("update", "images_seen", "kimg", "epoch", "seconds")  # where a row stands, not what was measured there
Row = dict[str, Any]


def place(update: int, batch_images: int, samples: int) -> Row:
    """Where a row stands: after how many updates, images seen, thousands of them (kimg), and epochs.

    Images seen counts the batch of every update, also of those that passed it over.
    """
    images_seen = update * batch_images
    return {
        "update": update,
        "images_seen": images_seen,
        "kimg": images_seen / 1000,
        "epoch": round(images_seen / samples, 4),
    }


def passes(every_images: int, update: int, batch_images: int) -> bool:
    """Whether the last of `update` updates reached or passed a multiple of `every_images`."""
    images = update * batch_images
    return images // every_images > (images - batch_images) // every_images


def rounded(figures: Row) -> Row:
    """Figures with the digits that are worth keeping in a log."""
    return {name: value if value is None else float(f"{value:.6g}") for name, value in figures.items()}


def not_finite(row: Row) -> list[str]:
    """The names of a row's figures that are not finite numbers, in the row's order."""
    return [name for name, value in row.items() if value is not None and not math.isfinite(value)]


class Interval:
    """Sums of the updates' measures since the last row, on the device: adding never waits for it."""

    def __init__(self, device: torch.device) -> None:
        self._sums = {name: torch.zeros((), device=device) for name in MEASURES}
        self._counts = dict.fromkeys(MEASURES, 0)
        self.images = 0
        self.waited_s = 0.0
        self._started = time.perf_counter()

    def add(self, measures: Measures, images: int, waited_s: float) -> None:
        """Add one update's measures, its images (over all workers), and the time that it waited for them.

        A measure is any scalar on the device: what is named in MEASURES and never came is null in the row.
        """
        for name, value in measures.items():
            # In float32 whatever the updates compute in, so that sums of half-precision figures don't stall.
            self._sums[name] = self._sums[name] + value.float()
            self._counts[name] += 1
        self.images += images
        self.waited_s += waited_s

    def row(self) -> Row:
        """The means over the interval and over the workers, null for what no update measured; speed and waiting.

        Waits for the device, and for the other workers.
        """
        sums = mean_over_workers(torch.stack([self._sums[name] for name in MEASURES])).tolist()
        means = {
            name: total / self._counts[name] if self._counts[name] else None
            for name, total in zip(MEASURES, sums, strict=True)
        }
        seconds = max(time.perf_counter() - self._started, 1e-9)
        return rounded(means) | {
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
        self._writers = 0
        self._writer = self._new_writer()

    def _new_writer(self) -> SummaryWriter:
        """A writer that takes back what was logged after the last row: by an earlier try, or before going back."""
        self._writers += 1
        after = self.rows[-1]["images_seen"] + 1 if self.rows else 0
        # Files of one second would share a name but for the suffix.
        return SummaryWriter(self._events.name, purge_step=after, filename_suffix=f".{self._writers:03d}")

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._events.cleanup()

    def add(self, row: Row) -> None:
        """Add a row. TensorBoard's steps are images seen, so that runs of other batch sizes can be compared."""
        self.rows.append(row)
        for name, value in row.items():
            if name not in PLACES and value is not None:
                self._writer.add_scalar(name, value, row["images_seen"])

    def drop_after(self, update: int) -> None:
        """Leave out the rows after so many updates: a run that went back makes those updates again."""
        self.rows = [row for row in self.rows if row["update"] <= update]
        self._writer.close()
        self._writer = self._new_writer()

    def add_picture(self, name: str, picture: npt.NDArray[np.uint8], images_seen: int) -> None:
        """Add a picture to TensorBoard. picture: uint8[H, W, C], RGB or grey."""
        self._writer.add_image(name, picture, images_seen, dataformats="HWC")

    def save(self) -> None:
        """Write all rows, and move TensorBoard's events into the run folder."""
        self.folder.write_bytes(METRICS, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
        # Only closing waits for the events that are still queued; so each save makes a file of its own.
        self._writer.close()
        events = self.folder.child("tensorboard")
        for file in sorted(Path(self._events.name).iterdir()):
            events.write_bytes(file.name, file.read_bytes())
            file.unlink()
        self._writer = self._new_writer()


def read_rows(folder: Folder) -> list[Row]:
    """The rows of a training folder's metrics.jsonl; none where it is absent."""
    if not folder.exists(METRICS):
        return []
    return [json.loads(line) for line in folder.read_bytes(METRICS).decode().splitlines()]
