"""Exact nearest neighbours without all distances in memory: of features by matrix products, of codes by bits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Codes = npt.NDArray[np.uint64]
BLOCK_IMAGES = 1024
_QUERY_ROWS = 2048  # with a block of 1,024: 8 MB of distances
_ROW_BITS = 40


@dataclass(frozen=True)
class Nearest:
    """The k nearest of each query, nearest first.

    distances: float64[Q, k]; rows: int64[Q, k]
    """

    distances: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]


def relative(nearest: Nearest) -> npt.NDArray[np.float64]:
    """float64[Q]: the nearest's distance as a share of the last one's; 1 where all are equally near."""
    first, last = nearest.distances[:, 0], nearest.distances[:, -1]
    return np.divide(first, last, out=np.ones_like(first), where=last > 0)


def nearest_features(versions: Sequence[Tensor], blocks: Iterable[Tensor], k: int) -> Nearest:
    """The k rows of the blocks that are nearest to each query, by Euclidean distance.

    versions: a float32[Q, F] for each form in which a query may come, such as mirrored; the nearest one counts
    blocks: float32[B, F] each, numbered on from 0; one is in memory at a time

    Distances come from |a|^2 - 2 a.b + |b|^2 in float32: exact to about 0.001 of the vectors' length, so means are
    best taken out of the features first.

    Raises:
        ValueError: the blocks have fewer than k rows in all.
    """
    squares = [version.square().sum(dim=1) for version in versions]
    queries, device = len(versions[0]), versions[0].device
    best = torch.full((queries, k), torch.inf, device=device)
    rows = torch.full((queries, k), -1, dtype=torch.int64, device=device)
    first = 0
    for block in blocks:
        lengths = block.square().sum(dim=1)
        numbers = torch.arange(first, first + len(block), device=device)
        for start in range(0, queries, _QUERY_ROWS):
            here = slice(start, start + _QUERY_ROWS)
            found: Tensor | None = None
            for version, square in zip(versions, squares, strict=True):
                # beta * (|a|^2 + |b|^2) + alpha * a.b, written once
                distances = torch.addmm(square[here, None] + lengths, version[here], block.T, alpha=-2)
                found = distances if found is None else torch.minimum(found, distances, out=found)
            assert found is not None
            near, places = found.topk(min(k, len(block)), dim=1, largest=False)
            joined = torch.cat([best[here], near], dim=1)
            best[here], order = joined.topk(k, dim=1, largest=False, sorted=True)
            rows[here] = torch.cat([rows[here], numbers[places]], dim=1).gather(1, order)
        first += len(block)
    _check(first, k)
    return Nearest(best.clamp_(min=0).sqrt_().double().cpu().numpy(), rows.cpu().numpy())


def nearest_codes(versions: Sequence[Codes], codes: Codes, k: int) -> Nearest:
    """The k codes that are nearest to each query, by Hamming distance; of those as near the one with the lowest row.

    versions: a uint64[Q, W] for each form in which a query may come; the nearest one counts
    codes: uint64[N, W]

    Raises:
        ValueError: there are fewer than k codes.
    """
    _check(len(codes), k)
    queries = len(versions[0])
    best = np.full((queries, k), np.iinfo(np.int64).max)
    for first in range(0, len(codes), BLOCK_IMAGES):
        block = codes[first : first + BLOCK_IMAGES]
        numbers = np.arange(first, first + len(block))
        for start in range(0, queries, _QUERY_ROWS):
            here = slice(start, start + _QUERY_ROWS)
            bits = np.minimum.reduce([_bits(version[here], block) for version in versions])
            # Distance and row in one number, so that what is kept doesn't hang on how ties are sorted.
            keys = np.concatenate([best[here], (bits.astype(np.int64) << _ROW_BITS) | numbers], axis=1)
            keys.partition(k - 1, axis=1)
            best[here] = keys[:, :k]
    best.sort(axis=1)
    return Nearest((best >> _ROW_BITS).astype(np.float64), best & ((1 << _ROW_BITS) - 1))


def _bits(first: Codes, second: Codes) -> npt.NDArray[np.uint16]:
    """uint16[A, B]: in how many bits each of the first differs from each of the second."""
    bits = np.zeros((len(first), len(second)), np.uint16)
    for word in range(first.shape[1]):
        bits += np.bitwise_count(first[:, word, None] ^ second[None, :, word])
    return bits


def _check(rows: int, k: int) -> None:
    if rows < k:
        raise ValueError(f"{rows} images are fewer than the {k} nearest that were asked for; ask for fewer")
