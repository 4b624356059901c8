"""The linear SVM: liblinear's optimum, found without copies, with a gap that holds."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import LinearSVC

from training.evaluation.newton import Wide, step_length
from training.evaluation.rows import Rows
from training.evaluation.sketch import Sketch
from training.evaluation.svm import LinearSvm, SvmSettings, fit_svm

EXACT = SvmSettings(tolerance=1e-5, gap=1e-8)

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def correlated(rows: int, features: int, classes: int, seed: int = 0) -> tuple[Features, Labels]:
    """Positive for the most part, with a few large directions, as pooled activations are."""
    draw = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    factors = draw.standard_normal((rows, 8)) + 0.7 * draw.standard_normal((classes, 8))[labels]
    values = factors @ draw.standard_normal((8, features)) + draw.standard_normal((rows, features)) + 2
    return np.where(values > 0, values, 0.2 * values).astype(np.float32), labels


def signs_of(labels: Labels, classes: int) -> Wide:
    return np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)


def objectives(weights: Wide, features: Features, labels: Labels, c: float) -> Wide:
    scores = features.astype(np.float64) @ weights[:, :-1].T + weights[:, -1]
    losses = np.maximum(1 - signs_of(labels, len(weights)) * scores, 0)
    return np.asarray(0.5 * np.sum(weights**2, axis=1) + c * np.sum(losses**2, axis=0))


def gradients(weights: Wide, features: Features, labels: Labels, c: float) -> Wide:
    ones = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    signs = signs_of(labels, len(weights))
    losses = np.maximum(1 - signs * (ones @ weights.T), 0)
    return weights - 2 * c * (signs * losses).T @ ones


@pytest.mark.parametrize(("rows", "features", "c"), [(400, 60, 1e-3), (400, 60, 1.0), (90, 300, 1e-3), (90, 300, 1e-1)])
def test_it_finds_what_liblinear_finds(rows: int, features: int, c: float) -> None:
    values, labels = correlated(rows + 300, features, 5)
    ours = fit_svm(values[:rows], labels[:rows], c, settings=EXACT)
    theirs = LinearSVC(C=c, tol=1e-8, max_iter=100_000, random_state=0).fit(values[:rows], labels[:rows])
    weights = np.column_stack([theirs.coef_, theirs.intercept_])
    assert ours.converged
    np.testing.assert_allclose(ours.augmented(), weights, atol=1e-3 * np.abs(weights).max())
    expected = objectives(weights, values[:rows], labels[:rows], c).sum()
    assert ours.objective == pytest.approx(expected, rel=1e-5)
    agreed = ours.predict(values[rows:]) == theirs.predict(values[rows:])
    assert agreed.mean() >= 0.99


def test_of_two_classes_it_finds_what_liblinear_finds() -> None:
    values, labels = correlated(200, 30, 2)
    ours = fit_svm(values, labels, 0.01, settings=EXACT)
    theirs = LinearSVC(C=0.01, tol=1e-8, max_iter=100_000, random_state=0).fit(values, labels)
    np.testing.assert_allclose(ours.weights[1], theirs.coef_[0], atol=1e-3 * np.abs(theirs.coef_).max())
    np.testing.assert_array_equal(ours.weights[0], -ours.weights[1])
    np.testing.assert_array_equal(ours.predict(values), theirs.predict(values))


@settings(max_examples=25)
@given(st.integers(20, 200), st.integers(1, 40), st.integers(2, 6), st.floats(1e-4, 10), st.integers(0, 9))
def test_gradient_and_gap_are_what_they_are_called(rows: int, features: int, classes: int, c: float, seed: int) -> None:
    values, labels = correlated(rows, features, classes, seed)
    rough = fit_svm(values, labels, c, settings=SvmSettings(tolerance=1e-2, gap=1e-2))
    best = fit_svm(values, labels, c, settings=SvmSettings(tolerance=1e-6, gap=1e-7))
    reached = objectives(rough.augmented(), values, labels, c)
    optimum = objectives(best.augmented(), values, labels, c)
    assert np.all(reached - optimum <= (rough.gap + 1e-5) * reached)
    assert rough.objective == pytest.approx(reached[1] if classes == 2 else reached.sum(), rel=1e-5)
    at_zero = np.linalg.norm(gradients(np.zeros_like(rough.augmented()), values, labels, c), axis=1)
    positives = np.bincount(labels)
    shares = np.minimum(positives, rows - positives) / rows
    norms = np.linalg.norm(gradients(rough.augmented(), values, labels, c), axis=1) / at_zero / shares
    assert rough.gradient_norm == pytest.approx(norms.max(), rel=0.05, abs=1e-4)


def test_the_same_classifier_twice_and_from_other_memory(tmp_path: Path) -> None:
    values, labels = correlated(300, 50, 4)
    np.save(tmp_path / "features.npy", values)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    first = fit_svm(values, labels, 0.01)
    for again in (fit_svm(values.copy(), labels, 0.01), fit_svm(mapped, labels, 0.01)):
        np.testing.assert_array_equal(first.weights, again.weights)
        np.testing.assert_array_equal(first.bias, again.bias)


def test_halves_are_taken() -> None:
    values, labels = correlated(300, 50, 4)
    halves = values.astype(np.float16)
    whole = fit_svm(halves.astype(np.float32), labels, 0.01)
    np.testing.assert_array_equal(fit_svm(halves, labels, 0.01).weights, whole.weights)


def test_a_near_start_saves_work_and_changes_nothing_else() -> None:
    values, labels = correlated(500, 80, 4)
    cold = fit_svm(values, labels, 0.02, settings=EXACT)
    warm = fit_svm(values, labels, 0.02, start=fit_svm(values, labels, 0.018, settings=EXACT), settings=EXACT)
    assert warm.products < cold.products
    np.testing.assert_allclose(warm.weights, cold.weights, atol=1e-3 * np.abs(cold.weights).max())


def test_rows_that_are_not_kept_are_as_if_they_were_not_there() -> None:
    values, labels = correlated(400, 40, 4)
    kept = np.random.default_rng(1).random(400) < 0.6
    part = fit_svm(values[kept], labels[kept], 0.05, settings=EXACT)
    passed = fit_svm(values, labels, 0.05, kept=kept, settings=EXACT)
    assert passed.objective == pytest.approx(part.objective, rel=1e-6)
    np.testing.assert_allclose(passed.weights, part.weights, atol=1e-3 * np.abs(part.weights).max())


def test_the_sketch_saves_products() -> None:
    values, labels = correlated(2000, 200, 5)
    plain = fit_svm(values, labels, 0.01, settings=SvmSettings(rank=0))
    sketched = fit_svm(values, labels, 0.01, settings=SvmSettings(rank=32))
    assert plain.converged
    assert sketched.converged
    assert sketched.products < 0.7 * plain.products
    assert sketched.objective == pytest.approx(plain.objective, rel=2e-3)


def test_a_sketch_of_all_directions_is_the_inverse() -> None:
    values, _ = correlated(200, 11, 2)
    active = np.random.default_rng(0).random((200, 2)) < 0.5
    bits = np.random.Philox(0)
    vectors = np.random.default_rng(1).standard_normal((2, 12))
    found = Sketch(Rows(values), 12, 200, bits).preconditioner(0.3, active).applied(vectors, np.arange(2))
    ones = np.column_stack([values, np.ones(200)]).astype(np.float64)
    for number in range(2):
        part = ones[active[:, number]]
        expected = np.linalg.solve(np.eye(12) + 0.6 * part.T @ part, vectors[number])
        np.testing.assert_allclose(found[number], expected, rtol=1e-3, atol=1e-6)


@settings(max_examples=50)
@given(st.integers(1, 30), st.integers(0, 1000), st.floats(1e-3, 10))
def test_a_step_goes_to_where_the_objective_is_lowest(rows: int, seed: int, c: float) -> None:
    draw = np.random.default_rng(seed)
    ones = np.column_stack([draw.standard_normal((rows, 3)), np.ones(rows)])
    weights, margins = draw.standard_normal((1, 4)), 1 - draw.standard_normal((rows, 1))
    gradient = weights - 2 * c * np.maximum(margins, 0).T @ ones
    step = -gradient * draw.uniform(0.01, 3)
    rates = ones @ step.T

    def objective(length: float) -> float:
        losses = np.maximum(margins - length * rates, 0)
        return float(0.5 * np.sum((weights + length * step) ** 2) + c * np.sum(losses**2))

    found = float(step_length(weights, step, margins, rates, c)[0])
    lowest = min(objective(found * (1 + by)) for by in (-0.1, -0.01, 0.01, 0.1))
    assert objective(found) <= lowest + 1e-12 * abs(lowest)


def test_what_does_not_fit_is_refused() -> None:
    values, labels = correlated(40, 5, 4)
    with pytest.raises(ValueError, match=r"the labels are \[1\]; a classifier needs two"):
        fit_svm(values, np.ones(40, np.int64), 1.0)
    with pytest.raises(ValueError, match=r"40 rows have labels\[39\]"):
        fit_svm(values, labels[1:], 1.0)
    with pytest.raises(ValueError, match=r"c=0\.0; give a number above 0"):
        fit_svm(values, labels, 0.0)
    with pytest.raises(ValueError, match=r"features are float64\[40, 5\]; give float32"):
        fit_svm(values.astype(np.float64), labels, 1.0)
    with pytest.raises(ValueError, match=r"start has weights\[4, 5\], and here are 4 classes and 4 features"):
        fit_svm(values[:, :4].copy(), labels, 1.0, start=fit_svm(values, labels, 1.0))


def test_it_says_when_it_gave_up() -> None:
    values, labels = correlated(300, 50, 4)
    short = fit_svm(values, labels, 1.0, settings=SvmSettings(most_products=6, gap=1e-6))
    assert not short.converged
    assert short.gap > 1e-6


def test_scores_are_weights_and_bias() -> None:
    svm = LinearSvm(np.eye(3, dtype=np.float32), np.array([0, 0, 2.5], np.float32), 1.0, 0.0, 0.0, 0.0, 0, 0, True)
    features = np.array([[3, 1, 0], [0, 4, 1], [1, 0, 0]], np.float32)
    np.testing.assert_array_equal(svm.scores(features), features + np.array([0, 0, 2.5]))
    assert svm.predict(features).tolist() == [0, 1, 2]
