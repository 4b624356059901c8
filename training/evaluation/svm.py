"""A linear support vector machine with squared hinge, one against rest, for more features than liblinear can take.

liblinear holds features as sparse float64, 16 bytes a value: 60,000 x 28,672 would be 27 GB.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from training.draws import Stream, philox
from training.evaluation import newton
from training.evaluation.newton import Wide
from training.evaluation.rows import Floats, Rows
from training.evaluation.sketch import Sketch

# What a step has to win of the objective: below it the sums' own rounding is all that is left.
_STALLED = 1e-10


class SvmSettings(BaseModel):
    """When the fit of a linear SVM has converged, and what makes it fast."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tolerance: float = Field(
        1e-3, gt=0, description="Gradient, as liblinear's rule measures it, at which a class is done"
    )
    gap: float = Field(1e-2, gt=0, description="Duality gap, as a part of the objective, at which a class is done")
    most_products: int = Field(2000, ge=1, description="Products with all features after which the fit gives up")
    rank: int = Field(256, ge=0, description="Leading directions of the features that the preconditioner knows")
    sketch_rows: int = Field(4096, ge=1, description="Rows that the preconditioner is made from")


@dataclass(frozen=True)
class LinearSvm:
    """A classifier, and how near its fit came to the optimum.

    weights: float32[classes, F], bias: float32[classes]
    objective: sum over classes of 0.5 (|w|^2 + b^2) + C sum max(0, 1 - y f)^2; of two classes, whose weights mirror
        each other, that of one
    gradient_norm: |gradient| / (|gradient at 0| min(positives, negatives) / N), the largest of the classes: liblinear
        stops where this is at most its tolerance
    gap: duality gap of alpha = 2C max(0, 1 - y f), as a part of the objective, the largest of the classes: no
        classifier is better by more than this
    iterations: Newton steps; products: readings of all features, to multiply them and to gather
    converged: whether gradient and gap are what the settings ask for
    """

    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    c: float
    objective: float
    gradient_norm: float
    gap: float
    iterations: int
    products: int
    converged: bool

    def scores(self, features: Floats) -> npt.NDArray[np.float32]:
        """float32[N, classes] of features: float32[N, F]."""
        return Rows(features).times(self.augmented())

    def predict(self, features: Floats) -> npt.NDArray[np.int64]:
        """int64[N], the class of the highest score, of features: float32[N, F]."""
        return np.asarray(self.scores(features).argmax(axis=1), np.int64)

    def augmented(self) -> Wide:
        """float64[classes, F + 1]: the weights, with the bias at their end."""
        return np.column_stack([self.weights, self.bias]).astype(np.float64)


@dataclass(frozen=True)
class _State:
    """Where a fit stands. gradient: float64[K, F + 1]; the rest float64[K]."""

    gradient: Wide
    objective: npt.NDArray[np.float64]
    norm: npt.NDArray[np.float64]
    gap: npt.NDArray[np.float64]


_DEFAULT = SvmSettings()


