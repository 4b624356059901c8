"""Trainings by real Ray Train workers: stopped, killed, begun with another number of them, on damaged shards."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from shard_fixture import draw_images, write_shards

from manifests.store import Folder
from pipelines.cluster import session
from pipelines.parts import StageError
from pipelines.progress import Reporter
from pipelines.recipe import TrainSettings
from pipelines.resources import Resources
from pipelines.trainer import Training, run_training
from training import checkpoint
from training.checkpoint import Checkpoint, load_latest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

SAMPLES = 60
BATCH = 8


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    with session(None, Resources(train_workers=2, train_cpus=1), trains=True):
        yield


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return shards_in(Folder(tmp_path_factory.mktemp("shards")))


def shards_in(folder: Folder, samples: int = SAMPLES, per_shard: int = 10) -> Folder:
    write_shards(folder, draw_images(samples), per_shard=per_shard)
    dataset = {"image_px": 32, "image_format": "png", "samples": {"train": samples, "heldout": 0}, "shards": []}
    folder.write_json("dataset.json", dataset)
    return folder


def settings(images: int, **others: Any) -> TrainSettings:
    small = {"size_px": 32, "width": 4, "batch_images": BATCH}
    rare = {"log_every_updates": 5, "checkpoint_every_images": 80, "grid_every_images": 10**9, "grid_images": 4}
    return TrainSettings(preset="paper-64-narrow", overrides=small, images=images, **(rare | others))


def trained(shards: Folder, out: Folder, workers: int | tuple[int, int], how: TrainSettings) -> dict[str, Any]:
    resources = Resources(train_workers=workers, train_cpus=1, train_failures=2)
    with Reporter(Console(quiet=True)) as reporter:
        return run_training(Training(shards, out, how, seed=3), resources, reporter, on_cluster=False)


def latest(out: Folder) -> Checkpoint:
    found = load_latest(out.child("checkpoints"))
    assert found is not None
    return found


def largest_difference(one: Folder, other: Folder) -> float:
    ours, theirs = latest(one), latest(other)
    assert ours.update == theirs.update
    pairs = ((ours.generator, theirs.generator), (ours.discriminator, theirs.discriminator))
    return max(float((a[name] - b[name]).abs().max()) for a, b in pairs for name in a)


def digests(out: Folder) -> list[dict[str, Any]]:
    return list(out.read_json("epochs.json"))


def test_begun_by_one_worker_and_ended_by_two_it_deals_and_learns_the_same(
    ray_session: None, shards: Folder, tmp_path: Path
) -> None:
    alone, both, changed = (Folder(tmp_path / name) for name in ("alone", "both", "changed"))
    assert trained(shards, alone, 1, settings(160, precision="float64"))["workers"] == 1
    assert trained(shards, both, 2, settings(160, precision="float64"))["workers"] == 2
    trained(shards, changed, 1, settings(80, precision="float64"))
    assert len(digests(changed)) == 1
    # A range takes what there is room for: both cores of the session.
    ended = trained(shards, changed, (1, 2), settings(160, precision="float64"))
    assert (ended["updates"], ended["workers"]) == (20, 2)
    assert len(digests(alone)) == 2
    assert digests(alone) == digests(both) == digests(changed)
    assert largest_difference(alone, both) <= 1e-9
    assert largest_difference(alone, changed) <= 1e-9
    assert not changed.exists(".ray")


def test_a_damaged_sample_that_one_of_two_workers_meets_ends_both_at_once(ray_session: None, tmp_path: Path) -> None:
    shards = shards_in(Folder(tmp_path / "shards"))
    path = Path(shards.path("train-000003.tar"))
    data = bytearray(path.read_bytes())
    data[600] ^= 255
    path.write_bytes(data)
    # Worker 0's own words and no others: had it been tried again, each worker's would stand there with its number.
    with pytest.raises(StageError, match=r"^training stopped: .*train-000003.tar, sample .*; write the shards again"):
        trained(shards, Folder(tmp_path / "out"), 2, settings(160))
    assert not Folder(tmp_path / "out").exists(".ray")


def test_fewer_shards_than_workers_and_an_epoch_shorter_than_a_batch(ray_session: None, tmp_path: Path) -> None:
    shards = shards_in(Folder(tmp_path / "shards"), samples=3, per_shard=1)
    out = Folder(tmp_path / "out")
    trained(shards, out, 2, settings(40))
    rows = digests(out)
    assert len(rows) == 40 // 3
    assert {row["dealt"] for row in rows} == {3}


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Ray Train's workers among a process's descendants."""
    found = []
    for child in process.children(recursive=True):
        try:
            if child.name().startswith("ray::RayTrainWo"):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_worker_that_is_killed_costs_nothing_but_time(ray_session: None, shards: Folder, tmp_path: Path) -> None:
    how = settings(8_000, precision="float64")
    undisturbed, disturbed = Folder(tmp_path / "undisturbed"), Folder(tmp_path / "disturbed")
    trained(shards, undisturbed, 2, how)
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 120
        while not checkpoint.names(disturbed.child("checkpoints")) and time.monotonic() < deadline:
            time.sleep(0.01)
        for worker in workers_of(psutil.Process())[:1]:
            os.kill(worker.pid, signal.SIGKILL)
            killed.append(len(checkpoint.names(disturbed.child("checkpoints"))))

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    trained(shards, disturbed, 2, how)
    killer.join()
    assert killed, "the training ended before a worker could be killed"
    assert largest_difference(undisturbed, disturbed) == 0
    assert digests(undisturbed) == digests(disturbed)
