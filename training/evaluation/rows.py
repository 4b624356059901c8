"""Products of a tall feature matrix with a few vectors at once, a block of rows at a time: nothing is copied whole."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.floating]

# 4 to 30 MB of features: both products of a block find it in the cache. Measured at 28,672 features: 64 to 1,024 rows
# differ by 10 %.
_BLOCK_BYTES = 16 << 20


class Rows:
    """The rows of a feature matrix, each with a 1 at its end for the intercept; the 1 is never stored.

    features: float32 or float16[N, F]; a memory map is read a block at a time. Vectors are float64[K, F + 1].
    """

    def __init__(self, features: Floats) -> None:
        if features.ndim != 2 or features.dtype not in (np.float32, np.float16) or not len(features):
            raise ValueError(
                f"features are {features.dtype}{list(features.shape)}; give float32 or float16[N, F], N > 0"
            )
        self.features = features
        self.count, self.width = features.shape[0], features.shape[1] + 1
        self._block_rows = max(64, _BLOCK_BYTES // (4 * features.shape[1]))

    def thinned(self, most: int) -> "Rows":
        """Every n-th row, as a view: n the smallest that leaves no more than `most`."""
        return Rows(self.features[:: -(-self.count // most)])

    def times(self, vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """X V: float32[N, K]."""
        weights, bias = _split(vectors)
        products = np.empty((self.count, len(vectors)), np.float32)
        for first, block in self._blocks():
            products[first : first + len(block)] = (block @ weights + bias).numpy()
        return products

    def gathered(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """X^T C: float64[K, F + 1] of float32[N, K]."""
        sums = _Sums(values.shape[1], self.width)
        for first, block in self._blocks():
            sums.add(block, torch.from_numpy(values[first : first + len(block)]))
        return sums.array()

    def curvature(
        self, vectors: npt.NDArray[np.float64], active: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """X V, and X^T A X V where A keeps the rows that are active for each vector: bool[N, K]. One reading of X."""
        weights, bias = _split(vectors)
        products = np.empty(active.shape, np.float32)
        sums = _Sums(len(vectors), self.width)
        for first, block in self._blocks():
            there = slice(first, first + len(block))
            product = block @ weights + bias
            products[there] = product.numpy()
            sums.add(block, product * torch.from_numpy(active[there]))
        return products, sums.array()

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        for first in range(0, self.count, self._block_rows):
            block = self.features[first : first + self._block_rows].astype(np.float32, copy=False)
            # torch warns of memory that it may not write, as a memory map's is.
            yield first, torch.from_numpy(block if block.flags.writeable else block.copy())


class _Sums:
    # Blocks are summed in float64: over 60,000 rows float32 would lose the digits that tell when to stop.
    def __init__(self, vectors: int, width: int) -> None:
        self._sums = torch.zeros(width - 1, vectors, dtype=torch.float64)
        self._last = torch.zeros(vectors, dtype=torch.float64)

    def add(self, block: Tensor, values: Tensor) -> None:
        self._sums += block.T @ values
        self._last += values.sum(dim=0, dtype=torch.float64)

    def array(self) -> npt.NDArray[np.float64]:
        return torch.cat([self._sums.T, self._last[:, None]], dim=1).numpy()


def _split(vectors: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    halves = torch.from_numpy(vectors.astype(np.float32))
    return halves[:, :-1].T.contiguous(), halves[:, -1].clone()
