"""dcgan evaluate: what it needs is said before any work; each measurement is written once, for its networks only."""

import json
from pathlib import Path

import pytest
import yaml
from shard_fixture import draw_images, write_shards
from subjects import checkpoint_of
from typer.testing import CliRunner

from manifests.store import Folder
from pipelines.__main__ import app
from pipelines.commands.checkpoints import NoCheckpoint
from pipelines.evaluation import Evaluation
from pipelines.measurements import MEASUREMENTS
from pipelines.measurements.given import measurable
from pipelines.recipe import EvaluateSettings, MeasurementName
from pipelines.run import RunError
from pipelines.written import RecipeError
from training import checkpoint
from training.evaluation.exemplars import generator_digest
from training.evaluation.measured import Unmeasurable
from training.presets import resolve

SMALL = ("--set", "walk.points=3", "--set", "walk.columns=4", "--set", "walk.reference_images=16")


def save(folder: Folder, images_seen: int = 640, seed: int = 1) -> None:
    """A checkpoint of networks that learned nothing."""
    preset = resolve("paper-64", size_px=32, width=4, batch_images=8)
    checkpoint.save(folder, checkpoint_of(preset, seed, seed, images_seen), keep=5)


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    """A training of its own, with its shards beside it."""
    shards = Folder(tmp_path / "data" / "shards")
    write_shards(shards, draw_images(20))
    shards.write_json("dataset.json", {"image_px": 32, "samples": {"train": 20}})
    folder = Folder(tmp_path / "run")
    told = {"shards": shards.address, "dataset_sha256": "0", "samples": 20, "train": {}, "resolved": {}, "seed": 1}
    folder.write_bytes("train.yaml", yaml.safe_dump(told).encode())
    save(folder.child("training").child("checkpoints"))
    return folder


