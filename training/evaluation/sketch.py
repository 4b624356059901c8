"""The directions in which features vary most, from a sample of the rows: what makes conjugate gradients fast."""

import numpy as np
import numpy.typing as npt

from training.evaluation.rows import Rows

_POWERS = 2


class Sketch:
    """The leading directions of the features, and where a sample of the rows lies along them.

    A class's Hessian is I + 2C X^T A X, A its active rows. Along the leading directions it is taken as the sample has
    it; across them, as a multiple of I: the size of the smallest of the leading ones.
    """

    def __init__(self, rows: Rows, rank: int, sample_rows: int, bits: np.random.Philox) -> None:
        sample = rows.thinned(sample_rows)
        rank = max(1, min(rank, sample.count // 16, rows.width))
        self._step = -(-rows.count // sample_rows)
        draws = np.random.Generator(bits).standard_normal((rank, rows.width))
        for _ in range(_POWERS):
            draws = np.ascontiguousarray(np.linalg.qr(sample.gathered(sample.times(draws)).T)[0].T)
        self._directions = draws
        self._places = sample.times(draws).astype(np.float64)
        self._scale = rows.count / sample.count

    def preconditioner(self, c: float, active: npt.NDArray[np.bool_]) -> "Preconditioner":
        """The preconditioner of each class, of its active rows: bool[N, K]."""
        inverses, across = [], []
        for of_class in active[:: self._step].T:
            places = self._places[of_class]
            values, axes = np.linalg.eigh(2 * c * self._scale * places.T @ places)
            values = 1 + np.maximum(values, 0)
            inverses.append((axes / values) @ axes.T)
            across.append(values[0])
        return Preconditioner(self._directions, np.stack(inverses), np.array(across))


class Preconditioner:
    """Approximate inverses of the classes' Hessians."""

    def __init__(
        self,
        directions: npt.NDArray[np.float64],
        inverses: npt.NDArray[np.float64],
        across: npt.NDArray[np.float64],
    ) -> None:
        self._directions, self._inverses, self._across = directions, inverses, across

    def applied(self, vectors: npt.NDArray[np.float64], classes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The inverse of each class's Hessian, nearly, times its vector: float64[K, F + 1]."""
        along = vectors @ self._directions.T
        across = self._across[classes, None]
        inside = np.einsum("kij,kj->ki", self._inverses[classes], along)
        return np.asarray(vectors / across + (inside - along / across) @ self._directions)
