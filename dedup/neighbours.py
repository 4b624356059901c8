"""All pairs of codes within a Hamming radius, exactly, without comparing all with all.

Codes are cut into bands. Two codes that differ in at most `radius` bits differ, by the pigeonhole principle, in at most
radius // bands bits of some band; with more than radius / 2 bands that is one bit or none. So candidates are looked up
by each band's bits as they are and with each one bit flipped (Norouzi, Punjani, Fleet 2012, multi-index hashing).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from manifests.schema import CODE_BITS

MOST_RADIUS = 24
"""Beyond it bands grow so narrow that each code has most others as candidates, and pairs rarely show one picture."""

_BRUTE_CODES = 1500
_LEAST_BANDS = 8  # so that a key has 16 bits at most
_CHUNK_PAIRS = 1 << 21
_SAMPLED_CODES = 20_000

Codes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows: first: int64[P], second: int64[P], distance: uint8[P] in bits."""

    first: Rows
    second: Rows
    distance: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.first)


def pairs_within(codes: Codes, radius: int, looks: Codes | None = None) -> Pairs:
    """All pairs of rows within the radius, first < second, sorted by first and then second; repeats are chained.

    codes: uint64[N, 2]
    looks: uint64[N, L] or None; what a verdict asks of a row besides its code, such as its pHashes

    Rows that repeat an earlier row's code (and looks) bit for bit appear in one pair only, with the first such row, at
    distance 0: what holds of that row holds of them. All other pairs are between such first rows. So ten thousand
    copies of an image are 9,999 pairs, and the groups that pairs connect are the same as if all were listed.

    Raises ValueError where the radius is not in 0..24 or the arrays do not fit together.
    """
    return _sorted(list(stream_pairs_within(codes, radius, looks)))


def stream_pairs_within(
    codes: Codes, radius: int, looks: Codes | None = None, chunk_pairs: int = _CHUNK_PAIRS
) -> Iterator[Pairs]:
    """The pairs of `pairs_within`, in no order, in chunks of about `chunk_pairs`, so that memory stays bounded."""
    _check(codes, radius)
    if looks is not None and len(looks) != len(codes):
        raise ValueError(f"{len(looks)} looks are not one for each of {len(codes)} codes; pass both from the same rows")
    rows, first_like_it = _repeats(codes if looks is None else np.concatenate([codes, looks], axis=1))
    repeats = np.flatnonzero(first_like_it != np.arange(len(codes)))
    if len(repeats):
        yield Pairs(first_like_it[repeats], repeats, np.zeros(len(repeats), np.uint8))
    for found in _search(codes[rows], None, radius, chunk_pairs):
        yield Pairs(
            np.minimum(rows[found.first], rows[found.second]),
            np.maximum(rows[found.first], rows[found.second]),
            found.distance,
        )


def pairs_between(queries: Codes, codes: Codes, radius: int) -> Pairs:
    """All pairs of a query (first) and a code (second) within the radius, sorted; none is left out or chained.

    queries: uint64[Q, 2]; codes: uint64[N, 2]

    Raises ValueError where the radius is not in 0..24 or an array is no codes.
    """
    _check(queries, radius)
    _check(codes, radius)
    return _sorted(list(_search(queries, codes, radius, _CHUNK_PAIRS)))


def distances(codes: Codes, first: Rows, second: Rows) -> npt.NDArray[np.uint8]:
    """The Hamming distance of each pair of rows, uint8[P], in bits."""
    return np.asarray(np.bitwise_count(codes[first] ^ codes[second]).sum(axis=1), np.uint8)


def _repeats(rows: Codes) -> tuple[Rows, Rows]:
    """The first of each set of equal rows, ascending; and for every row, the first that equals it."""
    if not len(rows):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.lexsort(rows.T)  # stable: of equal rows the first comes first
    starts = np.concatenate([[True], (rows[order][1:] != rows[order][:-1]).any(axis=1)])
    first_like_it = np.empty(len(rows), np.int64)
    first_like_it[order] = order[starts][np.cumsum(starts) - 1]
    return np.sort(order[starts]), first_like_it


