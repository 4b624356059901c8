"""What measurements read is looked for before any work begins, by each check that a run and dcgan evaluate make."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.labelled.there import check_there
from pipelines.measurements import MEASUREMENTS, Readiness
from pipelines.parts import StageError
from pipelines.recipe import EvaluateSettings, MeasurementName, Recipe
from pipelines.stages import evaluate
from training.evaluation.measured import Unmeasurable
from training.presets import Preset, resolve

PLAIN, CONDITIONAL = resolve("mnist-28"), resolve("mnist-28", classes=10)
LABELLED = {"kind": "folders", "train": "{}/train", "test": "{}/test"}
IDX = {"kind": "idx", "train": "{}", "test": "{}", "train_labels": "{}/labels", "test_labels": "{}"}
ATTRIBUTES = {"kind": "table", "path": "{}/faces", "table": "{}/faces.csv"}
BOXES = {"kind": "json", "path": "{}/rooms", "boxes": "{}/rooms.json"}


def put(values: Any, root: str) -> Any:
    """Values with the folder in its place."""
    if isinstance(values, dict):
        return {key: put(value, root) for key, value in values.items()}
    return values.format(root) if isinstance(values, str) else values


@pytest.mark.parametrize("root", ["absent", "s3://bucket"])
@pytest.mark.parametrize(
    ("name", "preset", "values", "missing"),
    [
        ("features", PLAIN, {"labelled": LABELLED}, ["evaluate.labelled.train", "evaluate.labelled.test"]),
        ("nearest", CONDITIONAL, {"labelled": IDX}, ["evaluate.labelled.train_labels"]),
        ("turn", PLAIN, {"attributes": ATTRIBUTES}, ["evaluate.attributes.path", "evaluate.attributes.table"]),
        ("arithmetic", PLAIN, {"arithmetic": {"exemplars": "{}/chosen.json"}}, ["arithmetic.exemplars"]),
        ("removal", PLAIN, {"boxes": BOXES}, ["evaluate.boxes.path", "evaluate.boxes.boxes"]),
        ("removal", PLAIN, {"boxes": {"kind": "drawn_rooms"}, "removal": {"drawn": "{}/a.json"}}, ["removal.drawn"]),
        (
            "distribution",
            PLAIN,
            {"distribution": {"inception_weights": "{}/inception.pth"}},
            ["distribution.inception_weights"],
        ),
    ],
)
def test_each_path_that_a_measurement_reads_is_looked_for(
    name: MeasurementName, preset: Preset, values: dict[str, Any], missing: list[str], root: str
) -> None:
    settings = EvaluateSettings.model_validate(put(values, root))
    with pytest.raises(Unmeasurable) as told:
        MEASUREMENTS[name].check(Readiness(preset, settings, has_shards=True, has_codes=True))
    wrong = "is a URI" if "://" in root else "is not there"
    for setting in missing:
        assert any(fault.startswith(f"{setting}={root}") and wrong in fault for fault in str(told.value).split("; "))


def test_a_path_inside_a_tar_is_as_much_as_can_be_looked_for(tmp_path: Path) -> None:
    (tmp_path / "cifar10.tar.gz").write_bytes(b"a tar")
    check_there({"train": f"{tmp_path}/cifar10.tar.gz/train", "test": None}, inside_tar=True)
    with pytest.raises(Unmeasurable, match=r"train=.*is not there"):
        check_there({"train": f"{tmp_path}/cifar10.tar.gz/train"})


def test_a_run_says_so_before_its_first_stage(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "sources": [{"name": "rooms", "kind": "drawn", "images": 20}],
            "evaluate": {"what": ["walk", "features"], "labelled": put(LABELLED, str(tmp_path))},
        }
    )
    with pytest.raises(StageError, match=r"features: evaluate\.labelled\.train=.*is not there"):
        evaluate.check_ready(recipe)
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    evaluate.check_ready(recipe)