def invoke(subject: str, out: Path, *options: str) -> str:
    """What `dcgan evaluate` prints; raises what it raises."""
    result = CliRunner().invoke(app, ["evaluate", subject, "--out", str(out), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_measurement_is_a_json_a_picture_and_a_place_on_the_page(run: Folder, tmp_path: Path) -> None:
    told = invoke(run.address, tmp_path / "out", "--what", "walk", *SMALL)
    out = Folder(tmp_path / "out")
    written = out.read_json("walk.json")
    assert written["says"] in " ".join(told.split())
    assert {"figures", "settings", "seed", "statistics", "paper", "identity"} <= written.keys()
    assert (written["checkpoint"], written["images_seen"]) == ("checkpoint-000000640", 640)
    assert written["seed"] == 1, "the training's"
    assert written["settings"]["points"] == 3
    assert next(one["file"] for one in written["pictures"]) == "walk.png"
    assert all(out.read_bytes(one["file"]).startswith(b"\x89PNG") for one in written["pictures"])
    page = out.read_bytes("index.html").decode()
    assert page.count("data:image/png;base64,") == len(written["pictures"])
    assert 'src="http' not in page


def test_again_takes_only_what_is_missing_and_gives_the_same_bytes(run: Folder, tmp_path: Path) -> None:
    invoke(run.address, tmp_path / "out", *SMALL)
    first = (tmp_path / "out" / "walk.json").read_bytes()
    assert "walk: taken already" in invoke(run.address, tmp_path / "out", *SMALL)
    again = invoke(run.address, tmp_path / "out", *SMALL, "--redo")
    assert "taken already" not in again
    assert (tmp_path / "out" / "walk.json").read_bytes() == first
    last = run.child("training").child("checkpoints").child("checkpoint-000000640")
    invoke(last.address, tmp_path / "by checkpoint", *SMALL)
    assert (tmp_path / "by checkpoint" / "walk.json").read_bytes() == first, "the run and its shards are found"


@pytest.mark.parametrize("change", ["seed", "training"])
@pytest.mark.parametrize("asked", [("--what", "filters"), ("--redo",)])
def test_what_was_measured_of_others_does_not_share_a_folder(
    run: Folder, tmp_path: Path, change: str, asked: tuple[str, ...]
) -> None:
    invoke(run.address, tmp_path / "out", *SMALL)
    if change == "training":
        save(run.child("training").child("checkpoints"), 1280, seed=2)
    options = ("--seed", "5") if change == "seed" else ()
    settings = SMALL if "--redo" in asked else ()
    with pytest.raises(Unmeasurable, match=r"holds walk of another checkpoint or seed; name another folder"):
        invoke(run.address, tmp_path / "out", *settings, *options, *asked)


def test_other_settings_and_other_files_ask_for_redo(run: Folder, tmp_path: Path) -> None:
    invoke(run.address, tmp_path / "out", *SMALL)
    with pytest.raises(Unmeasurable, match=r"holds walk taken with other settings, files or shards.*--redo"):
        invoke(run.address, tmp_path / "out", *SMALL, "--set", "walk.columns=5")
    invoke(run.address, tmp_path / "out", *SMALL, "--set", "walk.columns=5", "--redo")
    assert Folder(tmp_path / "out").read_json("walk.json")["settings"]["columns"] == 5


def test_a_named_file_counts_by_what_it_holds(run: Folder, tmp_path: Path) -> None:
    chosen = tmp_path / "exemplars.json"
    settings = EvaluateSettings.model_validate({"turn": {"exemplars": str(chosen)}})
    checkpoints = run.child("training").child("checkpoints")

    def identity() -> str:
        return Evaluation(checkpoints, "checkpoint-000000640", settings, 0).identity("turn")

    chosen.write_text("one")
    first = identity()
    assert identity() == first
    chosen.write_text("two")
    assert identity() != first


def test_what_is_finished_stays_so_once_its_files_are_put_away(run: Folder, tmp_path: Path) -> None:
    chosen, out = tmp_path / "exemplars.json", Folder(tmp_path / "out")
    chosen.write_text("one")
    settings = EvaluateSettings.model_validate({"turn": {"exemplars": str(chosen)}})
    evaluation = Evaluation(run.child("training").child("checkpoints"), "checkpoint-000000640", settings, 0)
    with pytest.raises(Unmeasurable):
        evaluation.take("turn", out, print)  # that it can't be measured is finished too
    assert evaluation.finished(out) == ["turn"]
    chosen.rename(tmp_path / "put away.json")
    assert evaluation.finished(out) == ["turn"]
    chosen.write_text("two")
    assert evaluation.finished(out) == []


def test_a_stages_own_folder_is_left_to_it(run: Folder, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "started.json").write_text("{}")
    with pytest.raises(RunError, match="the folder of a run's stage"):
        invoke(run.address, tmp_path / "out", *SMALL)


def test_what_is_missing_is_said_at_once_and_nothing_is_written(run: Folder, tmp_path: Path) -> None:
    with pytest.raises(Unmeasurable) as told:
        invoke(run.address, tmp_path / "out", "--what", "walk", "--what", "features", "--what", "removal")
    assert "features: " in str(told.value)
    assert "removal: " in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "told"), [((), "the generator 00ff, this one is"), (("--seed", "2"), "of seed 1")])
