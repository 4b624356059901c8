"""A Newton step of many linear SVMs at once: its direction by conjugate gradients, its length exactly."""

import numpy as np
import numpy.typing as npt

from training.evaluation.rows import Rows
from training.evaluation.sketch import Preconditioner

Wide = npt.NDArray[np.float64]
"""float64[K, F + 1], a vector for each class, or float64[N, K], a value for each row and class."""

# Of the gradient, in the preconditioner's norm, that a direction may leave. Smaller costs more products than the steps
# that it saves: the active rows change with each step.
_LEFT = 0.1
_SEARCH_STEPS = 60
_SEARCH_PRECISION = 1e-7


def direction(
    rows: Rows,
    gradient: Wide,
    active: npt.NDArray[np.bool_],
    c: float,
    preconditioner: Preconditioner | None,
    most_products: int,
) -> tuple[Wide, Wide, int]:
    """Nearly -H^-1 g for each class, what the rows' scores change by along it, and the products that it took.

    H = I + 2C X^T A X of the class's active rows; all classes go through the features together. Whenever it ends, the
    objective falls along what it has.
    """
    vectors = np.zeros_like(gradient)
    changes = np.zeros(active.shape)
    left = -gradient
    smoothed = _smoothed(preconditioner, left, np.arange(len(gradient)))
    along = smoothed.copy()
    energy = _dots(left, smoothed)
    wanted = _LEFT**2 * energy
    open_classes, products = np.flatnonzero(energy > 0), 0
    while len(open_classes) and products < most_products:
        now = open_classes
        change, curved = rows.curvature(along[now], active[:, now])
        curved = along[now] + 2 * c * curved
        length = energy[now] / _dots(along[now], curved)
        vectors[now] += length[:, None] * along[now]
        changes[:, now] += change * length
        left[now] -= length[:, None] * curved
        smoothed = _smoothed(preconditioner, left[now], now)
        energy_now = _dots(left[now], smoothed)
        along[now] = smoothed + (energy_now / energy[now])[:, None] * along[now]
        energy[now] = energy_now
        open_classes = now[energy_now > wanted[now]]
        products += 1
    return vectors, changes, products


def step_length(vectors: Wide, steps: Wide, margins: Wide, rates: Wide, c: float) -> npt.NDArray[np.float64]:
    """float64[K]: how far each class's objective falls along its step, where its piecewise linear slope is zero.

    margins: 1 - y f of each row and class; rates: what of it a whole step takes.
    """
    tilt, stretch = _dots(vectors, steps), _dots(steps, steps)
    low, high = np.zeros(len(steps)), np.full(len(steps), np.inf)
    length = np.ones(len(steps))
    for _ in range(_SEARCH_STEPS):
        losses = margins - length * rates
        on = losses > 0
        slope = tilt + length * stretch - 2 * c * np.einsum("nk,nk,nk->k", on, losses, rates)
        bend = stretch + 2 * c * np.einsum("nk,nk,nk->k", on, rates, rates)
        low, high = np.where(slope <= 0, length, low), np.where(slope > 0, length, high)
        tried = length - slope / bend
        # Newton's step on the slope; where it leaves what is known to hold the zero, the middle.
        middle = np.where(np.isinf(high), 2 * length, (low + high) / 2)
        tried = np.where((tried >= low) & (tried <= high), tried, middle)
        near = np.abs(tried - length) <= _SEARCH_PRECISION * tried
        length = tried
        if near.all():
            break
    return length


def _smoothed(preconditioner: Preconditioner | None, vectors: Wide, classes: npt.NDArray[np.int64]) -> Wide:
    return vectors.copy() if preconditioner is None else preconditioner.applied(vectors, classes)


def _dots(ones: Wide, others: Wide) -> npt.NDArray[np.float64]:
    return np.asarray(np.einsum("kf,kf->k", ones, others))
