"""A worker's part in a training: the players, how far they are, and what follows from what is seen of them."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from manifests.store import Folder
from training import adversarial, checkpoint, snapshot
from training.batches import open_batches
from training.endings import Diverged, Interrupted, Stopped, Untrainable
from training.guard import Guard
from training.metrics import Interval, Row, not_finite, passes, place, rounded
from training.networks import count_parameters
from training.order import SampleOrder
from training.outputs import BEST, CHECKPOINTS, Outputs
from training.proof import Proof
from training.ranks import any_of_workers, check_equal, largest_of_workers, workers
from training.reading import ShardReader
from training.settings import TrainingSettings
from training.turns import take_turn, uses_images
from training.watch import Verdict, Watch

Report = Callable[[Row], None]


def latest_of_all(folder: Folder, device: torch.device) -> checkpoint.Checkpoint | None:
    """The last checkpoint in a folder, after a check that all workers see the same."""
    state = checkpoint.load_latest(folder)
    update = state.update if state else 0
    seen = largest_of_workers(torch.tensor([update, -update], device=device)).tolist()
    if seen[0] != -seen[1]:
        raise Untrainable(
            f"workers see different checkpoints in {folder} (updates {-seen[1]} to {seen[0]}); "
            "the run folder must lie on storage that all workers share"
        )
    return state


class Session:
    """A worker's state of the training: the players, how far they are, and what was seen of them."""

    def __init__(
        self,
        out: Folder,
        settings: TrainingSettings,
        seed: int,
        reader: ShardReader,
        order: SampleOrder,
        rank: int,
        world: int,
        device: torch.device,
        outputs: Outputs | None,
        report: Report,
    ) -> None:
        self.out, self.settings, self.seed, self.reader, self.device = out, settings, seed, reader, device
        self.outputs, self.report = outputs, report
        self.preset, self.share = settings.resolved(), settings.share(rank, world)
        self.order = order
        self.players = adversarial.new_players(
            self.preset,
            seed,
            device,
            settings.precision_on(device),
            settings.compiled_on(device),
            settings.micro_images,
        )
        self.labels = reader.labels(self.preset.classes) if self.preset.classes else None
        self.proof = Proof(self.order.samples, device)
        self.watch = self._watching(None)
        self.update, self.seconds = 0, 0.0
        self.best: dict[str, Any] | None = None
        self._events_written = 0

    def take(self, state: checkpoint.Checkpoint) -> None:
        """Go on from a checkpoint."""
        snapshot.restore(state, self.players)
        assert state.marks is not None
        self.proof.restore(state.state["proof"], state.marks)
        self.watch = self._watching(state.state["watch"])
        self.update, self.seconds = state.update, state.seconds
        self.best = state.state["best"]
        self.players.set_learning_rate(self.learning_rate)

    def begin(self) -> None:
        """Check that the guard lets the training go on, and clear away what a kill left of later updates.

        Raises:
            Stopped: it was stopped here before, and nothing was changed since.
        """
        self.watch.check_may_go_on(self.update * self.preset.batch_images)
        if self.outputs:
            self.outputs.forget_after(self.update)
            self._write_events()

    def _write_events(self) -> None:
        assert self.outputs is not None
        self.outputs.write_events(self.watch.events)
        self._events_written = len(self.watch.events)

    @property
    def learning_rate(self) -> float:
        """The size of Adam's steps: the preset's, less what going back took off it."""
        return self.preset.learning_rate * self.watch.guard.rate

    def _watching(self, state: dict[str, Any] | None) -> Watch:
        return Watch(Guard(self.settings.guard, state and state["guard"], self.preset.loss), state, self.device)

    def go_on(self, total: int, stop: Callable[[], bool]) -> None:
        """Make updates up to `total`, or until the guard sends the training back."""
        with_images = (update for update in range(self.update, total) if uses_images(self.preset, update))
        pin = self.device.type == "cuda"
        with (
            self._timed(),
            open_batches(self.reader, self.order, with_images, self.share, self.settings.loader, pin=pin) as batches,
        ):
            interval = Interval(self.device)
            while self.update < total:
                measures, waited_s = take_turn(
                    self.players, self.update, self.seed, self.share, self.order, batches, self.proof, self.labels
                )
                interval.add(measures, self.preset.batch_images, waited_s)
                self.update += 1
                self._end_epochs()
                last = self.update == total
                if self.outputs:
                    self.outputs.draw_grids(self.players.generator, self.update, self.order.samples, last)
                measuring = last or self._passes(self.settings.measure_every_images or self.settings.grid_every_images)
                keeping = last or self._passes(self.settings.checkpoint_every_images)
                if not (measuring or keeping or self.update % self.settings.log_every_updates == 0):
                    continue
                verdict = self._log(interval, total, measuring)
                asked = any_of_workers(stop(), self.device)
                interval = Interval(self.device)
                if verdict == Verdict.GO_BACK:
                    self._go_back()
                    return
                if keeping or asked or verdict == Verdict.STOP:
                    self._save()
                if verdict == Verdict.STOP:
                    self._wait_for_files()
                    raise Stopped(self.watch.last_message("the guard stopped it"))
                if asked and not last:
                    raise Interrupted(
                        f"ended after {self.update * self.preset.batch_images:,} images, as asked; "
                        "start the same training again to go on"
                    )

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        self.began = time.perf_counter() - self.seconds
        try:
            yield
        finally:
            self.seconds = time.perf_counter() - self.began

    def _passes(self, every_images: int) -> bool:
        return passes(every_images, self.update, self.preset.batch_images)

    def _end_epochs(self) -> None:
        ended = self.proof.end_epochs(self.update * self.preset.batch_images)
        if ended and self.outputs:
            self.outputs.write_epochs(self.proof.rows)

    def _log(self, interval: Interval, total: int, measuring: bool) -> Verdict:
        """Write a row, after the guard has seen it, and return what is to follow in all workers."""
        row = place(self.update, self.preset.batch_images, self.order.samples) | interval.row()
        row["learning_rate"] = self.learning_rate
        row["seconds"] = round(time.perf_counter() - self.began, 3)
        finite = not not_finite(row)
        if self.outputs and measuring and finite:
            row |= rounded(self.outputs.measure(self.players.generator))
        verdict = self.watch.judge(row, self.best is not None)
        if self.outputs and len(self.watch.events) > self._events_written:
            self._write_events()
        if verdict == Verdict.DIVERGED:
            self._wait_for_files()
            raise Diverged(self.watch.last_message("its figures are no numbers any more"))
        if finite:
            if self.outputs:
                self.outputs.log.add(row)
            self.report(row | {"images_total": total * self.preset.batch_images})
            self._keep_best(row)
        return verdict

    def _wait_for_files(self) -> None:
        """Return in all workers once worker 0 has written what it began to: whoever fails first may end the others."""
        if self.outputs:
            self.outputs.writer.wait()
        any_of_workers(False, self.device)

    def _keep_best(self, row: Row) -> None:
        """Save the best checkpoint anew where a row has the least distance so far, and the guard sees nothing wrong."""
        better = "swd" in row and not self.watch.guard.alarmed and (self.best is None or row["swd"] < self.best["swd"])
        if not any_of_workers(better, self.device):
            return
        self.best = {"images_seen": row["images_seen"], "swd": row.get("swd")}
        self._save(best=True)

    def _save(self, best: bool = False) -> None:
        """Save a checkpoint, once it is sure that the workers' networks are equal."""
        networks = (("generator", self.players.generator), ("discriminator", self.players.discriminator))
        check_equal((f"{name}.{key}", value) for name, network in networks for key, value in network.named_parameters())
        proof, marks = self.proof.state()
        if self.outputs is None:
            return
        state = {
            "proof": proof,
            "watch": self.watch.state(),
            "best": self.best,
        }
        seconds = time.perf_counter() - self.began
        self.outputs.save(
            snapshot.of_players(
                self.players, self.seed, self.order.samples, self.update, seconds, state, marks, self.order.identity
            ),
            best,
        )

    def _go_back(self) -> None:
        """Take up the best checkpoint again, with a lower learning rate."""
        self._wait_for_files()
        state = latest_of_all(self.out.child(BEST), self.device)
        if state is None:
            raise Stopped(f"{self.out}/{BEST} is gone, so there is nothing to go back to; start again to go on")
        watch, best = self.watch, self.best
        self.take(state)
        self.watch.go_back(watch)
        self.best = best
        self.players.set_learning_rate(self.learning_rate)
        self.began = time.perf_counter() - self.seconds
        # The new one first: a kill in between goes on from a later one, and comes back here.
        self._save()
        self._wait_for_files()
        if self.outputs:
            self.outputs.forget_after(self.update)

    def summarise(self) -> dict[str, Any]:
        """The run's summary, which worker 0 also writes."""
        images_seen = self.update * self.preset.batch_images
        facts = {
            "preset": self.preset.model_dump(),
            "precision": self.players.precision,
            "parameters": {
                "generator": count_parameters(self.players.generator),
                "discriminator": count_parameters(self.players.discriminator),
            },
            "samples": self.order.samples,
            "updates": self.update,
            "images_seen": images_seen,
            "epochs": round(images_seen / self.order.samples, 4),
            "epochs_proven": len(self.proof.rows),
            "workers": workers(),
            "learning_rate": self.learning_rate,
            "alarms": len(self.watch.events),
            "best": self.best,
            "seconds": round(self.seconds, 3),
            "images_per_s": round(images_seen / self.seconds, 2) if self.seconds > 0 else None,
            "checkpoint": f"{CHECKPOINTS}/{checkpoint.name_of(images_seen)}",
        }
        return self.outputs.summarise(facts) if self.outputs else facts
