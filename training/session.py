"""A worker's part in a training: the players, how far they are, and what follows from what is seen of them."""

import contextlib
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

import torch

from manifests.store import Folder
from training import adversarial, checkpoint, snapshot
from training.batches import Batch, open_batches
from training.draws import draw_z
from training.endings import Diverged, Interrupted, Stopped, Untrainable
from training.guard import Alarm, Guard
from training.metrics import Interval, Row, not_finite, place, rounded
from training.networks import Generator, count_parameters
from training.order import SampleOrder
from training.outputs import BEST, CHECKPOINTS, Outputs
from training.presets import Preset
from training.proof import Proof
from training.ranks import check_equal, largest_of_workers, workers
from training.reading import ShardReader
from training.settings import TrainingSettings

Report = Callable[[Row], None]


class _Verdict(IntEnum):
    """What follows from the guard's alarms; of several workers' verdicts the largest counts."""

    GO_ON = 0
    GO_BACK = 1
    STOP = 2
    DIVERGED = 3


def uses_images(preset: Preset, update: int) -> bool:
    """Whether an update looks at real images; G's turns of an alternating preset don't, yet count as a batch seen."""
    return preset.alternate == "both" or update % 2 == 1


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
        rank: int,
        world: int,
        device: torch.device,
        outputs: Outputs | None,
        report: Report,
    ) -> None:
        self.out, self.settings, self.seed, self.reader, self.device = out, settings, seed, reader, device
        self.outputs, self.report = outputs, report
        self.preset, self.share = settings.resolved(), settings.share(rank, world)
        self.order = SampleOrder(reader.shard_samples, seed, settings.window_samples)
        self.players = adversarial.new_players(
            self.preset,
            seed,
            device,
            settings.precision_on(device),
            settings.compiled_on(device),
            settings.micro_images,
        )
        self.proof = Proof(self.order.samples, device)
        self.guard = self._guard(None)
        self.update, self.seconds = 0, 0.0
        self.best: dict[str, Any] | None = None
        self.events: list[dict[str, Any]] = []

    def take(self, state: checkpoint.Checkpoint) -> None:
        """Go on from a checkpoint."""
        snapshot.restore(state, self.players)
        assert state.marks is not None
        self.proof.restore(state.state["proof"], state.marks)
        self.guard = self._guard(state.state["guard"])
        self.update, self.seconds = state.update, state.seconds
        self.best, self.events = state.state["best"], list(state.state["events"])
        self.players.set_learning_rate(self.learning_rate)

    @property
    def learning_rate(self) -> float:
        """The size of Adam's steps: the preset's, less what going back took off it."""
        return self.preset.learning_rate * self.guard.rate

    def _guard(self, state: dict[str, Any] | None) -> Guard:
        return Guard(self.settings.guard, state, self.preset.loss)

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
                measures, waited_s = self._step(batches)
                interval.add(measures, self.preset.batch_images, waited_s)
                self.update += 1
                self._end_epochs()
                last = self.update == total
                if self.outputs:
                    with _evaluating(self.players.generator):
                        self.outputs.draw_grids(self.players.generator, self.update, self.order.samples, last)
                measuring = last or self._passes(self.settings.measure_every_images or self.settings.grid_every_images)
                keeping = last or self._passes(self.settings.checkpoint_every_images)
                if not (measuring or keeping or self.update % self.settings.log_every_updates == 0):
                    continue
                asked = self._any(stop())
                verdict = self._log(interval, total, measuring)
                interval = Interval(self.device)
                if verdict == _Verdict.GO_BACK:
                    self._go_back()
                    return
                if keeping or asked or verdict == _Verdict.STOP:
                    self._save()
                if verdict == _Verdict.STOP:
                    raise Stopped(self.events[-1]["message"])
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
        return self.settings.passes(every_images, self.update)

    def _step(self, batches: Iterator[Batch]) -> tuple[adversarial.Measures, float]:
        """One update; what it measured, and the seconds that it waited for images."""
        players, share, update = self.players, self.share, self.update
        drawn = draw_z(self.seed, update, share.batch_images, self.preset.z_dim, self.preset.z_distribution)
        z = torch.from_numpy(drawn[share.rows()]).to(self.device, players.dtype, non_blocking=True)
        positions = share.positions(update)
        if not uses_images(self.preset, update):
            self.proof.deal(positions, self.order.samples_at(positions), looked_at=False)
            return adversarial.update_generator(players, z), 0.0
        asked = time.perf_counter()
        batch = next(batches)
        waited_s = time.perf_counter() - asked
        self.proof.deal(positions, batch.samples, looked_at=True)
        real = adversarial.pixels_to_unit(batch.images, self.device, players.dtype)
        both = self.preset.alternate == "both"
        return (adversarial.update_both if both else adversarial.update_discriminator)(players, real, z), waited_s

    def _end_epochs(self) -> None:
        ended = self.proof.end_epochs(self.update * self.preset.batch_images)
        if ended and self.outputs:
            self.outputs.write_epochs(self.proof.rows)

    def _any(self, said: bool) -> bool:
        """Whether any worker said so."""
        return bool(largest_of_workers(torch.tensor(int(said), device=self.device)).item())

    def _log(self, interval: Interval, total: int, measuring: bool) -> _Verdict:
        """Write a row, after the guard has seen it, and return what is to follow in all workers."""
        images_seen = self.update * self.preset.batch_images
        row = place(self.update, self.preset.batch_images, self.order.samples) | interval.row()
        row["learning_rate"] = self.learning_rate
        row["seconds"] = round(time.perf_counter() - self.began, 3)
        finite = not not_finite(row)
        if self.outputs and measuring and finite:
            with _evaluating(self.players.generator):
                row |= rounded(self.outputs.measure(self.players.generator))
        alarms = self.guard.look(row) if self.outputs else []
        verdict = self._judge(alarms)
        verdict = _Verdict(int(largest_of_workers(torch.tensor(int(verdict), device=self.device)).item()))
        if self.outputs:
            self._note(alarms, verdict, images_seen)
        if verdict == _Verdict.DIVERGED:
            raise Diverged(
                self.events[-1]["message"] if self.events else f"the training diverged at {images_seen:,} images"
            )
        if finite:
            if self.outputs:
                self.outputs.log.add(row)
            self.report(row | {"images_total": total * self.preset.batch_images})
            self._keep_best(row)
        return verdict

    def _judge(self, alarms: list[Alarm]) -> _Verdict:
        if not alarms:
            return _Verdict.GO_ON
        if self.guard.decision == "back" and self.best is not None:
            return _Verdict.GO_BACK
        if any(alarm.kind == "nan" for alarm in alarms):
            return _Verdict.DIVERGED
        return _Verdict.GO_ON if self.guard.decision == "warn" else _Verdict.STOP

    def _note(self, alarms: list[Alarm], verdict: _Verdict, images_seen: int) -> None:
        for alarm in alarms:
            action = {_Verdict.GO_ON: "warned", _Verdict.GO_BACK: "went back"}.get(verdict, "stopped")
            event = {"images_seen": images_seen, "kind": alarm.kind, "message": alarm.message, "action": action}
            self.events.append(event)
        if alarms and self.outputs:
            self.outputs.write_events(self.events)

    def _keep_best(self, row: Row) -> None:
        """Save the best checkpoint anew where a row has the least distance so far. All workers take part."""
        better = "swd" in row and (self.best is None or row["swd"] < self.best["swd"])
        if not self._any(better):
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
            "guard": self.guard.state(),
            "best": self.best,
            "events": self.events,
        }
        seconds = time.perf_counter() - self.began
        self.outputs.save(
            snapshot.of_players(self.players, self.seed, self.order.samples, self.update, seconds, state, marks), best
        )

    def _go_back(self) -> None:
        """Take up the best checkpoint again, with a lower learning rate."""
        if self.outputs:
            self.outputs.writer.wait()
        self._any(False)  # the others wait until it is written
        state = latest_of_all(self.out.child(BEST), self.device)
        assert state is not None
        events, backs, best = self.events, self.guard.backs, self.best
        self.take(state)
        self.events, self.guard.backs, self.best = events, backs, best
        self.guard.went_back()
        self.players.set_learning_rate(self.learning_rate)
        self.began = time.perf_counter() - self.seconds
        if self.outputs:
            self.outputs.go_back(self.update)
        self._save()

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
            "alarms": len(self.events),
            "best": self.best,
            "seconds": round(self.seconds, 3),
            "images_per_s": round(images_seen / self.seconds, 2) if self.seconds > 0 else None,
            "checkpoint": f"{CHECKPOINTS}/{checkpoint.name_of(images_seen)}",
        }
        return self.outputs.summarise(facts) if self.outputs else facts


@contextlib.contextmanager
def _evaluating(network: Generator) -> Iterator[None]:
    """Inside the block, batch norm looks at the batch at hand alone, so that one worker may make pictures."""
    network.eval()
    try:
        yield
    finally:
        network.train()
