"""The table of features and its controls, and the learning curve over checkpoints."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from subjects import checkpoint_of
from test_supervised import classed

from manifests.store import Folder
from pipelines.measurements.features import check
from pipelines.measurements.given import Readiness
from pipelines.recipe import EvaluateSettings
from training.checkpoint import Checkpoint, save
from training.evaluation.curve import Point, learning_curve, per_doubling
from training.evaluation.kmeans import KMeansSettings
from training.evaluation.linear import LinearSettings, Row, Split, classify
from training.evaluation.measured import Measured, Subject, Unmeasurable
from training.evaluation.noise import NoiseSettings
from training.evaluation.supervised import SupervisedSettings
from training.evaluation.table import ROWS, FeaturesSettings, features_table
from training.presets import resolve

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
PRESET = resolve("svhn-32", width=2, batch_images=16)
SETTINGS = FeaturesSettings(
    per_class=(10,),
    draws=3,
    c=(0.1, 1.0),
    reference_images=32,
    curve_images=60,
    kmeans=KMeansSettings(units=6, patches=300, iterations=2),
    noise=NoiseSettings(images=64),
    supervised=SupervisedSettings(trials=2, search_images=80, search_epochs=1, epochs=4, few_draws=2, few_epochs=2),
)
SHORT = SETTINGS.model_copy(update={"rows": ("trained", "random")})


def _checkpoint(images_seen: int = 640, weights_of: int = 9) -> Checkpoint:
    return checkpoint_of(PRESET, weights_of, seed=4, images_seen=images_seen)


def _split() -> Split:
    train, test = classed(120), classed(60, seed=1)
    return Split(*train, *test, ("upper", "lower", "neither"))


@pytest.fixture(scope="module")
def table() -> tuple[Measured, list[Row]]:
    """All rows of a small table."""
    kept: list[Row] = []
    return features_table(Subject(_checkpoint()), _split(), SETTINGS, keep=kept.append), kept


def test_every_row_stands_with_its_figures(table: tuple[Measured, list[Row]]) -> None:
    measured, kept = table
    figures = json.loads(json.dumps(measured.figures))
    assert [row["name"] for row in figures["rows"]] == [row.name for row in kept] == list(ROWS)
    rows = {row["name"]: row for row in figures["rows"]}
    assert {name: row["dimensions"] for name, row in rows.items()} == {
        "trained": 16 * 14,
        "random": 16 * 14,
        "noise": 16 * 14,
        "kmeans": 24,
        "pixels": 3072,
        "supervised": 8 * 16,
    }
    for name, row in rows.items():
        assert 0.5 < row["accuracy"] <= 1, "three classes that can be seen"
        assert row["accuracy_10"] <= 1
        assert row["deviation_10"] >= 0
        assert ("c" in row) == (name != "supervised")
        if name != "supervised":
            tried = {float(c): right for c, right in row["c_tried"].items()}
            assert {0.1, 1.0} <= set(tried)
            assert row["c"] / row["c_unit"] == pytest.approx(min(tried, key=lambda c: (-tried[c], c)), 1e-2)
            assert row["c_at_edge"] == (
                row["c"] / row["c_unit"] == pytest.approx(min(tried), 1e-2)
                or row["c"] / row["c_unit"] == pytest.approx(max(tried), 1e-2)
            )
            assert row["converged"] is True
        assert row["chosen_with_10"] == (20 if name != "supervised" else 40)
    assert len(rows["supervised"]["trials"]) == 2
    assert figures["accuracy"] == rows["trained"]["accuracy"]
    assert figures["random"] == rows["random"]["accuracy"]
    over = 100 * (rows["trained"]["accuracy"] - rows["random"]["accuracy"])
    assert figures["points_over_random"] == pytest.approx(over, abs=0.01)
    assert figures["chance"] == pytest.approx(1 / 3, abs=1e-4)
    assert "raw pixels" in measured.says
    assert measured.paper is None, "the paper has no figure for these pictures"
    assert "paper" not in figures
    assert "32 labelled training images" in measured.statistics


def test_rows_that_are_finished_are_not_measured_again(table: tuple[Measured, list[Row]]) -> None:
    measured, rows = table
    stored = {row.name: Row.read(json.loads(json.dumps(asdict(row)))) for row in rows[:-1]}
    kept: list[Row] = []
    again = features_table(Subject(_checkpoint()), _split(), SETTINGS, stored, kept.append)
    assert [row.name for row in kept] == ["supervised"]
    assert again.figures == measured.figures
    np.testing.assert_array_equal(again.pictures["features"], measured.pictures["features"])


def test_the_random_twin_has_the_weights_that_the_training_began_with() -> None:
    measured = features_table(Subject(_checkpoint(weights_of=4)), _split(), SHORT)
    trained, random = measured.figures["rows"]
    assert {**trained, "name": "", "says": ""} == {**random, "name": "", "says": ""}
    other = features_table(Subject(_checkpoint(weights_of=5)), _split(), SHORT).figures["rows"]
    assert other[1] == random
    assert other[0]["c_unit"] != trained["c_unit"]


def test_the_same_seed_gives_the_same_figures_and_the_paper_where_it_has_some() -> None:
    some = SHORT.model_copy(update={"train_images": 90, "test_images": 40})
    split = replace(_split(), known="cifar10")
    one = features_table(Subject(_checkpoint(), seed=2), split, some)
    assert one.figures == features_table(Subject(_checkpoint(), seed=2), split, some).figures
    assert (one.figures["train_images"], one.figures["test_images"]) == (90, 40)
    assert one.paper is not None
    assert "82.8 %" in one.paper
    assert one.figures["paper"] == {"accuracy": 0.828, "accuracy_400": 0.738, "deviation_400": 0.004}
    picture = one.pictures["features"]
    plain = features_table(Subject(_checkpoint(), seed=2), replace(split, known=None), some).pictures["features"]
    assert picture.shape == plain.shape
    assert not np.array_equal(picture, plain), "the paper's lines"


@pytest.mark.parametrize("choose_images", [None, 60])
def test_c_is_chosen_without_a_look_at_the_test_images(choose_images: int | None) -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(200) % 3
    train = (np.eye(3)[labels] + draw.normal(size=(200, 3))).astype(np.float32)
    test, test_labels = np.zeros((50, 3), np.float32), np.arange(50) % 3
    split = Split(np.zeros((200, 1, 1, 1), np.uint8), labels, np.zeros((50, 1, 1, 1), np.uint8), test_labels, ("",) * 3)
    settings = LinearSettings(per_class=(20,), draws=2, choose_images=choose_images)

    def row(test: np.ndarray, split: Split) -> Row:
        return classify("x", "", train, test, split, settings, 0, lambda text: None)

    one = row(test, split)
    other = row(np.ones((50, 3), np.float32), replace(split, test_labels=test_labels[::-1].copy()))
    assert (one.c, one.c_tried, one.few["20"].c) == (other.c, other.c_tried, other.few["20"].c)


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_features_of_a_collapsed_network_are_told_of(value: float) -> None:
    checkpoint = _checkpoint()
    for name, weight in checkpoint.discriminator.items():
        if weight.is_floating_point() and not name.endswith("running_var"):
            weight.fill_(value)
    with pytest.raises(Unmeasurable, match=f"trained: the features' mean squared length is {value:.3g} in training"):
        features_table(Subject(checkpoint), _split(), SHORT)


def test_what_does_not_fit_is_told_before_any_work() -> None:
    split, said = _split(), list[str]()
    subject = Subject(_checkpoint(), say=said.append)
    with pytest.raises(Unmeasurable, match=r"\(28, 28, 1\), the network takes \(32, 32, 3\)"):
        features_table(subject, replace(split, test=np.zeros((60, 28, 28, 1), np.uint8)), SETTINGS)
    with pytest.raises(Unmeasurable, match="per_class=41 asks for more labels of a class than the smallest has, 40"):
        features_table(subject, split, SETTINGS.model_copy(update={"per_class": (10, 41)}))
    with pytest.raises(Unmeasurable, match=r"validation_share, .*a share of 0\.99 of the 40 of class 0 leaves none"):
        features_table(subject, split, SETTINGS.model_copy(update={"validation_share": 0.99}))
    with pytest.raises(Unmeasurable, match="all 120 test images are training images too"):
        features_table(subject, replace(split, test=split.train, test_labels=split.train_labels), SETTINGS)
    # Also where the labels that are used are other ones.
    fewer = SETTINGS.model_copy(update={"train_images": 60, "per_class": (10,)})
    with pytest.raises(Unmeasurable, match="all 120 test images are training images too"):
        features_table(subject, replace(split, test=split.train, test_labels=split.train_labels), fewer)
    assert said == []
    with pytest.raises(Unmeasurable, match=r"set evaluate\.labelled"):
        check(Readiness(PRESET, EvaluateSettings(), has_shards=True, has_codes=True))


def test_settings_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="leaves out random; trained and random stay"):
        FeaturesSettings(rows=("trained", "pixels"))
    assert FeaturesSettings(rows=("pixels", "random", "trained")).rows == ("trained", "random", "pixels")
    with pytest.raises(ValidationError, match="give numbers above 0"):
        FeaturesSettings(c=(0.0, 1.0))
    with pytest.raises(ValidationError, match="a class needs a label"):
        FeaturesSettings(per_class=(0,))


# The learning curve


def test_a_curve_begins_with_random_weights_and_goes_on_where_it_was() -> None:
    checkpoints = [_checkpoint(1280, 11), _checkpoint(640, 10)]
    kept: list[Point] = []
    measured = learning_curve(checkpoints, _split(), SETTINGS, keep=kept.append)
    points = measured.figures["points"]
    assert [point["images_seen"] for point in points] == [0, 640, 1280]
    assert measured.figures["train_images"] == 60
    assert measured.figures["points_per_doubling"] == pytest.approx(
        100 * (points[2]["accuracy"] - points[1]["accuracy"]), abs=0.01
    )
    twin = features_table(Subject(_checkpoint()), _split(), SHORT.model_copy(update={"train_images": 60}))
    assert points[0]["accuracy"] == twin.figures["random"]
    finished = {point.images_seen: point for point in kept if point.images_seen != 640}
    again: list[Point] = []
    same = learning_curve(checkpoints, _split(), SETTINGS, finished=finished, keep=again.append)
    assert [point.images_seen for point in again] == [640]
    assert same.figures == measured.figures


def test_a_doubling_brings_what_the_later_half_of_the_points_shows() -> None:
    rising = [Point(0, 0.1), Point(100, 0.2), Point(200, 0.4), Point(400, 0.45), Point(800, 0.5)]
    assert per_doubling(rising) == pytest.approx(0.05)
    assert per_doubling(rising[:3]) == pytest.approx(0.2)
    assert per_doubling(rising[:2]) is None


@pytest.mark.slow
def test_the_benchmark_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    split, names = _split(), ("upper", "lower", "neither")
    for part, images, labels in (("train", split.train, split.train_labels), ("test", split.test, split.test_labels)):
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = tmp_path / "data" / part / names[label]
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
    save(Folder(tmp_path / "checkpoints"), _checkpoint(), keep=9)
    save(Folder(tmp_path / "checkpoints"), _checkpoint(1280, 3), keep=9)
    out = tmp_path / "out.json"
    small = "--per-class 10 --draws 2 --units 5 --noise-images 32 --trials 1 --search-epochs 1 --epochs 1 --curve 2"

    def benchmark(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "benchmarks" / "features.py")]
        command += [str(tmp_path / "checkpoints" / "checkpoint-000001280"), "--data", str(tmp_path / "data")]
        command += ["--out", str(out), *small.split(), *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first = benchmark()
    assert first.returncode == 0, first.stderr
    last = json.loads(first.stdout.splitlines()[-1])
    keys = "accuracy accuracy_400 random noise kmeans pixels supervised images_seen"
    assert list(last) == keys.split()
    assert (last["accuracy_400"], last["images_seen"]) == (None, 1280)
    kept = json.loads(out.read_text())
    assert sorted(kept["curve"]) == ["0", "1280", "640"]
    del kept["rows"]["kmeans"]
    out.write_text(json.dumps(kept))
    again = benchmark()
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1]) == last
    assert "kmeans:" in again.stderr
    assert "pixels:" not in again.stderr
    other = benchmark("--seed", "5")
    assert other.returncode != 0
    assert "holds rows with other seed; name another --out" in other.stderr
