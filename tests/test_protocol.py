"""C is chosen on training data alone, few labels are drawn fairly, and SVHN's procedure runs from a file to figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from subjects import checkpoint_of

from pipelines.labelled.classes import LabelledSettings, read_labelled
from pipelines.measurements.features import take
from pipelines.measurements.given import Given
from pipelines.recipe import EvaluateSettings
from training.evaluation import protocol
from training.evaluation.measured import Subject, Unmeasurable
from training.evaluation.protocol import (
    FewLabels,
    ProtocolSettings,
    at_edge,
    choose_c,
    drawn_rows,
    few_labels,
    stratified,
    svhn_procedure,
    widened,
)
from training.evaluation.svm import fit_svm
from training.presets import resolve

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def clusters(rows: int, features: int, classes: int, apart: float, seed: int = 0) -> tuple[Features, Labels]:
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.arange(rows) % classes)
    centres = np.random.default_rng(99).standard_normal((classes, features)) * apart
    return (centres[labels] + draw.standard_normal((rows, features))).astype(np.float32), labels


@given(st.lists(st.integers(2, 30), min_size=2, max_size=5), st.floats(0.05, 0.5), st.integers(0, 5))
def test_the_same_share_of_each_class_is_held_out(counts: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    held_out = stratified(labels, share, seed)
    for of_class, count in enumerate(counts):
        assert held_out[labels == of_class].sum() == max(1, round(share * count))
    np.testing.assert_array_equal(held_out, stratified(labels, share, seed))


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a share of 0\.5 of the 1 of class 1 leaves none"):
        stratified(np.array([0, 0, 1]), 0.5, 0)
    with pytest.raises(ValueError, match=r"a share of 1\.0 of the 2 of class 0 leaves none"):
        stratified(np.array([0, 0, 1, 1]), 1.0, 0)


def test_the_chosen_c_is_the_best_on_the_part_held_out() -> None:
    features, labels = clusters(240, 60, 3, 0.2)
    candidates = [1.0, 1e-5, 1e-2]
    c, accuracies = choose_c(features, labels, candidates, 0.25, 3)
    held_out = stratified(labels, 0.25, 3)
    for candidate in candidates:
        svm = fit_svm(features[~held_out], labels[~held_out], candidate)
        right = svm.predict(features[held_out]) == labels[held_out]
        # One of 60 may fall on the other side: both fits stop within a thousandth of the optimum.
        assert accuracies[candidate] == pytest.approx(right.mean(), abs=1 / 60 + 1e-9)
    assert list(accuracies) == sorted(accuracies)
    assert set(candidates) <= set(accuracies)
    assert accuracies[c] == max(accuracies.values())
    assert all(other >= c for other, accuracy in accuracies.items() if accuracy == accuracies[c])


def test_candidates_grow_beyond_the_edge_until_the_best_is_within() -> None:
    def best_at(wanted: float, *candidates: float) -> tuple[float, list[float]]:
        chosen, scores = widened(candidates, lambda c: -abs(np.log10(c / wanted)))
        return chosen, list(scores)

    assert best_at(1.0, 0.1, 1.0, 10.0) == (1.0, [0.1, 1.0, 10.0])
    chosen, tried = best_at(100.0, 0.1, 1.0)
    assert tried == pytest.approx([0.1, 1, 10, 100, 1000])
    assert chosen == pytest.approx(100)
    assert not at_edge(chosen, tried)
    chosen, tried = best_at(1e-9, 1.0, 0.1)
    assert tried == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])
    assert at_edge(chosen, tried)
    assert best_at(1e-9, 3.0) == (3.0, [3.0])
    assert not at_edge(3.0, [3.0])


def test_what_is_held_out_is_not_trained_on() -> None:
    # Labels by chance: who trained on them would be right, who didn't can't be.
    features = np.random.default_rng(0).standard_normal((200, 400)).astype(np.float32)
    labels = np.random.default_rng(1).permutation(np.arange(200) % 2)
    assert (fit_svm(features, labels, 1.0).predict(features) == labels).mean() == 1
    _, accuracies = choose_c(features, labels, [1.0], 0.4, 0)
    assert accuracies[1.0] < 0.7


@given(st.integers(2, 5), st.integers(1, 8), st.integers(0, 100))
def test_draws_have_the_same_number_of_each_class(classes: int, per_class: int, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.arange(classes * 10) % classes)
    draws = [drawn_rows(labels, per_class, draw, seed) for draw in range(3)]
    for rows in draws:
        assert np.bincount(labels[rows], minlength=classes).tolist() == [per_class] * classes
        assert len(set(rows.tolist())) == len(rows)
    np.testing.assert_array_equal(draws[0], drawn_rows(labels, per_class, 0, seed))


def test_every_row_is_drawn_now_and_then() -> None:
    labels = np.arange(40) % 4
    seen = np.bincount(np.concatenate([drawn_rows(labels, 5, draw, 0) for draw in range(200)]), minlength=40)
    # Of 200 draws each of 10 rows a class is in half: 100 with a deviation of 7.
    assert 65 < seen.min() <= seen.max() < 135


def test_more_labels_are_better_and_each_draw_is_its_own() -> None:
    features, labels = clusters(600, 30, 3, 0.3)
    test, test_labels = clusters(600, 30, 3, 0.3, seed=1)
    few, converged = few_labels(features, labels, test, test_labels, 3, 5, 0.01, 7)
    many, _ = few_labels(features, labels, test, test_labels, 100, 5, 0.01, 7)
    assert converged
    assert few.shape == (5,)
    assert len(set(few.tolist())) > 1
    assert 1 / 3 < few.mean() < many.mean() - 0.05
    # A draw doesn't hang on how many there are.
    np.testing.assert_array_equal(few_labels(features, labels, test, test_labels, 3, 2, 0.01, 7)[0], few[:2])
    with pytest.raises(ValueError, match="class 0 has 200, fewer than per_class=201"):
        few_labels(features, labels, test, test_labels, 201, 1, 0.01, 7)


def test_deviation_is_of_the_draws() -> None:
    found = FewLabels(0.1, {}, np.array([0.1, 0.2, 0.3]))
    assert found.mean == pytest.approx(0.2)
    assert found.deviation == pytest.approx(0.1)


def write_digits(path: Path, rows: int, seed: int) -> None:
    """An SVHN file: X uint8[32, 32, 3, N], y uint8[N, 1] with 10 for zero; each digit a pattern under noise."""
    digits = np.arange(rows) % 10
    patterns = np.random.default_rng(99).integers(80, 176, (10, 32, 32, 3))
    noise = np.random.default_rng(seed).normal(0, 60, (rows, 32, 32, 3))
    images = np.clip(patterns[digits] + noise, 0, 255).astype(np.uint8)
    scipy.io.savemat(
        path, {"X": images.transpose(1, 2, 3, 0), "y": np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]}
    )


def test_svhns_procedure_from_file_to_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_digits(tmp_path / "train_32x32.mat", 600, 0)
    write_digits(tmp_path / "test_32x32.mat", 300, 1)
    settings = LabelledSettings(
        kind="svhn", train=str(tmp_path / "train_32x32.mat"), test=str(tmp_path / "test_32x32.mat")
    )
    train, test = read_labelled(settings, 8, 1)
    features = [(of.images.reshape(len(of.images), -1) / 127.5 - 1).astype(np.float32) for of in (train, test)]
    fits = []

    def counted(values: Features, labels: Labels, c: float, **more: object) -> object:
        fits.append((len(labels), np.bincount(labels).tolist(), c))
        return fit_svm(values, labels, c, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(protocol, "fit_svm", counted)
    procedure = ProtocolSettings(labels=50, validation=200, candidates=(1e-4, 1e-3, 1e-2))
    found = svhn_procedure(features[0], train.labels, features[1], test.labels, 5, procedure)
    # 10 draws for each C, then 100 with the chosen one; each of 50 labels, uniform over the digits.
    tried = len(found.validation)
    assert 3 <= tried <= 7
    assert len(fits) == 10 * tried + 100
    assert all(count == 50 and each == [5] * 10 for count, each, _ in fits)
    assert {c for _, _, c in fits[10 * tried :]} == {found.c}
    assert found.validation[found.c] == min(found.validation.values())
    assert found.errors.shape == (100,)
    assert len(set(found.errors.tolist())) > 10
    assert 0 < found.mean < 0.5  # 0.9 by chance
    assert 0 < found.deviation < 0.1
    again = svhn_procedure(features[0], train.labels, features[1], test.labels, 5, procedure)
    np.testing.assert_array_equal(found.errors, again.errors)


def test_svhns_procedure_refuses_what_does_not_divide() -> None:
    features, labels = clusters(60, 5, 3, 1.0)
    with pytest.raises(ValueError, match="labels=10 does not divide by 3 classes; try 9"):
        svhn_procedure(features, labels, features, labels, 0, ProtocolSettings(labels=10, validation=10))
    with pytest.raises(ValueError, match="validation=60 of 60 leaves none"):
        svhn_procedure(features, labels, features, labels, 0, ProtocolSettings(labels=9, validation=60))
    uneven = np.repeat([0, 1], [50, 6])
    with pytest.raises(ValueError, match=r"labels=12 asks for 6 of each class, and beside validation=30 one has \d"):
        svhn_procedure(features[:56], uneven, features, labels, 0, ProtocolSettings(labels=12, validation=30))


def test_the_features_of_svhns_files_are_measured_by_the_papers_procedure(tmp_path: Path) -> None:
    write_digits(tmp_path / "train_32x32.mat", 300, 0)
    write_digits(tmp_path / "test_32x32.mat", 100, 1)
    preset = resolve("svhn-32", width=2, batch_images=16)
    checkpoint = checkpoint_of(preset, weights=3, seed=4)
    settings: dict[str, Any] = {
        "labelled": {"kind": "svhn", **{x: str(tmp_path / f"{x}_32x32.mat") for x in ("train", "test")}},
        "features": {
            "rows": ["trained", "random"],
            "per_class": [5],
            "draws": 1,
            "c": [1.0],
            "svhn": {"labels": 50, "validation": 100, "validation_draws": 2, "test_draws": 3, "candidates": [0.01]},
        },
    }
    measured = take(Given(Subject(checkpoint), EvaluateSettings.model_validate(settings)))
    figures = json.loads(json.dumps(measured.figures))
    assert set(figures["svhn_procedure"]) == {"trained", "random"}
    own = figures["svhn_procedure"]["trained"]
    assert 0 < own["error"] < 0.9
    assert (own["labels"], own["draws"], own["validation_images"], own["c"]) == (50, 3, 100, 0.01)
    assert figures["paper"]["accuracy_100"] == pytest.approx(1 - 0.2248)
    assert f"with 50 labels: {own['error']:.2%} +- {own['deviation']:.2%} test error of 3 draws" in measured.says
    assert "the paper's 22.48% with 1,000" in measured.says
    settings["features"]["svhn"] = {"labels": 50, "validation": 300}
    with pytest.raises(Unmeasurable, match=r"features\.svhn: validation=300 of 300 leaves none"):
        take(Given(Subject(checkpoint), EvaluateSettings.model_validate(settings)))
