"""Runs that are killed, and decoders that crash, in real processes: the same result as if nothing had happened."""

import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from test_run import digests, recipe_of

from manifests.schema import Reason
from manifests.store import Folder
from pipelines.stages import STAGE_FILE, STAGES, STARTED_FILE
from training import checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]
FOLDERS = {stage.name: stage.folder for stage in STAGES}


def png_of_blocks(random: np.random.Generator) -> bytes:
    image = np.kron(random.integers(0, 256, (6, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    return bytes(cv2.imencode(".png", image)[1])


def start(
    recipe: Path, run: Path, *options: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines", "run", str(recipe), "--run", str(run), *options]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )


def end(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said


def kill_when(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """SIGKILL the process as soon as `ready()`; fails if it ends by itself before."""
    deadline = time.monotonic() + 300
    while not ready():
        if process.poll() is not None:
            pytest.fail(f"the run ended before it could be killed: {process.communicate()[0]}")
        assert time.monotonic() < deadline, "the stage did not get that far in time"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(1.0)  # its Ray dies with it


def times(folder: Folder, ending: str) -> dict[str, int]:
    paths = [folder.path(name) for name in folder.names() if name.endswith(ending)]
    return {path: os.stat(path).st_mtime_ns for path in paths}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(40):
        (folder / "photos" / f"{number}.png").write_bytes(png_of_blocks(random))
    made = recipe_of(folder / "photos", workers=2, part_images=20, train_cpus=1)
    values = made.model_dump(mode="json")
    values["sources"][0]["images"] = 300
    values["train"] |= {"images": 640, "checkpoint_every_images": 128}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    end(start(recipe, run))
    return Folder(run)


def test_killed_in_every_stage_the_run_ends_the_same(recipe: Path, undisturbed: Folder, tmp_path: Path) -> None:
    run = Folder(tmp_path / "run")
    samples, codes, groups = run.child("samples"), run.child("codes"), run.child("groups")
    shards, training = run.child("shards"), run.child("training")

    def parts(folder: Folder) -> list[str]:
        return [name for name in folder.names() if name.startswith("part-")]

    def started(stage: str) -> bool:
        return run.child(FOLDERS[stage]).exists(STARTED_FILE)

    middles: dict[str, Callable[[], bool]] = {
        "ingest": lambda: len(parts(samples)) >= 3,
        "encode fit": lambda: started("encode"),
        "encode": lambda: len(parts(codes)) >= 3,
        "deduplicate": lambda: len(parts(groups)) >= 2,
        "deduplicate manifest": lambda: groups.exists("quality.json"),
        "shard": lambda: any(name.endswith(".tar") for name in shards.names()),
        "train": lambda: len(checkpoint.names(training.child("checkpoints"))) >= 2,
        "evaluate": lambda: started("evaluate"),
        "report": lambda: started("report"),
    }
    for stage, ready in middles.items():
        finished = times(samples, ".parquet") | times(codes, ".parquet")
        process = start(recipe, Path(run.path()))
        kill_when(process, ready)
        assert not run.child(FOLDERS[stage.split()[0]]).exists(STAGE_FILE), f"{stage} ended before the kill"
        after = times(samples, ".parquet") | times(codes, ".parquet")
        assert {name: after[name] for name in finished} == finished, f"finished parts were done again in {stage}"
    end(start(recipe, Path(run.path())))

    assert digests(run) == digests(undisturbed)
    assert not [name for name in os.listdir(samples.path()) if name.startswith(".begun")]
    for name in ("groups.parquet", "quality.json"):
        assert groups.read_bytes(name) == undisturbed.child("groups").read_bytes(name)
    _same_weights(run, undisturbed)
    assert run.child("evaluation").read_bytes("walk.png") == undisturbed.child("evaluation").read_bytes("walk.png")


def _same_weights(run: Folder, other: Folder) -> None:
    from training.checkpoint import load_latest

    one, two = (load_latest(folder.child("training").child("checkpoints")) for folder in (run, other))
    assert one is not None
    assert two is not None
    assert one.update == two.update
    for name, values in one.generator.items():
        assert bool((values == two.generator[name]).all()), name


_CRASHING = """
import os, signal
import cv2
_decode = cv2.imdecode
def imdecode(data, *rest):
    if b"kills the decoder" in bytes(data):
        os.kill(os.getpid(), signal.SIGSEGV)
    return _decode(data, *rest)
cv2.imdecode = imdecode
"""


def test_an_image_that_crashes_the_decoder_is_named_and_costs_no_other(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(1)
    for number in range(30):
        data = png_of_blocks(random)
        if number == 13:
            # A text chunk in front of the end keeps the file a good PNG.
            chunk = b"tEXt" + b"kills the decoder\0x"
            data = (
                data[:-12]
                + struct.pack(">I", len(chunk) - 4)
                + chunk
                + struct.pack(">I", zlib.crc32(chunk))
                + data[-12:]
            )
        (photos / f"{number:02d}.png").write_bytes(data)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_CRASHING)
    values = recipe_of(photos, workers=2, part_images=10).model_dump(mode="json")
    values["sources"] = values["sources"][1:]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(values))
    run = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    end(start(recipe, run, "--until", "ingest", environment=environment))
    rows = [row for table in Folder(run).child("samples").read_tables("part-") for row in table.to_pylist()]
    assert len(rows) == 30
    assert {row["source_key"]: row["reason"] for row in rows if row["reason"]} == {"13.png": Reason.CRASHED}
