"""Ray Train around `training.loop`, for the stage of a run and for `dcgan train`.

The loop keeps its own checkpoints in the run's folder and goes on from the last of them, so Ray Train has only to start
workers, and to start them anew where one is lost.
"""

import uuid
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import torch
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, UserCallback, WorkerGroupError
from ray.train.torch import TorchTrainer, get_device

from manifests.store import Folder
from pipelines.cluster import lack, train_cpus
from pipelines.memory import KEEPING
from pipelines.parts import StageError, own_words
from pipelines.progress import Reporter, watched
from pipelines.recipe import TrainSettings
from pipelines.resources import IN_A_RECIPE, Resources, WorkerNames
from training import checkpoint, loop
from training.checkpoint import DamagedCheckpoint
from training.endings import Diverged, Interrupted, Stopped, Untrainable
from training.metrics import Row
from training.outputs import CHECKPOINTS, SUMMARY
from training.proof import OrderBroken
from training.reading import DamagedShard

TRAIN_FILE = "train.yaml"
PROGRESS_FILE = "progress.json"
_RAY_FOLDER = ".ray"
# What another try would meet again. All else may be a lost worker's doing: what the others say then is of many kinds.
# A ValueError of others is among that, such as pyarrow's where a file of an object store came in part.
_FOR_GOOD = (DamagedShard, DamagedCheckpoint, Diverged, Stopped, OrderBroken, Untrainable)


@dataclass(frozen=True)
class Training:
    """What is trained: on which shards, into which folder, how."""

    shards: Folder
    out: Folder
    settings: TrainSettings
    seed: int

    def progress(self) -> tuple[int, int]:
        """(images seen, images to see); all 0 before the data set is known."""
        if not self.shards.exists("dataset.json"):
            return 0, 0
        return self.seen(), self.wanted_updates() * self.settings.resolved().batch_images

    def seen(self) -> int:
        """Images seen so far."""
        return int(self.out.read_json(PROGRESS_FILE)["images_seen"]) if self.out.exists(PROGRESS_FILE) else 0

    def done_updates(self) -> int:
        """Updates of the training that is finished in `out`; 0 where none is."""
        return int(self.out.read_json(SUMMARY)["updates"]) if self.out.exists(SUMMARY) else 0

    def wanted_updates(self) -> int:
        """Updates in all that the settings ask for on these shards."""
        return self.settings.updates(self._samples())

    def check_begun(self) -> None:
        """Check that the last checkpoint, if any, can be gone on from.

        Raises:
            NotThisTraining: it is of other settings or other shards.
            DamagedCheckpoint: it can't be read.
        """
        state = checkpoint.load_latest(self.out.child(CHECKPOINTS))
        if state is None or not self.shards.exists("dataset.json"):
            return
        # One that is done stays as it is, whatever shards are there now: some of its images may have been taken down.
        goes_on = not 0 < self.wanted_updates() <= self.done_updates()
        samples = self._samples() if goes_on else state.samples
        precision = self.settings.precision or state.precision
        checkpoint.check_same_run(state, self.settings.resolved(), precision, self.seed, samples)

    def _samples(self) -> int:
        return int(self.shards.read_json("dataset.json")["samples"]["train"])


def run_training(
    training: Training, resources: Resources, reporter: Reporter, on_cluster: bool, names: WorkerNames = IN_A_RECIPE
) -> dict[str, Any]:
    """Train, or go on where the last checkpoint stands, inside a Ray session; return the training's summary.

    Raises:
        StageError: it can't be finished, with the words of the worker that could not go on.
        ClusterError: no nodes of the cluster can ever hold the workers.
    """
    if on_cluster and (lacking := lack(ray.nodes(), resources, names)):
        reporter.say(f"train: {lacking}; waiting for nodes that it starts")
    cpus = train_cpus(resources, on_cluster)
    least, most = resources.train_range
    ray_folder = training.out.child(_RAY_FOLDER)
    seen, total = training.progress()
    try:
        with reporter.bar("train", total, done=seen) as bar, watched(bar, training.seen):
            finished = False
            while not finished:  # once more after each time that the cluster took nodes back
                trainer = TorchTrainer(
                    _train_worker,
                    train_loop_config={"training": training, "threads": cpus},
                    scaling_config=ScalingConfig(
                        num_workers=most if least == most else (least, most),
                        use_gpu=resources.gpu,
                        resources_per_worker={"CPU": cpus},
                    ),
                    run_config=RunConfig(
                        # A name of its own for every start: under an old one Ray Train would resume from its own notes,
                        # and do nothing.
                        name=uuid.uuid4().hex,
                        storage_path=ray_folder.address,
                        failure_config=FailureConfig(max_failures=resources.train_failures),
                        callbacks=[_ForGood()],
                        worker_runtime_env={} if resources.gpu else {"env_vars": KEEPING},
                    ),
                )
                try:
                    finished = bool(trainer.fit().return_value)
                except Exception as error:  # Ray Train wraps whatever a worker raised in errors of several kinds
                    raise StageError(f"training stopped: {_words(error)}") from error
    finally:
        ray_folder.delete_all()
    summary: dict[str, Any] = training.out.read_json(SUMMARY)
    return summary


class _ForGood(UserCallback):  # type: ignore[misc]
    """Ends the training where a worker raised what no other try can mend; Ray Train would try again all the same."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for _, error in sorted(worker_exceptions.items()):
            if isinstance(error, _FOR_GOOD):
                raise StageError(str(error))


def _words(error: BaseException) -> str:
    """What a worker or the controller said."""
    if isinstance(error, ControllerError):
        return own_words(error.controller_failure)
    if isinstance(error, WorkerGroupError):
        said = {own_words(failure): rank for rank, failure in sorted(error.worker_failures.items(), reverse=True)}
        return "; ".join(f"worker {rank}: {words}" for words, rank in reversed(said.items()))
    return own_words(error)


def _train_worker(config: dict[str, Any]) -> bool:
    """What each worker does; returns whether the training is finished, rather than stopped."""
    training: Training = config["training"]
    context = ray.train.get_context()
    rank, device = context.get_world_rank(), get_device()
    torch.set_num_threads(training.settings.threads or config["threads"])
    taken_back = False

    def report(row: Row) -> None:
        nonlocal taken_back
        if rank == 0:
            training.out.write_json(PROGRESS_FILE, row)
        # Not ray.train.report: it waits for the controller's next look, 2 s a row. A node that is to go, as on SIGTERM
        # or at a spot instance's end, is drained first, and all workers hear of it here, at the same row.
        taken_back = taken_back or ray.train.get_preemption_info() is not None

    try:
        loop.train(
            training.shards,
            training.out,
            training.settings,
            training.seed,
            rank=rank,
            world=context.get_world_size(),
            device=device,
            report=report,
            stop=lambda: taken_back,
        )
    except Interrupted:
        return False
    return True
