"""Train: Ray Train's TorchTrainer around `training.loop`, which resumes from its own last checkpoint."""

import contextlib
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device

from manifests.store import Folder
from pipelines.cluster import train_cpus
from pipelines.parts import StageError, own_words
from pipelines.progress import Bar
from pipelines.recipe import TrainSettings
from pipelines.stages.context import Context, Counts
from training import loop
from training.metrics import Row

FOLDER = "training"
PROGRESS_FILE = "progress.json"
_RAY_FOLDER = ".ray"
_LOOK_EVERY_S = 1.0


def progress(context: Context) -> tuple[int, int]:
    """(images seen, images to see); all 0 before the data set is known."""
    folder = context.run.child(FOLDER)
    seen = folder.read_json(PROGRESS_FILE)["images_seen"] if folder.exists(PROGRESS_FILE) else 0
    shards = context.run.child("shards")
    if not shards.exists("dataset.json"):
        return 0, 0
    settings = context.recipe.train
    updates = settings.updates(shards.read_json("dataset.json")["samples"]["train"])
    return seen, updates * settings.resolved().batch_images


def run(context: Context) -> Counts:
    """Train the recipe's preset on the shards, or go on where the last checkpoint stands."""
    folder, resources = context.run.child(FOLDER), context.recipe.resources
    cpus = train_cpus(resources, context.on_cluster)
    # A name of its own for every start: under an old one Ray Train would resume from its own notes, and do nothing.
    ray_folder = folder.child(_RAY_FOLDER)
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={
            "shards": context.run.child("shards"),
            "out": folder,
            "settings": context.recipe.train,
            "seed": context.recipe.seed,
            "threads": cpus,
        },
        scaling_config=ScalingConfig(
            num_workers=resources.train_workers, use_gpu=resources.gpu, resources_per_worker={"CPU": cpus}
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=ray_folder.address,
            failure_config=FailureConfig(max_failures=resources.train_failures),
        ),
    )
    seen, total = progress(context)
    with context.reporter.bar("train", total, done=seen) as bar, _watched(folder, bar):
        try:
            trainer.fit()
        except Exception as error:  # Ray Train wraps whatever a worker raised in errors of several kinds
            raise StageError(f"training stopped: {own_words(error)}") from error
    ray_folder.delete_all()
    summary = folder.read_json(loop.SUMMARY)
    return {name: summary[name] for name in ("images_seen", "updates", "samples")}


def _train_worker(config: dict[str, Any]) -> None:
    """What each rank does."""
    settings: TrainSettings = config["settings"]
    out: Folder = config["out"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    torch.set_num_threads(settings.threads or config["threads"])

    def report(row: Row) -> None:
        if rank == 0:
            out.write_json(PROGRESS_FILE, row)
        ray.train.report(row)

    loop.train(
        config["shards"],
        out,
        settings,
        config["seed"],
        rank=rank,
        world=context.get_world_size(),
        device=get_device(),
        report=report,
    )


@contextlib.contextmanager
def _watched(folder: Folder, bar: Bar) -> Iterator[None]:
    """Move the bar along with what rank 0 notes, while the block runs."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            if folder.exists(PROGRESS_FILE):
                bar.reach(folder.read_json(PROGRESS_FILE)["images_seen"])

    watcher = threading.Thread(target=watch, name="training progress")
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