def _search(left: Codes, right: Codes | None, radius: int, chunk_pairs: int) -> Iterator[Pairs]:
    """Pairs of a left and a right row within the radius; with right None, pairs of two left rows, each pair once."""
    within = right is None
    right = left if right is None else right
    if not len(left) or not len(right):
        return
    small = len(left) * len(right) <= _BRUTE_CODES**2
    bands = [[]] if small else _bands(right, max(_LEAST_BANDS, radius // 2 + 1))
    flips = radius // len(bands) if not small else 0
    masks = np.array([_mask(band) for band in bands], np.uint64)
    for number, band in enumerate(bands):
        left_rows, left_keys = _by_key(left, band)
        right_rows, right_keys = (left_rows, left_keys) if within else _by_key(right, band)
        left_codes, right_codes = left[left_rows], right[right_rows]
        starts = np.searchsorted(right_keys, np.arange((1 << len(band)) + 1))
        probes = np.array([0] + [1 << place for place in range(len(band) * flips)], np.int64)
        position = 0
        while position < len(left):
            position, first, second, distance = _scan(
                left_codes,
                left_keys,
                right_codes,
                starts,
                probes,
                masks[:number],
                flips,
                radius,
                within,
                position,
                chunk_pairs,
            )
            if len(first):
                yield Pairs(left_rows[first], right_rows[second], distance)


def _bands(codes: Codes, count: int) -> list[list[int]]:
    """Which bits stand in which band. Any choice finds the same pairs; bits that go together are kept apart.

    Bits that say the same, or always the same, put many codes under few keys, and every code there is a candidate.
    """
    sample = codes[:: max(1, len(codes) // _SAMPLED_CODES)]
    signs = _bits(sample).astype(np.float32) * 2 - 1
    # How much oftener than chance two codes agree on bits i and j at once grows with the square of the mean of s_i s_j.
    together = np.square(signs.T @ signs / len(sample))
    bands: list[list[int]] = [[] for _ in range(count)]
    room = [len(part) for part in np.array_split(np.arange(CODE_BITS), count)]
    for bit in np.argsort(-together.sum(axis=1), kind="stable").tolist():
        open_bands = [number for number in range(count) if len(bands[number]) < room[number]]
        least = min(open_bands, key=lambda number: (float(together[bit, bands[number]].sum()), number))
        bands[least].append(bit)
    return bands


def _mask(band: list[int]) -> list[int]:
    return [sum(1 << bit % 64 for bit in band if bit // 64 == word) for word in (0, 1)]


def _bits(codes: Codes) -> npt.NDArray[np.uint8]:
    return np.unpackbits(codes.astype("<u8").view(np.uint8), axis=1, bitorder="little")


def _by_key(codes: Codes, band: list[int]) -> tuple[Rows, npt.NDArray[np.uint16]]:
    """Rows ordered by the bits that the code has in the band, and those bits as a number."""
    keys = np.zeros(len(codes), np.uint16)
    for place, bit in enumerate(band):
        keys |= (codes[:, bit // 64] >> np.uint64(bit % 64) & np.uint64(1)).astype(np.uint16) << np.uint16(place)
    rows = np.argsort(keys, kind="stable")
    return rows, keys[rows]


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _ones(word: np.uint64) -> np.uint64:
    """How many bits are set; the compiler makes one instruction of it."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _scan(
    left_codes: Codes,
    left_keys: npt.NDArray[np.uint16],
    right_codes: Codes,
    starts: Rows,
    probes: Rows,
    masks: Codes,
    flips: int,
    radius: int,
    within: bool,
    position: int,
    chunk_pairs: int,
) -> tuple[int, Rows, Rows, npt.NDArray[np.uint8]]:
    """The pairs of the left codes from `position` on, until there are `chunk_pairs`; and where to go on.

    left_codes, right_codes: ordered by their key in this band; the right codes of key k are starts[k] .. starts[k + 1]
    masks: uint64[B, 2], the bits of the bands already done, which reported the pairs that they could find
    """
    first, second = np.empty(1024, np.int64), np.empty(1024, np.int64)
    distance = np.empty(1024, np.uint8)
    count = 0
    while position < len(left_codes) and count < chunk_pairs:
        key = np.int64(left_keys[position])
        low, high = left_codes[position, 0], left_codes[position, 1]
        for probe in probes:
            other = key ^ probe
            if within and other < key:
                continue  # found from the other side
            start = position + 1 if within and probe == 0 else starts[other]
            for place in range(start, starts[other + 1]):
                low_differs, high_differs = low ^ right_codes[place, 0], high ^ right_codes[place, 1]
                bits = _ones(low_differs) + _ones(high_differs)
                if bits > radius:
                    continue
                found_before = False
                for mask in masks:
                    if _ones(low_differs & mask[0]) + _ones(high_differs & mask[1]) <= flips:
                        found_before = True
                        break
                if found_before:
                    continue
                if count == len(first):
                    first, second = np.append(first, np.empty_like(first)), np.append(second, np.empty_like(second))
                    distance = np.append(distance, np.empty_like(distance))
                first[count], second[count], distance[count] = position, place, bits
                count += 1
        position += 1
    return position, first[:count].copy(), second[:count].copy(), distance[:count].copy()


def _sorted(chunks: list[Pairs]) -> Pairs:
    first = np.concatenate([np.empty(0, np.int64), *(chunk.first for chunk in chunks)])
    second = np.concatenate([np.empty(0, np.int64), *(chunk.second for chunk in chunks)])
    distance = np.concatenate([np.empty(0, np.uint8), *(chunk.distance for chunk in chunks)])
    order = np.lexsort([second, first])
    return Pairs(first[order], second[order], distance[order])


def _check(codes: Codes, radius: int) -> None:
    if codes.dtype != np.uint64 or codes.ndim != 2 or codes.shape[1] != CODE_BITS // 64:
        raise ValueError(
            f"codes are {codes.dtype}{list(codes.shape)}, not uint64[N, 2]; pass what encode or unpack returned"
        )
    if not 0 <= radius <= MOST_RADIUS:
        raise ValueError(f"radius={radius} is not in 0..{MOST_RADIUS}; try {min(max(radius, 0), MOST_RADIUS)}")
