"""Which bits of a code make the keys that candidates are looked up by, and how a search is cut into units of work.

Codes are cut into bands of bits. If band i may differ in f_i bits, and the sum of f_i + 1 over the bands is radius + 1,
then two codes within the radius agree, up to f_i bits, in some band i: else they would differ in radius + 1 bits or
more (the pigeonhole principle: Norouzi, Punjani, Fleet 2012, multi-index hashing; thresholds that differ between bands:
Qin et al. 2018, generalised pigeonhole principle). Any choice of bands finds the same pairs; the choice is for speed.
"""

from dataclasses import dataclass
from functools import cache
from math import ceil, comb

import numpy as np
import numpy.typing as npt

MOST_RADIUS = 24
"""Beyond it bands grow so narrow that each code has most others as candidates, and pairs rarely show one picture."""

WIDTHS_BITS = (64, 128)
"""What a code may have: a perceptual hash has 64 bits, the autoencoder's code has 128."""

_MOST_KEY_BITS = 22  # a table of where each key's codes begin has 2^22 entries, 16 MB
_SAMPLED = 1 << 16
# Seconds on one core of a busy server of 2023. Only what they are to each other decides, and that roughly.
_ORDER_S = 40e-9  # a code is put in the order of a band's keys
_PROBE_S = 12e-9  # a code looks up a key
_CANDIDATE_S = 0.8e-9  # a code is compared with a candidate
_PLAN_S = 0.1  # what takes less by comparing all with all is not worth a plan
_LEAST_UNIT_S = 4.0
_LEAST_SHARE_S = 0.01
_LEAST_ORDERS = 10  # a unit orders the codes by itself, which is to stay below a tenth of its work

Codes = npt.NDArray[np.uint64]
Layout = tuple["Band", ...]


@dataclass(frozen=True)
class Band:
    """Some bits of a code, and in how many of them a code and its candidate may differ."""

    bits: tuple[int, ...]
    flips: int


@dataclass(frozen=True)
class Unit:
    """A share of the search in the last of these bands; the bands before it have reported what they find.

    All units of a plan together find each pair once, in whatever order and process they run.
    """

    radius: int
    bands: Layout
    share: int
    shares: int


def plan(codes: Codes, radius: int, queries: Codes | None = None, bands: int | None = None) -> list[Unit]:
    """The units of work that find all pairs of codes within the radius, or all pairs of a query and a code.

    codes: uint64[N, 1 or 2]; queries: uint64[Q, 1 or 2] or None
    bands: how many, 1..radius + 1; 0 compares all with all; None takes what is expected to be fastest

    A unit takes some seconds; there is one for each band, or several where the codes are many. It orders all codes by
    its band's keys anew: that is less than a tenth of its work once there is work to share out, where orders made
    beforehand would be eight more copies of the codes in the memory that processes share.

    Raises ValueError where the radius is not in 0..24, an array is no codes, the two are not alike, or bands are many.
    """
    check(codes, radius)
    if bands is not None and not 0 <= bands <= radius + 1:
        raise ValueError(f"bands={bands} is not in 0..{radius + 1}, radius + 1; leave it out")
    if queries is not None:
        check(queries, radius)
        if queries.shape[1] != codes.shape[1]:
            raise ValueError(
                f"queries of {64 * queries.shape[1]} bits and codes of {64 * codes.shape[1]} have no distance; "
                "pass two sets of the same hash"
            )
    work = _work(codes, queries)
    if not work.pairs:
        return []
    layout, seconds = _cheapest(codes, radius, queries, bands)
    units = []
    for number, band_s in enumerate(seconds):
        # Comparing all with all needs no order, so that small searches can be shared out too.
        least_s = _LEAST_UNIT_S if layout[number].bits else _LEAST_SHARE_S
        shares = min(work.lefts, ceil(band_s / max(least_s, _LEAST_ORDERS * work.ordered * _ORDER_S)))
        units += [Unit(radius, layout[: number + 1], share, shares) for share in range(shares)]
    return units


def probes(width_bits: int, flips: int) -> npt.NDArray[np.int64]:
    """What to XOR a key with to get all keys that differ from it in at most so many bits; itself, 0, comes first."""
    found = np.zeros(1, np.int64)
    for place in range(width_bits):
        found = np.concatenate([found, found[np.bitwise_count(found) < flips] | 1 << place])
    return found


