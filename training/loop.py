"""The run of updates, from shards to a trained generator. Reports through a callback; knows nothing of Ray.

To resume, run the same call again: it goes on from the last checkpoint, and a finished run does nothing.
"""

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed
from pydantic import BaseModel, ConfigDict, Field, model_validator

from manifests.store import Folder
from training import adversarial, checkpoint
from training.batches import LoaderSettings, open_batches
from training.draws import draw_z
from training.metrics import Interval, MetricsLog, Row, check_finite
from training.networks import count_parameters
from training.order import SampleOrder, Share
from training.presets import Preset, resolve
from training.reading import ShardReader
from training.samples import png, sample_grid

SUMMARY = "summary.json"
SHOWN_EPOCHS = (1, 5)  # the paper shows bedrooms after these
Report = Callable[[Row], None]


class TrainingSettings(BaseModel):
    """How long a preset is trained and what is written on the way. Progress is counted in images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = Field(
        default="paper-64", description="name of the networks and their training: see training/presets.py"
    )
    overrides: dict[str, Any] = Field(default_factory=dict, description="settings of the preset to replace")
    images: int | None = Field(default=None, ge=1, description="images to see in all; give this or epochs")
    epochs: float | None = Field(default=None, gt=0, description="times to see each image; give this or images")
    log_every_updates: int = Field(default=50, ge=1, description="updates that a row of metrics.jsonl averages over")
    checkpoint_every_images: int = Field(default=100_000, ge=1, description="images from one checkpoint to the next")
    grid_every_images: int = Field(default=100_000, ge=1, description="images from one sample grid to the next")
    grid_images: int = Field(default=64, ge=1, description="pictures in a sample grid")
    keep_checkpoints: int = Field(default=3, ge=1, description="checkpoints that stay; older ones are deleted")
    threads: int | None = Field(
        default=None, ge=1, description="torch's threads in each worker; none leaves torch's choice"
    )
    decode_threads: int = Field(
        default=1, ge=1, description="processes that read and decode images ahead, in each worker"
    )
    window_samples: int = Field(default=65_536, ge=1, description="samples that are shuffled together, in whole shards")
    verify: bool = Field(default=True, description="check each image that is read against its sha256 in the index")

    @model_validator(mode="after")
    def _valid(self) -> "TrainingSettings":
        if (self.images is None) == (self.epochs is None):
            raise ValueError(f"images={self.images} and epochs={self.epochs}: give one of them")
        self.resolved()
        return self

    def resolved(self) -> Preset:
        """The preset with the overrides."""
        return resolve(self.preset, **self.overrides)

    def updates(self, samples: int) -> int:
        """Updates in all, for so many samples: the fewest that see as many images as were asked for."""
        images = self.images if self.images is not None else math.ceil((self.epochs or 0) * samples)
        return -(-images // self.resolved().batch_images)


def uses_images(preset: Preset, update: int) -> bool:
    """Whether an update looks at real images; G's turns of an alternating preset don't, yet count as a batch seen."""
    return preset.alternate == "both" or update % 2 == 1


def train(
    shards: Folder,
    out: Folder,
    settings: TrainingSettings,
    seed: int,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
    report: Report = lambda row: None,
) -> dict[str, Any]:
    """Train, or go on training, and return the run's summary, which is also written to summary.json.

    With several workers, each calls this with its rank, inside an initialised torch.distributed group; `out` must lie
    on storage that all share. All make the same number of updates; rank 0 writes. `report` is called in every worker
    with each row of metrics.jsonl, extended by images_total.

    Raises:
        ValueError: the batch doesn't divide by the workers, or the checkpoint in `out` is of another run.
        DamagedShard, DamagedCheckpoint: a file is damaged.
        Diverged: a loss is not a finite number.

    Source: Radford et al. 2016, section 4.
    """
    preset, device = settings.resolved(), torch.device(device)
    share = Share(preset.batch_images, rank, world, preset.ghost_images or 1)
    share.check()
    if adversarial.workers() != world:
        raise ValueError(
            f"world={world}, but torch.distributed has {adversarial.workers()}; initialise its group first"
        )
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    reader = ShardReader(shards, preset.size_px, verify=settings.verify, channels=preset.image_channels)
    order = SampleOrder(reader.shard_samples, seed, settings.window_samples)
    total = settings.updates(order.samples)
    state = _resume(out, preset, seed, order.samples, device)
    start, seconds = (state.update, state.seconds) if state else (0, 0.0)
    if start >= total and out.exists(SUMMARY):
        summary: dict[str, Any] = out.read_json(SUMMARY)
        if summary["updates"] == start:
            return summary
    total = max(total, start)  # a run that was longer stays as it is

    players = adversarial.new_players(preset, seed, device)
    if state:
        checkpoint.restore(state, players)
    interval, began = Interval(device), time.perf_counter() - seconds
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(MetricsLog(out, start)) if rank == 0 else None
        outputs = _Outputs(out, settings, preset, seed, order.samples, players, log)
        with_images = (update for update in range(start, total) if uses_images(preset, update))
        batches = stack.enter_context(
            open_batches(reader, order, with_images, share, LoaderSettings(loaders=settings.decode_threads))
        )
        for update in range(start, total):
            z_rows = draw_z(seed, update, preset.batch_images, preset.z_dim, preset.z_distribution)[share.rows()]
            z = torch.from_numpy(z_rows).to(device)
            waited_s = 0.0
            if uses_images(preset, update):
                asked = time.perf_counter()
                images = next(batches).images
                waited_s = time.perf_counter() - asked
                real = adversarial.pixels_to_unit(images, device)
                both = preset.alternate == "both"
                measures = (adversarial.update_both if both else adversarial.update_discriminator)(players, real, z)
            else:
                measures = adversarial.update_generator(players, z)
            interval.add(measures, preset.batch_images, waited_s)

            done = update + 1
            keep = done == total or outputs.passes(settings.checkpoint_every_images, done)
            if keep or done % settings.log_every_updates == 0:
                images_seen = done * preset.batch_images
                row = {"update": done, "images_seen": images_seen, "epoch": round(images_seen / order.samples, 4)}
                row |= interval.row() | {"seconds": round(time.perf_counter() - began, 3)}
                check_finite(row)
                if log:
                    log.add(row)
                report(row | {"images_total": total * preset.batch_images})
                interval = Interval(device)
            outputs.draw_grids(done, done == total)
            if keep:
                outputs.save(done, time.perf_counter() - began)
        return outputs.summarise(total, time.perf_counter() - began)


def _resume(out: Folder, preset: Preset, seed: int, samples: int, device: torch.device) -> checkpoint.Checkpoint | None:
    """The last checkpoint in `out`, after a check that it is of this run and that all workers see the same."""
    state = checkpoint.load_latest(out.child("checkpoints"))
    update = state.update if state else 0
    seen = adversarial.largest_of_workers(torch.tensor([update, -update], device=device)).tolist()
    if seen[0] != -seen[1]:
        raise ValueError(
            f"workers see different checkpoints in {out} (updates {-seen[1]} to {seen[0]}); "
            "the run folder must lie on storage that all workers share"
        )
    if state is not None:
        checkpoint.check_same_run(state, preset, seed, samples)
    return state


class _Outputs:
    """Sample grids, checkpoints and the summary, written where `log` is, that is in worker 0."""

    def __init__(
        self,
        out: Folder,
        settings: TrainingSettings,
        preset: Preset,
        seed: int,
        samples: int,
        players: adversarial.Players,
        log: MetricsLog | None,
    ) -> None:
        self.out, self.settings, self.preset, self.seed = out, settings, preset, seed
        self.samples, self.players, self.log = samples, players, log

    def passes(self, every_images: int, update: int) -> bool:
        """Whether the last of `update` updates reached or passed a multiple of `every_images`."""
        images = update * self.preset.batch_images
        return images // every_images > (images - self.preset.batch_images) // every_images

    def draw_grids(self, update: int, last: bool) -> None:
        """Write the sample grids that are due: at intervals, at the end, and after epochs 1 and 5."""
        names = []
        if last or self.passes(self.settings.grid_every_images, update):
            names.append(f"grid-{update * self.preset.batch_images:09d}.png")
        names += [f"epoch-{e:03d}.png" for e in SHOWN_EPOCHS if self._ends_epoch(e, update)]
        if self.log and names:
            picture = sample_grid(self.players.generator, self.seed, self.settings.grid_images)
            for name in names:
                self.out.child("grids").write_bytes(name, png(picture))
            self.log.add_picture("samples", picture, update)

    def _ends_epoch(self, epoch: int, update: int) -> bool:
        images = update * self.preset.batch_images
        return images - self.preset.batch_images < epoch * self.samples <= images

    def save(self, update: int, seconds: float) -> None:
        """Write the rows so far, then the checkpoint that makes them count."""
        if self.log is None:
            return
        self.log.save()
        state = checkpoint.of_players(self.players, self.preset, self.seed, self.samples, update, seconds)
        checkpoint.save(self.out.child("checkpoints"), state, self.settings.keep_checkpoints)

    def summarise(self, updates: int, seconds: float) -> dict[str, Any]:
        """The run's summary, also written to summary.json."""
        images_seen = updates * self.preset.batch_images
        summary = {
            "preset": self.preset.model_dump(),
            "parameters": {
                "generator": count_parameters(self.players.generator),
                "discriminator": count_parameters(self.players.discriminator),
            },
            "samples": self.samples,
            "updates": updates,
            "images_seen": images_seen,
            "epochs": round(images_seen / self.samples, 4),
            "workers": adversarial.workers(),
            "seconds": round(seconds, 3),
            "images_per_s": round(images_seen / seconds, 2) if seconds > 0 else None,
            "last": self.log.rows[-1] if self.log and self.log.rows else None,
            "checkpoint": f"checkpoints/checkpoint-{images_seen:09d}.pt",
            "grids": [f"grids/{name}" for name in self.out.child("grids").names()],
        }
        if self.log:
            self.out.write_json(SUMMARY, summary)
        return summary
