"""All pairs of codes within a Hamming radius, exactly, without comparing all with all.

Codes are ordered by the bits of a band (`dedup/bands.py`), so that those of one key lie side by side; each is compared
with the codes of its own key and of the keys that differ from it in as many bits as the band allows.
"""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from dedup.bands import MOST_RADIUS as MOST_RADIUS
from dedup.bands import Unit, check, mask, plan, probes
from dedup.scan import order, scan

_CHUNK_PAIRS = 1 << 20

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


def pairs_within(codes: Codes, radius: int, looks: Codes | None = None, threads: int = 1) -> Pairs:
    """All pairs of rows within the radius, first < second, sorted by first and then second; repeats are chained.

    codes: uint64[N, 2], or uint64[N, 1] for hashes of 64 bits; may be read-only
    looks: uint64[N, L] or None; what a verdict asks of a row besides its code, such as its pHashes

    Rows that repeat an earlier row's code (and looks) bit for bit appear in one pair only, with the first such row, at
    distance 0: what holds of that row holds of them. All other pairs are between such first rows. So ten thousand
    copies of an image are 9,999 pairs, and the groups that pairs connect are the same as if all were listed.

    Raises ValueError where the radius is not in 0..24 or the arrays do not fit together.
    """
    return _sorted(list(stream_pairs_within(codes, radius, looks, threads=threads)))


def stream_pairs_within(
    codes: Codes, radius: int, looks: Codes | None = None, chunk_pairs: int = _CHUNK_PAIRS, threads: int = 1
) -> Iterator[Pairs]:
    """The pairs of `pairs_within`, in no order, in chunks of about `chunk_pairs`, so that memory stays bounded."""
    check(codes, radius)
    rows, repeats = collapse(codes, looks)
    if len(repeats):
        yield repeats
    distinct = codes if len(rows) == len(codes) else codes[rows]
    searches = (search_unit(distinct, unit, chunk_pairs=chunk_pairs) for unit in plan(distinct, radius))
    for found in _run(searches, threads):
        yield Pairs(rows[found.first], rows[found.second], found.distance)


def pairs_between(queries: Codes, codes: Codes, radius: int, threads: int = 1) -> Pairs:
    """All pairs of a query (first) and a code (second) within the radius, sorted; none is left out or chained.

    queries: uint64[Q, 2]; codes: uint64[N, 2]; or both with one column, for hashes of 64 bits

    Raises ValueError where the radius is not in 0..24, an array is no codes, or the two are not alike.
    """
    return _sorted(list(stream_pairs_between(queries, codes, radius, threads=threads)))


def stream_pairs_between(
    queries: Codes, codes: Codes, radius: int, chunk_pairs: int = _CHUNK_PAIRS, threads: int = 1
) -> Iterator[Pairs]:
    """The pairs of `pairs_between`, in no order, in chunks of about `chunk_pairs`, so that memory stays bounded.

    Ten thousand equal queries and as many equal codes are 1e8 pairs: pass the first rows of `collapse` of both.
    """
    units = plan(codes, radius, queries)
    yield from _run((search_unit(codes, unit, queries, chunk_pairs) for unit in units), threads)


def collapse(codes: Codes, looks: Codes | None = None) -> tuple[Rows, Pairs]:
    """The first row, ascending, of each set of rows with equal codes and looks; and each other row's pair with it.

    codes: uint64[N, W]; looks: uint64[N, L] or None
    """
    if looks is not None and len(looks) != len(codes):
        raise ValueError(f"{len(looks)} looks are not one for each of {len(codes)} codes; pass both from the same rows")
    first_word = codes[:, 0]
    by_word = np.argsort(first_word)
    again = np.flatnonzero(first_word[by_word[1:]] == first_word[by_word[:-1]])
    alike = np.unique(np.concatenate([by_word[again], by_word[again + 1]]))  # few, as a rule: only these are compared
    both = codes[alike] if looks is None else np.concatenate([codes[alike], looks[alike]], axis=1)
    ranks = np.lexsort(both.T)  # stable: of equal rows the first comes first
    starts = np.ones(len(alike), np.bool_)
    starts[1:] = (both[ranks[1:]] != both[ranks[:-1]]).any(axis=1)
    first_like_it = np.arange(len(codes))
    first_like_it[alike[ranks]] = alike[ranks[starts]][np.cumsum(starts) - 1]
    repeated = first_like_it != np.arange(len(codes))
    repeats = np.flatnonzero(repeated)
    return np.flatnonzero(~repeated), Pairs(first_like_it[repeats], repeats, np.zeros(len(repeats), np.uint8))


def search_unit(
    codes: Codes, unit: Unit, queries: Codes | None = None, chunk_pairs: int = _CHUNK_PAIRS
) -> Iterator[Pairs]:
    """The pairs that a unit of `plan(codes, radius, queries)` finds, in no order, in chunks of about `chunk_pairs`.

    Without queries: pairs of two rows of codes, first < second; with them: of a query (first) and a code (second).
    Nothing is chained here, so collapse what repeats before planning. The arrays may be read-only and shared.
    """
    *before, band = unit.bands
    bits = np.array(band.bits, np.int64)
    right = order(codes, bits)
    left = right if queries is None else order(queries, bits)
    masks = np.array([mask(done) for done in before], np.uint64).reshape(-1, 2)
    flips = np.array([done.flips for done in before], np.uint64)
    turns = probes(len(bits), band.flips)
    position, stop = (len(left.rows) * share // unit.shares for share in (unit.share, unit.share + 1))
    while position < stop:
        position, first, second, distance = scan(
            left, right, turns, masks, flips, np.uint64(unit.radius), queries is None, position, stop, chunk_pairs
        )
        if len(first):
            yield Pairs(first, second, distance)


def distances(codes: Codes, first: Rows, second: Rows) -> npt.NDArray[np.uint8]:
    """The Hamming distance of each pair of rows, uint8[P], in bits."""
    return np.asarray(np.bitwise_count(codes[first] ^ codes[second]).sum(axis=1), np.uint8)


def _run(searches: Iterator[Iterator[Pairs]], threads: int) -> Iterator[Pairs]:
    """What the searches yield, as many at once as there are threads; each goes on when its last chunk was taken."""
    if threads == 1:
        for search in searches:
            yield from search
        return
    with ThreadPoolExecutor(threads) as pool:
        running = {pool.submit(next, search, None): search for search in islice(searches, threads)}
        while running:
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                search, found = running.pop(done), done.result()
                following = search if found is not None else next(searches, None)
                if following is not None:
                    running[pool.submit(next, following, None)] = following
                if found is not None:
                    yield found


def _sorted(chunks: list[Pairs]) -> Pairs:
    first = np.concatenate([np.empty(0, np.int64), *(chunk.first for chunk in chunks)])
    second = np.concatenate([np.empty(0, np.int64), *(chunk.second for chunk in chunks)])
    distance = np.concatenate([np.empty(0, np.uint8), *(chunk.distance for chunk in chunks)])
    order = np.lexsort([second, first])
    return Pairs(first[order], second[order], distance[order])
