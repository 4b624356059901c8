"""Arithmetic and turn through the settings: what is missing is said first, and exemplars are their own generator's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_exemplars import checkpoint

from pipelines.measurements import MEASUREMENTS, Given, Readiness
from pipelines.recipe import EvaluateSettings, MeasurementName
from training.evaluation.exemplars import generator_digest
from training.evaluation.measured import Subject, Unmeasurable
from training.presets import resolve

SUM: dict[str, Any] = {
    "name": "both",
    "a": {"name": "first", "shows": {"smile": 1}},
    "b": {"name": "second", "shows": {"smile": 0}},
    "c": {"name": "third", "shows": {"smile": 0}},
}
BOTH: list[MeasurementName] = ["arithmetic", "turn"]


def evaluation(file: Path | None, **more: Any) -> EvaluateSettings:
    """Small measurements of exemplars chosen by hand."""
    named = {} if file is None else {"exemplars": str(file)}
    arithmetic = {"formulas": [SUM], "trials": 4, "curve": [1], **named}
    turn = {"start": SUM["b"], "end": SUM["a"], "axes": 1, "samples": 3, "columns": 3, "per_concept": 3, **named}
    small = {"epochs": 1, "width": 2, "hidden": 4}
    return EvaluateSettings.model_validate(
        {"arithmetic": arithmetic | {"classifier": small}, "turn": turn | {"classifier": small}, **more}
    )


def given(settings: EvaluateSettings, seed: int = 5) -> Given:
    return Given(Subject(checkpoint(), seed), settings)


def ready(settings: EvaluateSettings) -> Readiness:
    return Readiness(Subject(checkpoint()).preset, settings, has_shards=False, has_codes=False)


@pytest.fixture
def chosen(tmp_path: Path) -> Path:
    """Exemplars as the page saves them, of seed 5."""
    concepts = {"first": [1, 2, 3], "second": [9, 8, 7], "third": [4, 5, 300]}
    text = {"seed": 5, "checkpoint": generator_digest(checkpoint()), "concepts": concepts}
    (tmp_path / "exemplars.json").write_text(json.dumps(text))
    return tmp_path / "exemplars.json"


@pytest.mark.parametrize("name", BOTH)
def test_without_attributes_or_a_choice_nothing_can_be_measured(name: MeasurementName, tmp_path: Path) -> None:
    with pytest.raises(Unmeasurable, match=rf"set evaluate\.attributes .* dcgan exemplars .* set {name}\.exemplars"):
        MEASUREMENTS[name].check(ready(EvaluateSettings()))
    with pytest.raises(Unmeasurable, match=r"exemplars=.*none\.json is not there; make a page"):
        MEASUREMENTS[name].check(ready(evaluation(tmp_path / "none.json")))


@pytest.mark.parametrize("name", BOTH)
def test_a_generator_that_is_told_classes_is_refused(name: MeasurementName, chosen: Path) -> None:
    told = Readiness(resolve("mnist-28", classes=10), evaluation(chosen), has_shards=False, has_codes=False)
    with pytest.raises(Unmeasurable, match="is told one of 10 classes"):
        MEASUREMENTS[name].check(told)


def test_a_choice_by_hand_needs_sums_to_make_of_it(chosen: Path) -> None:
    settings = EvaluateSettings.model_validate({"arithmetic": {"exemplars": str(chosen)}})
    with pytest.raises(Unmeasurable, match=r"need arithmetic\.formulas"):
        MEASUREMENTS["arithmetic"].check(ready(settings))


@pytest.mark.parametrize("name", BOTH)
def test_a_choice_by_hand_gives_pictures_for_its_own_seed(name: MeasurementName, chosen: Path) -> None:
    settings = evaluation(chosen)
    MEASUREMENTS[name].check(ready(settings))
    measured = MEASUREMENTS[name].take(given(settings))
    assert "there are no attributes to judge them by" in measured.says
    assert all(picture.shape[2] == 1 for picture in measured.pictures.values())
    assert measured.settings["chosen_by"] == "hand"
    with pytest.raises(Unmeasurable, match="of seed 5, this measurement's seed is 6"):
        MEASUREMENTS[name].take(given(settings, seed=6))


@pytest.mark.parametrize("name", BOTH)
def test_a_choice_of_others_is_refused_before_any_work(name: MeasurementName, chosen: Path) -> None:
    own, measurement = ready(evaluation(chosen)), MEASUREMENTS[name]
    measurement.check(replace(own, seed=5))  # as a run does before its training
    measurement.check(replace(own, seed=5, checkpoint=checkpoint))
    with pytest.raises(Unmeasurable, match="of seed 5, this measurement's seed is 6"):
        measurement.check(replace(own, seed=6))
    with pytest.raises(Unmeasurable, match=f"this one is {generator_digest(checkpoint(1))}"):
        measurement.check(replace(own, seed=5, checkpoint=lambda: checkpoint(1)))


@pytest.mark.parametrize("name", BOTH)
def test_drawn_faces_train_the_classifier_that_judges(name: MeasurementName, chosen: Path) -> None:
    settings = evaluation(chosen, attributes={"kind": "drawn_faces", "images": 200})
    said: list[str] = []
    measured = MEASUREMENTS[name].take(Given(Subject(checkpoint(), 5, say=said.append), settings))
    classifier = measured.figures["classifier"]
    assert classifier["heldout_accuracy"].keys() == {"smile"}
    assert classifier["pictures"] == {"heldout": 30, "thresholds": 30, "train": 140}
    # All that drawn faces have but their pose, which is a measure.
    assert any("turned_left, turned_right on 200 pictures" in line for line in said)
    few = evaluation(chosen, attributes={"kind": "drawn_faces", "images": 20})
    with pytest.raises(Unmeasurable, match=r"evaluate\.attributes: of 3 pictures"):
        MEASUREMENTS[name].take(given(few))