def test_exemplars_of_others_are_refused_at_once(
    run: Folder, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    state = checkpoint.load(run.child("training").child("checkpoints"), "checkpoint-000000640")
    made_by = generator_digest(state) if options else "00ff"
    chosen = tmp_path / "exemplars.json"
    chosen.write_text(json.dumps({"seed": 1, "checkpoint": made_by, "concepts": {"one": [1]}}))
    with pytest.raises(Unmeasurable, match=told):
        invoke(run.address, tmp_path / "out", "--what", "turn", "--set", f"turn.exemplars={chosen}", *options)
    assert not (tmp_path / "out").exists()


def test_wrong_names_and_settings_stop_it(run: Folder, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean points"):
        invoke(run.address, tmp_path / "out", "--set", "walk.pointz=3")
    with pytest.raises(RunError, match=r"--shards .* holds no index.parquet"):
        invoke(run.address, tmp_path / "out", "--shards", str(tmp_path))
    with pytest.raises(NoCheckpoint):
        invoke(str(tmp_path / "nothing"), tmp_path / "out")
    with pytest.raises(RecipeError, match=r"what.*'walk', 'features'.*got 'wolk'"):
        invoke(run.address, tmp_path / "out", "--what", "wolk")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--what", "walk", "--set", "features.c=[1]"), r"features.c=\[1\]: walk does not use features; add"),
        (("--what", "filters", "--set", "boxes.kind=drawn_rooms"), "filters does not use boxes"),
        (("--what", "walk", "--shards", "SHARDS"), "walk looks at no shards; leave it out"),
    ],
)
def test_what_no_measurement_looks_at_is_refused(
    run: Folder, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    shards = str(tmp_path / "data" / "shards")
    with pytest.raises(RunError, match=message):
        invoke(run.address, tmp_path / "out", *(shards if o == "SHARDS" else o for o in options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [{"attributes": {"kind": "folders", "path": "a", "positive": "b"}}, {"boxes": {}}])
def test_what_only_drawn_pictures_use_is_refused_of_files(kind: dict[str, dict[str, str]]) -> None:
    ((name, values),) = kind.items()
    values = values or {"kind": "json", "path": "a", "boxes": "b"}
    written = EvaluateSettings.model_validate({name: values}).model_dump(mode="json")
    EvaluateSettings.model_validate(written)  # as a run writes them down, with every default
    for unused in ({"images": 50}, {"seed": 3}):
        with pytest.raises(ValueError, match=next(iter(unused))):
            EvaluateSettings.model_validate({name: values | unused})


def test_one_that_can_not_be_taken_leaves_the_others(run: Folder, tmp_path: Path) -> None:
    options = ["evaluate", run.address, "--out", str(tmp_path / "out"), "--what", "distribution", "--what", "walk"]
    result = CliRunner().invoke(app, [*options, *SMALL])
    assert isinstance(result.exception, Unmeasurable)
    assert str(result.exception).startswith("distribution: 10 real images and 10 others")
    out = Folder(tmp_path / "out")
    assert {"walk.json", "index.html"} <= set(out.names())
    assert "10 real images and 10 others" in out.read_bytes("index.html").decode()
    out.delete("index.html")
    with pytest.raises(Unmeasurable, match=r"^distribution: 10 real images .* --redo tries again"):
        invoke(run.address, tmp_path / "out", "--what", "distribution", "--what", "walk", *SMALL)
    assert out.exists("index.html"), "it is written whenever there is something to show"


def test_a_file_that_can_not_be_read_leaves_the_others(run: Folder, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_text("no pictures")
    labelled = ", ".join(f"{name}: {damaged}" for name in ("train", "test", "train_labels", "test_labels"))
    what = ("--what", "features", "--what", "walk", "--set", f"labelled={{kind: idx, {labelled}}}")
    with pytest.raises(Unmeasurable, match=f"^features: {damaged}"):
        invoke(run.address, tmp_path / "out", *what, *SMALL)
    assert {"walk.json", "index.html"} <= set(Folder(tmp_path / "out").names())
    assert not Folder(tmp_path / "out").exists("features.json"), "another time it may be mended"


def test_shards_of_another_size_are_refused(run: Folder, tmp_path: Path) -> None:
    Folder(tmp_path / "data" / "shards").write_json("dataset.json", {"image_px": 64, "samples": {"train": 20}})
    with pytest.raises(Unmeasurable, match=r"filters: .*shards holds images of 64 px, .* are of 32 px"):
        invoke(run.address, tmp_path / "out", "--what", "filters")


def test_pictures_of_an_earlier_take_go_with_it(run: Folder, tmp_path: Path) -> None:
    invoke(run.address, tmp_path / "out", *SMALL)
    assert "walk-spherical_walk.png" in Folder(tmp_path / "out").names()
    invoke(run.address, tmp_path / "out", *SMALL, "--set", "walk.paths=linear", "--redo")
    out = Folder(tmp_path / "out")
    named = [one["file"] for one in out.read_json("walk.json")["pictures"]]
    assert [name for name in out.names() if name.endswith(".png")] == sorted(named)
    assert "walk-spherical_walk.png" not in named


@pytest.mark.parametrize("error", [ValueError, FloatingPointError])
def test_numeric_work_that_fails_is_told_in_its_own_words(error: type[Exception]) -> None:
    with pytest.raises(Unmeasurable, match="set c lower"), measurable():
        raise error("set c lower")
    with pytest.raises(TypeError), measurable():
        raise TypeError("a mistake of our own")


def test_what_is_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="walk is named twice"):
        EvaluateSettings(what=("walk", "walk"))


def test_every_name_has_a_measurement_and_its_settings() -> None:
    assert tuple(MEASUREMENTS) == MeasurementName.__args__  # type: ignore[attr-defined]
    for name, measurement in MEASUREMENTS.items():
        assert measurement.name == name
        assert {name, *measurement.reads} <= EvaluateSettings.model_fields.keys()