def mask(band: Band) -> list[int]:
    """The bits of the band as two whole numbers, one for each 64-bit word of a code."""
    return [sum(1 << bit % 64 for bit in band.bits if bit // 64 == word) for word in (0, 1)]


def check(codes: Codes, radius: int) -> None:
    """Raise ValueError where the array is no codes or the radius not in 0..24."""
    if codes.dtype != np.uint64 or codes.ndim != 2 or 64 * codes.shape[1] not in WIDTHS_BITS:
        raise ValueError(
            f"codes are {codes.dtype}{list(codes.shape)}, not uint64[N, 2] or uint64[N, 1]; "
            "pass what encode or unpack returned, or 64-bit hashes as one column"
        )
    if len(codes) >= 1 << 32:
        raise ValueError(f"{len(codes)} codes are more than rows of 32 bits can number; search them in two halves")
    if not 0 <= radius <= MOST_RADIUS:
        raise ValueError(f"radius={radius} is not in 0..{MOST_RADIUS}; try {min(max(radius, 0), MOST_RADIUS)}")


@dataclass(frozen=True)
class _Work:
    """How many codes look others up, how many pairs there are, and how many codes are put in order for a band."""

    lefts: int
    pairs: int
    ordered: int
    sides: float  # 0.5 within one set, where of two codes one looks the other up

    def seconds(self, probes: int, near: float) -> float:
        """What a band is expected to cost, given its probes and the share of pairs that it makes candidates."""
        return self.ordered * _ORDER_S + self.lefts * self.sides * probes * _PROBE_S + self.pairs * near * _CANDIDATE_S


def _work(codes: Codes, queries: Codes | None) -> _Work:
    if queries is None:
        return _Work(len(codes), len(codes) * (len(codes) - 1) // 2, len(codes), 0.5)
    return _Work(len(queries), len(queries) * len(codes), len(queries) + len(codes), 1.0)


def _cheapest(codes: Codes, radius: int, queries: Codes | None, count: int | None) -> tuple[Layout, list[float]]:
    """The layout of bands that costs least, or that has so many bands, and the seconds expected of each band.

    What a layout costs hangs on how often two codes have near keys. That is counted on pairs drawn at random, since
    bits of real codes go together, and make more codes near than their number says.
    """
    work = _work(codes, queries)
    everything: Layout = (Band((), radius),)  # one bucket: all are compared with all
    best, best_s = everything, [work.seconds(1, 1.0)]
    if count == 0 or (count is None and best_s[0] < _PLAN_S):
        return best, best_s
    shapes = []
    for bands in range(1, radius + 2) if count is None else [count]:
        flips = _flips(radius, bands)
        widths = _widths(flips, 64 * codes.shape[1], len(codes))
        looked_up = [_probes(width, most) for width, most in zip(widths, flips, strict=True)]
        least = [work.seconds(keys, keys / 2**width) for keys, width in zip(looked_up, widths, strict=True)]
        shapes.append((sum(least), flips, widths, looked_up))
    left = codes if queries is None else queries
    draw = np.random.default_rng(0)
    drawn = min(_SAMPLED, work.pairs)
    differ = left[draw.integers(len(left), size=drawn)] ^ codes[draw.integers(len(codes), size=drawn)]
    together = _together(codes)
    for least_s, flips, widths, looked_up in sorted(shapes):
        if count is None and least_s >= sum(best_s):
            break  # if bits were as even as could be, it would still cost more
        layout = tuple(Band(tuple(bits), most) for bits, most in zip(_spread(together, widths), flips, strict=True))
        near = [np.count_nonzero(_apart(differ, band) <= band.flips) / drawn for band in layout]
        seconds = [work.seconds(keys, share) for keys, share in zip(looked_up, near, strict=True)]
        if count is not None or sum(seconds) < sum(best_s):
            best, best_s = layout, seconds
    return best, best_s


def _apart(differ: Codes, band: Band) -> npt.NDArray[np.uint8]:
    """In how many bits of the band each two codes differ, given the bits in which they differ at all."""
    words = zip(differ.T, mask(band), strict=False)
    return np.asarray(sum(np.bitwise_count(word & np.uint64(bits)) for word, bits in words), np.uint8)


def _flips(radius: int, bands: int) -> list[int]:
    """In how many bits each band may differ: their sum, with 1 for each band, is radius + 1."""
    least, more = divmod(radius + 1, bands)
    return [least] * more + [least - 1] * (bands - more)


def _widths(flips: list[int], code_bits: int, codes: int) -> list[int]:
    """How many bits each band gets: the next bit goes to the band with most candidates; a key has few more than log2 N.

    Bits may be left over: a key with more bits than there are codes to tell apart makes tables that are mostly empty.
    """
    most = min(_MOST_KEY_BITS, max(1, codes.bit_length()))
    widths = [0] * len(flips)
    for _ in range(min(code_bits, most * len(flips))):
        open_bands = [number for number in range(len(flips)) if widths[number] < most]
        widths[max(open_bands, key=lambda number: _probes(widths[number], flips[number]) / 2 ** widths[number])] += 1
    return widths


@cache
def _probes(width_bits: int, flips: int) -> int:
    return sum(comb(width_bits, turned) for turned in range(flips + 1))


def _together(codes: Codes) -> npt.NDArray[np.float32]:
    """How much oftener than chance two codes agree on bits i and j at once: the square of the mean of s_i s_j, s = +-1.

    On the diagonal: how much oftener they agree on bit i alone, which is the square of the mean of s_i.
    """
    sample = codes[:: -(-len(codes) // 10_000)]
    signs = np.unpackbits(sample.astype("<u8").view(np.uint8), axis=1, bitorder="little").astype(np.float32) * 2 - 1
    together = np.square(signs.T @ signs / np.float32(len(sample)))
    np.fill_diagonal(together, np.square(signs.mean(axis=0)))
    return np.asarray(together, np.float32)


def _spread(together: npt.NDArray[np.float32], widths: list[int]) -> list[list[int]]:
    """Which bits stand in which band: those that go together are kept apart, the worst are left out if any may be.

    Bits that say the same, or always the same, put many codes under few keys, and every code there is a candidate.
    """
    bands: list[list[int]] = [[] for _ in widths]
    worst_first = np.argsort(-together.sum(axis=1), kind="stable").tolist()
    for bit in worst_first[len(worst_first) - sum(widths) :]:
        open_bands = [number for number, width in enumerate(widths) if len(bands[number]) < width]
        least = min(open_bands, key=lambda number: (float(together[bit, bands[number]].sum()), number))
        bands[least].append(bit)
    return bands
