"""Codes in the order of their keys, and the compiled loop that compares each with the codes of keys near its own."""

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba.extending import intrinsic

_LONG = 24  # from so many candidates on it pays to ask first whether any is near

Codes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Places = npt.NDArray[np.uint32]


class Ordered(NamedTuple):
    """Codes in the order of their keys: the codes of key k are at the places starts[k] .. starts[k + 1]."""

    words: tuple[Codes, ...]  # uint64[N] each
    rows: Places
    starts: Places


def order(codes: Codes, bits: Rows) -> Ordered:
    """The codes, uint64[N, W], ordered by the keys that these bits make: bit p of a key is the code's bit bits[p]."""
    words, rows, starts = _order(codes, bits)
    return Ordered(tuple(words), rows, starts)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _order(codes: Codes, bits: Rows) -> tuple[Codes, Places, Places]:
    """Words, uint64[W, N], and rows in the order of the keys; and where each key starts."""
    keys = np.zeros(len(codes), np.uint32)
    for block in range(0, len(codes), 4096):  # small enough to stay near the processor while all bits are taken
        stop = min(block + 4096, len(codes))
        for place in range(len(bits)):
            word, bit = bits[place] // 64, np.uint64(bits[place] % 64)
            for row in range(block, stop):
                keys[row] |= np.uint32((codes[row, word] >> bit) & np.uint64(1)) << np.uint32(place)
    starts = np.zeros((1 << len(bits)) + 1, np.uint32)
    for key in keys:
        starts[key + 1] += 1
    starts[:] = np.cumsum(starts)
    free = starts[:-1].copy()
    words = np.empty((codes.shape[1], len(codes)), np.uint64)
    rows = np.empty(len(codes), np.uint32)
    for row in range(len(codes)):
        place = free[keys[row]]
        free[keys[row]] += 1
        rows[place] = row
        for word in range(codes.shape[1]):
            words[word, place] = codes[row, word]
    return words, rows, starts


@intrinsic  # type: ignore[untyped-decorator]
def _ones(typing_context: Any, word: Any) -> Any:
    """How many bits are set, as the processor's own instruction, or the vector form of it where it has one."""
    return word(word), lambda _context, builder, _signature, arguments: builder.ctpop(arguments[0])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _differ(words: tuple[Codes, ...], row: int, others: tuple[Codes, ...], other: int) -> tuple[np.uint64, np.uint64]:
    """The bits in which two codes differ; of a code of one word the second is 0."""
    if len(words) == 1:  # decided when compiled
        return words[0][row] ^ others[0][other], np.uint64(0)
    return words[0][row] ^ others[0][other], words[1][row] ^ others[1][other]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _any_near(
    words: tuple[Codes, ...], row: int, others: tuple[Codes, ...], start: int, stop: int, radius: int
) -> bool:
    near = 0
    for other in range(start, stop):  # without a jump, so that the compiler compares several at once
        low, high = _differ(words, row, others, other)
        near += _ones(low) + _ones(high) <= radius
    return near > 0


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def scan(
    left: Ordered,
    right: Ordered,
    turns: Rows,
    masks: Codes,
    flips: Codes,
    radius: np.uint64,
    within: bool,
    position: int,
    stop: int,
    chunk_pairs: int,
) -> tuple[int, Rows, Rows, npt.NDArray[np.uint8]]:
    """The pairs of the left codes from `position` on, until there are `chunk_pairs`; and where to go on.

    turns: what to XOR a key with to get the keys to look up
    masks, flips: the bits of each band already searched, uint64[B, 2], and in how many of them its finds may differ
    """
    first, second = np.empty(1024, np.int64), np.empty(1024, np.int64)
    distance = np.empty(1024, np.uint8)
    count = 0
    key = np.searchsorted(left.starts, position, "right") - 1
    while position < stop and count < chunk_pairs:
        while position >= left.starts[key + 1]:
            key += 1
        for turn in turns:
            other = key ^ turn
            if within and other < key:
                continue  # found from the other side
            start = position + 1 if within and turn == 0 else np.int64(right.starts[other])
            end = np.int64(right.starts[other + 1])
            if end - start >= _LONG and not _any_near(left.words, position, right.words, start, end, radius):
                continue
            for place in range(start, end):
                low, high = _differ(left.words, position, right.words, place)
                apart = _ones(low) + _ones(high)
                if apart > radius:
                    continue
                found_before = False
                for band in range(len(masks)):
                    if _ones(low & masks[band, 0]) + _ones(high & masks[band, 1]) <= flips[band]:
                        found_before = True
                        break
                if found_before:
                    continue
                if count == len(first):
                    first, second = np.append(first, np.empty_like(first)), np.append(second, np.empty_like(second))
                    distance = np.append(distance, np.empty_like(distance))
                row, other_row = np.int64(left.rows[position]), np.int64(right.rows[place])
                if within and other_row < row:
                    row, other_row = other_row, row
                first[count], second[count], distance[count] = row, other_row, apart
                count += 1
        position += 1
    return position, first[:count].copy(), second[:count].copy(), distance[:count].copy()
