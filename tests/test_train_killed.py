"""`dcgan train`, killed with SIGKILL in the middle and given again: the bits of a training that nobody disturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from shard_fixture import draw_images, write_shards

from manifests.store import Folder
from training import checkpoint
from training.checkpoint import Checkpoint
from training.metrics import read_rows

ROOT = Path(__file__).parent.parent
BATCH = 32
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


def start(shards: Folder, run: Path, updates: int) -> subprocess.Popen[str]:
    changes = {
        "size_px": 32,
        "width": 16,
        "batch_images": BATCH,
        "checkpoint_every_images": 10 * BATCH,
        "log_every_updates": 5,
        "grid_every_images": 20 * BATCH,
        "measure_images": 32,
    }
    command = [sys.executable, "-m", "pipelines", "train", shards.address, "--run", str(run), "--seed", "5"]
    command += ["--images", str(updates * BATCH), *(f"--set={key}={value}" for key, value in changes.items())]
    # In a group of its own: the kill is to take Ray's processes and the worker too.
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def end(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said


def last(run: Path) -> Checkpoint:
    state = checkpoint.load_latest(Folder(run / "training" / "checkpoints"))
    assert state is not None
    return state


def test_forty_updates_are_twenty_and_a_kill_and_twenty(tmp_path: Path) -> None:
    shards = Folder(tmp_path / "shards")
    write_shards(shards, draw_images(200), per_shard=50)
    dataset = {"image_px": 32, "image_format": "png", "samples": {"train": 200, "heldout": 0}, "shards": []}
    shards.write_json("dataset.json", dataset)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    end(start(shards, whole, 40))
    process = start(shards, killed, 40)
    written = Folder(killed / "training" / "checkpoints")
    while checkpoint.name_of(20 * BATCH) not in checkpoint.names(written):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 20 <= last(killed).update < 40, "the training was over before it was killed"
    time.sleep(1.0)  # its Ray dies with it
    end(start(shards, killed, 40))

    one, other = last(whole), last(killed)
    assert one.update == other.update == 40
    for network in ("generator", "discriminator"):
        ours, theirs = getattr(one, network), getattr(other, network)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    np.testing.assert_equal(one.generator_adam, other.generator_adam)
    np.testing.assert_equal(one.discriminator_adam, other.discriminator_adam)
    times = ("seconds", "images_per_s", "data_wait_share")
    rows = [
        [{key: value for key, value in row.items() if key not in times} for row in read_rows(Folder(run / "training"))]
        for run in (whole, killed)
    ]
    assert rows[0] == rows[1]
    for name in Folder(whole / "training" / "grids").names():
        assert (whole / "training" / "grids" / name).read_bytes() == (killed / "training" / "grids" / name).read_bytes()
