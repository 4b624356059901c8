"""Logistic regression agrees with scikit-learn's, and with its own conditions of optimality."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from training.evaluation.logistic import fit_logistic

Values = npt.NDArray[np.float64]


def _drawn(seed: int, rows: int = 400, features: int = 12, apart: float = 1.0) -> tuple[Values, npt.NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    x = random.exponential(size=(rows, features))
    x[:, 3] = x[:, 2] + 1e-3 * random.normal(size=rows)  # two that are nearly the same
    x[:, 5] = 0.0  # a dead one
    answers = x[:, 0] - x[:, 1] + random.logistic(size=rows) / apart > 0.2
    return x, answers


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_it_agrees_with_scikit_learn(c: float) -> None:
    x, answers = _drawn(1)
    ours = fit_logistic(x, answers, c)
    theirs = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x, answers)
    np.testing.assert_allclose(ours.weights, theirs.coef_[0], rtol=1e-3, atol=1e-4)
    assert ours.bias == pytest.approx(float(theirs.intercept_[0]), rel=1e-3, abs=1e-4)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))


@pytest.mark.parametrize("apart", [1.0, 1e6])
def test_the_gradient_vanishes_where_classes_lie_apart_too(apart: float) -> None:
    x, answers = _drawn(2, apart=apart)
    found = fit_logistic(x * 50, answers, 10.0)
    margins = 50 * x @ found.weights + found.bias
    errors = expit(margins) - answers
    assert np.abs(found.weights + 10 * 50 * x.T @ errors).max() < 1e-3
    assert abs(10 * errors.sum()) < 1e-4
    assert found.weights[5] == 0


def test_one_kind_of_answer_is_refused() -> None:
    x, answers = _drawn(3)
    for bad in (np.zeros_like(answers), np.ones_like(answers), answers[:-1]):
        with pytest.raises(ValueError, match="answers of both kinds"):
            fit_logistic(x, bad, 1.0)
