"""Whole runs on a real embedded Ray: the same bytes however the work is cut, and stock readers can read them."""

import contextlib
import gc
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pytest
import ray
import webdataset
import yaml
from odd_images import EXPECTED, odd_files
from rich.console import Console
from typer.testing import CliRunner

from manifests.schema import Reason, Status
from manifests.store import Folder
from pipelines import cluster
from pipelines.__main__ import app
from pipelines.cluster import ClusterError
from pipelines.parts import StageError
from pipelines.progress import Reporter
from pipelines.recipe import Recipe
from pipelines.run import RunError, run_recipe
from pipelines.sources import SourceError
from pipelines.stages import STAGE_FILE, ingest
from pipelines.stages import STAGES as ALL_STAGES
from pipelines.stages.context import Context
from training import checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

STAGES = tuple(stage for stage in ALL_STAGES if stage.name != "fetch")  # of a recipe that lists no URLs


def recipe_of(folder: Path, **resources: Any) -> Recipe:
    """Drawn rooms, and a folder of odd files, as small as a run can be."""
    return Recipe.model_validate(
        {
            "name": "test run",
            "seed": 3,
            "sources": [
                {"name": "rooms", "kind": "drawn", "images": 220, "planted_share": 0.2, "image_format": "jpeg"},
                {"name": "odd", "kind": "folder", "path": str(folder)},
            ],
            "ingest": {"plant_sources": 10, "filters": {"smallest_side_px": 16}},
            "encode": {"autoencoder": {"epochs": 2}, "fit_threads": 1},
            "shard": {"shard_images": 48, "heldout_share": 0.1},
            "train": {
                "preset": "paper-64-narrow",
                "overrides": {"width": 4, "batch_images": 32},
                "images": 320,
                "checkpoint_every_images": 160,
                "grid_every_images": 160,
                "grid_images": 9,
                "log_every_updates": 2,
            },
            "evaluate": {"walk": {"points": 3, "columns": 4, "reference_images": 16}},
            "resources": {"part_images": 50, "object_store_gb": 0.2, **resources},
        }
    )


def finish(recipe: Recipe, run: Path, **options: Any) -> Folder:
    """Run a recipe to its end."""
    with Reporter(Console(quiet=True)) as reporter:
        run_recipe(recipe, Folder(run), reporter, **options)
    return Folder(run)