def fit_svm(
    features: Floats,
    labels: npt.NDArray[np.int64],
    c: float,
    *,
    start: LinearSvm | None = None,
    kept: npt.NDArray[np.bool_] | None = None,
    settings: SvmSettings = _DEFAULT,
    say: Callable[[str], None] | None = None,
) -> LinearSvm:
    """The classifier of each class against the rest: liblinear's L2-regularised L2-loss problem in the primal.

    The intercept is a feature that is always 1, regularised too, as liblinear has it with intercept_scaling 1. The
    same input gives the same classifier; another number of threads may change its last digits.

    features: float32[N, F], or float16, or a memory map of either; read a block of rows at a time, never copied whole
    labels: int64[N], 0 .. classes - 1
    start: the classifier of another C, from which to begin
    kept: bool[N], the rows to fit on, where it isn't all: others are passed over, so that no part has to be copied

    Raises:
        ValueError: the arrays don't fit each other, or there is one class only.

    Source: Keerthi and DeCoste 2005, with conjugate gradients preconditioned by a sketch of the features.
    """
    kept = np.ones(len(features), bool) if kept is None else kept
    rows, count = Rows(features), _checked(features, labels, kept, c, start)
    # Of two classes the first is the second's mirror.
    fitted = np.arange(count) if count > 2 else np.array([1])
    signs = np.where(labels[:, None] == fitted, np.float32(1), np.float32(-1)) * kept[:, None]
    positives, members = np.count_nonzero(signs > 0, axis=0), np.count_nonzero(kept)
    shares = np.maximum(np.minimum(positives, members - positives), 1) / members
    at_zero = np.linalg.norm(2 * c * rows.gathered(signs), axis=1) * shares
    vectors = np.zeros((len(fitted), rows.width))
    # Of a row that isn't kept the margin stays where nothing is lost.
    margins = np.where(kept[:, None], np.ones(signs.shape), -1.0)
    products, iterations = 1, 0
    if start is not None:
        vectors = start.augmented()[fitted]
        margins -= signs * rows.times(vectors)
        products += 1
    sketch = None
    stalled = np.zeros(len(fitted), bool)
    while True:
        state = _state(rows, vectors, margins, signs, c, at_zero)
        products += 1
        done = (state.norm <= settings.tolerance) & (state.gap <= settings.gap)
        if say is not None:
            say(f"svm: step {iterations}, {products} readings, gradient {state.norm.max():.1e}, {done.sum()} done")
        now = np.flatnonzero(~done & ~stalled)
        if not len(now) or products >= settings.most_products:
            break
        if sketch is None and settings.rank:
            sketch = Sketch(rows, settings.rank, settings.sketch_rows, philox(0, Stream.FEATURES))
        active = margins[:, now] > 0
        preconditioner = None if sketch is None else sketch.preconditioner(c, active)
        left = settings.most_products - products
        steps, changes, used = newton.direction(rows, state.gradient[now], active, c, preconditioner, left)
        rates = signs[:, now] * changes
        lengths = newton.step_length(vectors[now], steps, margins[:, now], rates, c)
        vectors[now] += lengths[:, None] * steps
        margins[:, now] -= lengths * rates
        fall = -lengths * np.einsum("kf,kf->k", steps, state.gradient[now]) / 2
        stalled[now] = fall <= _STALLED * state.objective[now]
        products, iterations = products + used, iterations + 1
    if count == 2:
        vectors = np.concatenate([-vectors, vectors])
    return LinearSvm(
        weights=vectors[:, :-1].astype(np.float32),
        bias=vectors[:, -1].astype(np.float32),
        c=c,
        objective=float(state.objective.sum()),
        gradient_norm=float(state.norm.max()),
        gap=float(state.gap.max()),
        iterations=iterations,
        products=products,
        converged=bool(done.all()),
    )


def _state(
    rows: Rows, vectors: Wide, margins: Wide, signs: npt.NDArray[np.float32], c: float, at_zero: npt.NDArray[np.float64]
) -> _State:
    losses = np.maximum(margins, 0)
    gradient = vectors - 2 * c * rows.gathered((signs * losses).astype(np.float32))
    objective = 0.5 * np.einsum("kf,kf->k", vectors, vectors) + c * np.einsum("nk,nk->k", losses, losses)
    size = np.linalg.norm(gradient, axis=1)
    # With alpha = 2C max(0, 1 - y f) the dual's own weights are w - gradient, and the gap comes out as this.
    return _State(gradient, objective, size / np.maximum(at_zero, 1e-300), 0.5 * size**2 / objective)


def _checked(
    features: Floats, labels: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_], c: float, start: LinearSvm | None
) -> int:
    """The number of classes, after a check of what was given."""
    if labels.shape != (len(features),) or kept.shape != labels.shape:
        raise ValueError(f"{len(features)} rows have labels{list(labels.shape)}, kept{list(kept.shape)}; give one each")
    if not 0 < c < np.inf:
        raise ValueError(f"c={c}; give a number above 0")
    present = np.unique(labels[kept])
    if len(present) < 2 or labels.min() < 0:
        raise ValueError(f"the labels are {present.tolist()}; a classifier needs two classes of 0, 1, 2 ...")
    count = int(labels.max()) + 1
    if start is not None and start.weights.shape != (count, features.shape[1]):
        raise ValueError(
            f"start has weights{list(start.weights.shape)}, and here are {count} classes and {features.shape[1]} "
            "features; start from a fit of the same features"
        )
    return count
