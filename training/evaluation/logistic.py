"""Logistic regression: which side of a question some features speak for, and how much each."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_TOLERANCE = 1e-8  # of the gradient's norm, against that at the start
_MOST_STEPS = 100


class Logistic(NamedTuple):
    """log(p / (1 - p)) = weights . features + bias."""

    weights: Values
    bias: float

    def predict(self, features: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """features: float[N, F] -> bool[N], whether p is over a half."""
        return np.asarray(features @ self.weights + self.bias > 0)


def fit_logistic(features: npt.NDArray[np.floating], answers: npt.NDArray[np.bool_], c: float) -> Logistic:
    """The minimum of 0.5 * |weights|^2 + C * sum(log(1 + exp(-y f))), by Newton's method; the bias is free.

    features: float[N, F]; answers: bool[N], of both kinds; c: as scikit-learn's and liblinear's C.

    Raises:
        ValueError: all answers are the same, or features and answers differ in number.
    """
    if len(features) != len(answers) or answers.all() or not answers.any():
        raise ValueError(
            f"{len(features)} rows of features with {int(answers.sum())} of {len(answers)} answers yes can't be "
            "fitted; give a row for each answer, and answers of both kinds"
        )
    x = np.concatenate([features.astype(np.float64), np.ones((len(features), 1))], axis=1)
    signs, penalty = np.where(answers, 1.0, -1.0), np.append(np.ones(features.shape[1]), 0.0)
    w = np.zeros(x.shape[1])
    loss, gradient, curvature = _at(x, signs, w, penalty, c)
    least = _TOLERANCE * float(np.linalg.norm(gradient))
    for _ in range(_MOST_STEPS):
        if np.linalg.norm(gradient) <= least:
            break
        hessian = c * (x * curvature[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        # Far from the minimum the whole step may overshoot; the least one is lost in the loss's own rounding.
        while _at(x, signs, w - size * step, penalty, c)[0] > loss and size > 1e-6:
            size /= 2
        w = w - size * step
        loss, gradient, curvature = _at(x, signs, w, penalty, c)
    return Logistic(w[:-1], float(w[-1]))


def _at(x: Values, signs: Values, w: Values, penalty: Values, c: float) -> tuple[float, Values, Values]:
    """The loss, its gradient, and the curvature of each row's part."""
    margins = signs * (x @ w)
    wrong = np.exp(-np.logaddexp(0.0, margins))  # 1 / (1 + exp(margin)), for margins of any size
    loss = 0.5 * float(w @ (penalty * w)) + c * float(np.logaddexp(0.0, -margins).sum())
    return loss, penalty * w - c * x.T @ (signs * wrong), wrong * (1 - wrong)