def digests(run: Folder) -> dict[str, str]:
    """sha256 of the manifest and of everything in shards/ that is data."""
    shards = run.child("shards")
    names = [name for name in shards.names() if name.endswith(".tar")] + ["index.parquet", "dataset.json"]
    found = {name: hashlib.sha256(shards.read_bytes(name)).hexdigest() for name in names}
    return found | {"manifest": hashlib.sha256(run.read_bytes("manifest.parquet")).hexdigest()}


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    for name, data in odd_files().items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def run(odd_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return finish(recipe_of(odd_folder, workers=2), tmp_path_factory.mktemp("run") / "run")


def test_every_record_has_one_row_and_the_counts_reconcile(run: Folder) -> None:
    manifest = run.read_table("manifest.parquet")
    assert len(manifest) == 220 + len(odd_files())
    assert len(set(manifest["record_id"].to_pylist())) == len(manifest)
    assert manifest["record_id"].to_pylist() == sorted(manifest["record_id"].to_pylist())
    statuses = manifest["status"].to_pylist()
    assert set(statuses) == set(Status) - {Status.USED}
    kept = manifest.filter(pc.equal(manifest["status"], Status.KEPT))
    assert kept["reason"].null_count == len(kept)
    dataset = run.child("shards").read_json("dataset.json")
    assert sum(dataset["samples"].values()) == len(kept)
    assert set(run.child("shards").read_table("index.parquet")["sample_id"].to_pylist()) == set(
        kept["sample_id"].to_pylist()
    )


def test_odd_files_have_the_reason_that_is_expected(run: Folder) -> None:
    manifest = run.read_table("manifest.parquet", ["source", "source_key", "status", "reason"])
    rows = {row["source_key"]: row for row in manifest.to_pylist() if row["source"] == "odd"}
    failed = {name: reason.value for name, reason in EXPECTED.items() if reason is not None}
    assert {name: rows[name]["reason"] for name in failed} == failed
    readable = {rows[name]["reason"] for name in EXPECTED if name not in failed}
    wanted = {None, Reason.ANIMATED, Reason.ASPECT, Reason.TOO_SMALL, Reason.NEAR_DUPLICATE, Reason.EXACT_REPEAT}
    assert readable <= wanted


def test_planted_repeats_are_found_and_keepers_exist(run: Folder) -> None:
    quality = run.child("groups").read_json("quality.json")
    assert quality["plants"]["sources"] > 3
    assert quality["plants"]["by_change"]["png"]["recall"] == 1.0
    assert quality["truth"]["variants"] > 20
    manifest = run.read_table("manifest.parquet").to_pylist()
    kept = {row["sample_id"] for row in manifest if row["status"] == Status.KEPT}
    dropped = [row for row in manifest if row["reason"] in (Reason.NEAR_DUPLICATE, Reason.EXACT_REPEAT)]
    assert dropped
    assert {row["keeper_id"] for row in dropped} <= kept


@pytest.mark.parametrize(("workers", "part_images"), [(1, 50), (2, 17)])
def test_workers_and_part_sizes_do_not_change_a_byte(
    run: Folder, odd_folder: Path, tmp_path: Path, workers: int, part_images: int
) -> None:
    other = finish(recipe_of(odd_folder, workers=workers, part_images=part_images), tmp_path / "run", until="shard")
    assert digests(other) == digests(run)


def _pixels(data: bytes) -> npt.NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image.astype(np.uint8)


@pytest.fixture(scope="module")
def images_by_key(run: Folder) -> dict[str, npt.NDArray[np.uint8]]:
    """What the index says lies where: our own reader."""
    found = {}
    for row in run.child("shards").read_table("index.parquet").to_pylist():
        data = run.child("shards").read_bytes(row["shard"])[row["offset"] : row["offset"] + row["size_bytes"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        found[row["sample_id"]] = _pixels(data)
    return found


# webdataset leaves closing its tars to the garbage collector, which is asked for here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_shards(run: Folder, images_by_key: dict[str, npt.NDArray[np.uint8]]) -> None:
    tars = [run.child("shards").path(n) for n in run.child("shards").names() if n.endswith(".tar")]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert {sample["__key__"] for sample in samples} == set(images_by_key)
    assert len(samples) == len(images_by_key)
    for sample in samples:
        np.testing.assert_array_equal(_pixels(sample["png"]), images_by_key[sample["__key__"]])
        assert json.load(io.BytesIO(sample["json"]))["record_id"]
    del samples, sample
    gc.collect()


def test_ray_data_reads_the_shards(run: Folder, images_by_key: dict[str, npt.NDArray[np.uint8]]) -> None:
    tars = [run.child("shards").path(n) for n in run.child("shards").names() if n.endswith(".tar")]
    recipe = Recipe.model_validate({"name": "r", "sources": [{"name": "d", "kind": "drawn", "images": 1}]})
    with cluster.session(None, recipe.resources):
        rows = ray.data.read_webdataset(tars).take_all()
    assert len(rows) == len(images_by_key)
    for row in rows:
        np.testing.assert_array_equal(row["png"], images_by_key[row["__key__"]])


def test_training_and_the_page_came_out(run: Folder) -> None:
    training = run.child("training")
    assert checkpoint.names(training.child("checkpoints"))[-1] == "checkpoint-000000320"
    for statistics in ("batch", "standing"):
        assert f"grid-000000320-{statistics}.png" in training.child("grids").names()
    assert not training.exists(".ray")
    rows = [json.loads(line) for line in training.read_bytes("metrics.jsonl").splitlines()]
    assert rows[-1]["images_seen"] == 320
    assert run.child("evaluation").read_json("walk.json")["images_seen"] == 320
    page = run.child("report").read_bytes("index.html").decode()
    assert "test run" in page
    described = yaml.safe_load(run.read_bytes("recipe.yaml"))
    assert set(described["fingerprints"]) == {stage.name for stage in STAGES}


def test_status_and_sample_commands(run: Folder, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["status", run.path()])
    assert shown.exit_code == 0
    assert shown.stdout.count("done") >= len(STAGES)
    assert "NO" not in shown.stdout.split()
    checkpoints = run.child("training").child("checkpoints")
    grid = tmp_path / "grid.png"
    again = tmp_path / "again.png"
    for out in (grid, again):
        arguments = [
            "sample",
            checkpoints.path(checkpoint.names(checkpoints)[-1]),
            "--out",
            str(out),
            "--images",
            "6",
            "--seed",
            "4",
        ]
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert grid.read_bytes() == again.read_bytes()
    assert _pixels(grid.read_bytes()).shape[2] == 3


def test_a_finished_run_does_nothing_and_a_changed_setting_stops_it(run: Folder, odd_folder: Path) -> None:
    recipe = recipe_of(odd_folder, workers=2)
    before = {s.name: run.child(s.folder).read_bytes(STAGE_FILE) for s in STAGES}
    finish(recipe, Path(run.path()))
    assert {s.name: run.child(s.folder).read_bytes(STAGE_FILE) for s in STAGES} == before
    changed = recipe.model_copy(update={"seed": 4})
    with pytest.raises(RunError, match="seed: 3 -> 4") as caught:
        finish(changed, Path(run.path()))
    assert "--redo ingest" in str(caught.value)
    shard = recipe.shard.model_copy(update={"shard_images": 100})
    with pytest.raises(RunError, match=r"shard\.shard_images: 48 -> 100"):
        finish(recipe.model_copy(update={"shard": shard}), Path(run.path()))


def test_redo_does_one_stage_again_and_keeps_those_before_it(odd_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(odd_folder, workers=2)
    folder = finish(recipe, tmp_path / "run", until="shard")
    ingested = folder.child("samples").read_bytes(STAGE_FILE)
    first = digests(folder)
    shard = recipe.shard.model_copy(update={"shard_images": 100})
    finish(recipe.model_copy(update={"shard": shard}), tmp_path / "run", until="shard", redo="shard")
    assert folder.child("samples").read_bytes(STAGE_FILE) == ingested
    assert digests(folder) != first
    finish(recipe, tmp_path / "run", until="shard", redo="shard")
    assert digests(folder) == first


def test_what_is_refused_is_refused_before_anything_is_deleted(
    run: Folder, odd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    recipe = recipe_of(odd_folder, workers=2)
    path = Path(run.path())
    before = sorted(str(p) for p in path.rglob("*"))
    gone = recipe_of(tmp_path / "typo")
    with pytest.raises(SourceError, match="typo"):
        finish(gone, path, redo="ingest")
    with pytest.raises(ClusterError, match="no Ray cluster answers"):
        finish(recipe, path, redo="train", address="127.0.0.1:1")
    with pytest.raises(RunError, match="--redo train comes after --until encode"):
        finish(recipe, path, redo="train", until="encode")
    with pytest.raises(ClusterError, match="cores, this machine has"):
        finish(recipe_of(odd_folder, train_workers=32, train_cpus=64), path, redo="train")
    assert sorted(str(p) for p in path.rglob("*")) == before


def test_a_list_of_parts_belongs_to_the_settings_that_made_it(odd_folder: Path, tmp_path: Path) -> None:
    """A start that got no further than the list of parts must not hand it to another recipe."""
    recipe = recipe_of(odd_folder)
    folder = Folder(tmp_path / "run")
    with monkeypatched_stage_error(), pytest.raises(StageError):
        finish(recipe, tmp_path / "run", until="ingest")
    assert folder.child("samples").exists("parts.parquet")
    values = recipe.model_dump(mode="json")
    values["sources"][0]["images"] = 30
    with pytest.raises(RunError, match=r"sources\.0\.images: 220 -> 30"):
        finish(Recipe.model_validate(values), tmp_path / "run", until="ingest")


@contextlib.contextmanager
def monkeypatched_stage_error() -> Iterator[None]:
    """Let ingest fail as it begins, as if it had been killed there."""

    def fails(context: Context) -> None:
        raise StageError("stopped by the test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "run", fails)
        yield


def test_what_a_killed_redo_leaves_is_not_taken_for_another_recipes_work(tmp_path: Path) -> None:
    """The fingerprint goes last, so whatever is left of the parts keeps the name of what made them."""
    folder = Folder(tmp_path / "stage")
    for name in ("started.json", "parts.parquet", *(f"part-{i:05d}.parquet" for i in range(20))):
        folder.write_bytes(name, b"x")
    folder.child("below").write_bytes("file", b"x")
    seen = []
    delete = type(folder.filesystem).delete_file

    class Watched(Folder):
        @property
        def filesystem(self) -> Any:
            return self

        def __getattr__(self, name: str) -> Any:
            return getattr(super().filesystem, name)

        def delete_file(self, path: str) -> None:
            seen.append((Path(path).name, os.path.exists(folder.path("started.json"))))
            delete(super().filesystem, path)

    Watched(folder.address).delete_all(last="started.json")
    assert len(seen) == 22
    assert all(still_there for _, still_there in seen)
    assert not folder.exists()


def test_two_processes_cannot_work_on_one_run(odd_folder: Path, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process"):
            finish(recipe_of(odd_folder), tmp_path / "run")
