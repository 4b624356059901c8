"""dcgan train before any work: what it shows, what it refuses, and what it says then."""

from pathlib import Path

import pytest
import yaml
from shard_fixture import draw_images, write_shards
from typer.testing import CliRunner

from manifests.store import Folder
from pipelines.__main__ import app
from pipelines.cluster import ClusterError
from pipelines.commands.train import _check_unchanged, _dataset, _described, _settings
from pipelines.resources import Resources
from pipelines.run import RunError
from pipelines.trainer import Training
from pipelines.written import RecipeError

SMALL = ("--preset", "paper-64-narrow", "--set", "size_px=32", "--set", "width=4", "--set", "batch_images=8")


@pytest.fixture
def shards(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "shards")
    write_shards(folder, draw_images(20))
    dataset = {"image_px": 32, "image_format": "png", "samples": {"train": 20, "heldout": 0}, "shards": []}
    folder.write_json("dataset.json", dataset)
    return folder


def invoke(shards: Folder, run: Path, *options: str) -> str:
    """What `dcgan train` prints; raises what it raises."""
    result = CliRunner().invoke(app, ["train", shards.path(), "--run", str(run), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_a_dry_run_shows_the_training_and_leaves_no_trace(shards: Folder, tmp_path: Path) -> None:
    told = invoke(shards, tmp_path / "run", *SMALL, "--epochs", "3", "--dry-run")
    for what, value in {"updates": "8", "images to see": "64, 3.20 epochs", "batch": "8 images; 8 a worker"}.items():
        assert any(what in line and value in line for line in told.splitlines()), told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("--workers", "3"), RunError, "batch_images=8 does not divide by 3 workers.*workers: 1, 2, 4, 8"),
        (("--workers", "2-4"), RunError, r"does not divide by 3 workers.*--workers=2-4; try batch_images=12"),
        (("--workers", "4-2"), RunError, "write 2-4"),
        (("--workers", "two"), RunError, "--workers two: expected a number such as 4"),
        (("--workers", "2-64"), RunError, "--workers=2-64; try workers: 1, 2, 4, 8$"),
        (("--set", "learning_rat=1"), RecipeError, "did you mean learning_rate"),
        (("--set", "learning_rate=-1"), RecipeError, "learning_rate"),
        (("--images", "8", "--epochs", "1"), RecipeError, "give one of them"),
        (("--set", "size_px=64"), RunError, "images of 32 px, the preset paper-64-narrow trains on 64.*size_px=32"),
        (("--workers", "8", "--gpu"), ClusterError, "^--workers=8 and --cpus=1 need 8 cores|^--gpu asks for 8 GPUs"),
        (("--epochs", "inf"), RecipeError, "epochs: Input should be a finite number"),
        (("--set", "learning_rate=.inf"), RecipeError, "learning_rate=inf: Input should be a finite number"),
    ],
)
def test_what_can_not_be_trained_is_refused_before_any_work(
    shards: Folder, tmp_path: Path, options: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        invoke(shards, tmp_path / "run", *SMALL, *options)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_finished_shards_is_told_what_it_lacks(shards: Folder, tmp_path: Path) -> None:
    shards.delete("dataset.json")
    with pytest.raises(RunError, match=r"it has no dataset.json; make one with dcgan run RECIPE .* --until shard"):
        invoke(shards, tmp_path / "run", *SMALL)
    with pytest.raises(RunError, match=r"no index.parquet and no dataset.json"):
        invoke(Folder(tmp_path / "nothing"), tmp_path / "run", *SMALL)


def test_the_folder_of_a_whole_run_is_left_to_its_recipe(shards: Folder, tmp_path: Path) -> None:
    Folder(tmp_path / "run").write_bytes("recipe.yaml", b"recipe: {}")
    with pytest.raises(RunError, match="dcgan run RECIPE"):
        invoke(shards, tmp_path / "run", *SMALL)


def test_a_training_that_was_begun_takes_more_images_and_no_other_settings(shards: Folder, tmp_path: Path) -> None:
    run = Folder(tmp_path / "run")
    small = ["size_px=32", "width=4", "batch_images=8"]

    def described(images: int, *changes: str, seed: int = 0) -> dict[str, object]:
        training = Training(
            shards, run.child("training"), _settings("paper-64", images, None, [*small, *changes]), seed
        )
        return _described(training, _dataset(shards), Resources())

    def check(now: dict[str, object]) -> None:
        _check_unchanged(run, now, _settings("paper-64", 80, None, small))

    run.write_bytes("train.yaml", yaml.safe_dump(described(80)).encode())
    check(described(160, "threads=2", "loader.ahead_batches=2", "log_every_updates=7", "compile=false"))
    with pytest.raises(RunError, match=r"(?s)seed: 0 -> 1"):
        check(described(80, seed=1))
    with pytest.raises(RunError, match=r"(?s)learning_rate: 0.0002 -> 0.1.*Set it back, or name another folder"):
        check(described(80, "learning_rate=0.1"))
    shards.write_json("dataset.json", shards.read_json("dataset.json") | {"more": 1})
    with pytest.raises(RunError, match="dataset_sha256"):
        check(described(80))


@pytest.mark.parametrize("text", ["{", "[]", "seed: 0", "train: {}\nsamples: many", "\x00"])
def test_a_train_file_that_no_training_wrote_is_told_of(shards: Folder, tmp_path: Path, text: str) -> None:
    Folder(tmp_path / "run").write_bytes("train.yaml", text.encode())
    with pytest.raises(RunError, match=r"train\.yaml is none that a training wrote; move it"):
        invoke(shards, tmp_path / "run", *SMALL)


@pytest.mark.parametrize("text", ["{}", "[]", '{"samples": 3, "image_px": 32}', '{"samples": {"train": 3}}', "{"])
def test_a_damaged_description_of_the_shards_is_told_of(shards: Folder, tmp_path: Path, text: str) -> None:
    shards.write_bytes("dataset.json", text.encode())
    with pytest.raises(RunError, match=r"dataset\.json does not say how many samples"):
        invoke(shards, tmp_path / "run", *SMALL)


def test_a_seed_that_no_generator_takes_is_refused(shards: Folder, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", shards.path(), "--run", str(tmp_path / "run"), "--seed", str(10**23)])
    assert result.exit_code == 2


def test_a_range_of_workers_is_told_with_each_part(shards: Folder, tmp_path: Path) -> None:
    told = invoke(shards, tmp_path / "run", *SMALL, "--workers", "1-2", "--cpus", "1", "--dry-run")
    assert "8 images; 8 a worker of 1, 4 a worker of 2" in told


def test_a_training_of_its_own_is_no_run_and_has_a_status(shards: Folder, tmp_path: Path) -> None:
    run = Folder(tmp_path / "run")
    training = Training(shards, run.child("training"), _settings("paper-64-narrow", 80, None, ["size_px=32"]), 0)
    run.write_bytes("train.yaml", yaml.safe_dump(_described(training, _dataset(shards), Resources())).encode())
    run.child("training").write_json("progress.json", {"images_seen": 32})
    with pytest.raises(RunError, match="is a training of its own, which dcgan train wrote"):
        CliRunner().invoke(app, ["run", "demo", "--run", run.path(), "--dry-run"], catch_exceptions=False)
    told = CliRunner().invoke(app, ["status", run.path()], catch_exceptions=False).output
    assert "a training of its own" in " ".join(told.split())
    assert "32 of 80" in told
