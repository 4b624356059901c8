"""Who is joined with whom: a forest over rows, in which each pair that is the same joins two trees."""

import numba
import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def roots(parents: Rows) -> Rows:
    """The root of each row, int64[N]: the smallest row that it is joined with."""
    return np.asarray(_roots(parents), np.int64)


def join(parents: Rows, first: Rows, second: Rows) -> None:
    """Join the rows of each pair, in place."""
    _join(parents, first, second)


def apart(parents: Rows, first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
    """Whether the rows of each pair are not joined yet, bool[P]."""
    return np.asarray(_apart(parents, first, second), np.bool_)


def needed(parents: Rows, first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
    """Which pairs, taken in turn, would each join two trees if they and those before them did, bool[P]."""
    return np.asarray(_needed(parents, first, second), np.bool_)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _root(parents: Rows, row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _roots(parents: Rows) -> Rows:
    found = np.empty_like(parents)
    for row in range(len(parents)):
        found[row] = _root(parents, row)
    return found


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _join(parents: Rows, first: Rows, second: Rows) -> None:
    for pair in range(len(first)):
        one, other = _root(parents, first[pair]), _root(parents, second[pair])
        parents[max(one, other)] = min(one, other)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _apart(parents: Rows, first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
    found = np.empty(len(first), np.bool_)
    for pair in range(len(first)):
        found[pair] = _root(parents, first[pair]) != _root(parents, second[pair])
    return found


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _needed(parents: Rows, first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
    found = np.empty(len(first), np.bool_)
    # Joined for a try: what was written over is put back at the end. Paths are left as they are meanwhile.
    changed = np.empty(len(first), np.int64)
    count = 0
    for pair in range(len(first)):
        one, other = first[pair], second[pair]
        while parents[one] != one:
            one = parents[one]
        while parents[other] != other:
            other = parents[other]
        found[pair] = one != other
        if one != other:
            changed[count] = max(one, other)
            parents[max(one, other)] = min(one, other)
            count += 1
    for row in changed[:count]:
        parents[row] = row
    return found
