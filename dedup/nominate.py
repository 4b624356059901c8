"""Which pairs are worth a second look: those whose codes, or pHashes of some view, are near."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dedup import neighbours
from dedup.neighbours import collapse
from dedup.verdict import PHASH_HANDICAP, Hashes, Pairs, Rows, Seen, VerdictSettings
from manifests.perceptual import VIEWS

CROWD = 256
_OF_A_TREE = 8


@dataclass(frozen=True)
class _Search:
    """One search: all pairs of one array of hashes, or of two."""

    queries: Hashes
    hashes: Hashes | None  # None: pairs of two queries
    handicap: int
    mirrored: bool
    view: int
    turned: bool = False  # the hashes are those of the first of a pair, the queries of the second
    rows: Rows | None = None  # what rows the queries are of, where not of all
    hash_rows: Rows | None = None  # and the hashes


PairSearch = Callable[[Hashes, Hashes | None, int, int], Iterator[neighbours.Pairs]]


def search_here(queries: Hashes, hashes: Hashes | None, radius: int, threads: int) -> Iterator[neighbours.Pairs]:
    """All pairs of a query and a hash within the radius, or with hashes None of two queries; in this process."""
    if hashes is not None:
        yield from neighbours.stream_pairs_between(queries, hashes, radius, threads=threads)
        return
    # Equal hashes don't make equal pictures, so pairs of them are not to be chained: each row has its own look.
    looks = np.arange(len(queries), dtype=np.uint64)[:, None]
    yield from neighbours.stream_pairs_within(queries, radius, looks, threads=threads)


def nominate(
    settings: VerdictSettings,
    radius: int,
    left: Seen,
    right: Seen | None = None,
    threads: int = 1,
    trees: Callable[[], Rows] | None = None,
    search_pairs: PairSearch | None = None,
) -> Iterator[tuple[Pairs, bool]]:
    """Pairs within the radius, in chunks; with each whether its pairs have `first` in right and `second` in left.

    With right None: pairs of two different rows of left; else of a row of left and one of right. A pair may come more
    than once, nominated by several hashes. Flat images are for the caller to leave out. Within one set, a row with the
    thumb of an earlier row is paired by pHash with the first such row alone: what holds of that one holds of it.

    trees: gives int64[N], what each row of left is joined with so far. With it, a hash that more than CROWD rows share
    is searched with a few rows of each tree only, and with CROWD in all: pictures with nothing on them hash alike.
    search_pairs: does the searches, such as `search_here` (the default).
    """
    if right is None and settings.rule == "joint" and radius >= PHASH_HANDICAP:
        # Ten thousand copies of one picture would be fifty million pairs, of every view.
        distinct, repeats = collapse(left.fingerprints)
        bits = repeats.distance + np.uint8(PHASH_HANDICAP)
        if len(repeats):
            yield _pairs(repeats.first, repeats.second, bits, mirrored=False, view=0), False
    else:
        distinct = None
    for search in _searches(settings, left, right, distinct):
        bits_left = radius - search.handicap
        if bits_left < 0:
            continue
        search = _thinned(search, trees) if trees is not None and right is None and settings.rule == "joint" else search
        streamed = (search_pairs or search_here)(search.queries, search.hashes, bits_left, threads)
        for found in streamed:
            first, second = found.first, found.second
            if search.rows is not None:
                first = search.rows[first]
            if search.hash_rows is not None:
                second = search.hash_rows[second]
            different = slice(None) if right is not None else first != second
            if not len(first[different]):
                continue
            distance = found.distance[different] + np.uint8(search.handicap)
            yield _pairs(first[different], second[different], distance, search.mirrored, search.view), search.turned


def _thinned(search: _Search, trees: Callable[[], Rows]) -> _Search:
    """The search without most of the rows whose hash a crowd shares."""
    joined = trees()
    rows = np.arange(len(search.queries)) if search.rows is None else search.rows
    few = _few(search.queries, joined[rows])
    if search.hashes is None:
        return replace(search, queries=search.queries[few], rows=rows[few], hash_rows=rows[few])
    hash_rows = np.arange(len(search.hashes)) if search.hash_rows is None else search.hash_rows
    few_hashes = _few(search.hashes, joined[hash_rows])
    return replace(
        search,
        queries=search.queries[few],
        hashes=search.hashes[few_hashes],
        rows=rows[few],
        hash_rows=hash_rows[few_hashes],
    )


def _few(hashes: Hashes, trees: Rows) -> Rows:
    """The rows to search with, ascending: of those with one hash a few of each tree, and CROWD in all."""
    order = np.lexsort((trees, *hashes.T))
    ordered, of_tree = hashes[order], trees[order]
    starts = _changes(ordered)
    crowded = np.diff(np.append(np.flatnonzero(starts), len(order))) > CROWD
    if not crowded.any():
        return np.arange(len(order))
    in_crowd = crowded[np.cumsum(starts) - 1]
    tree_starts = starts.copy()
    tree_starts[1:] |= of_tree[1:] != of_tree[:-1]
    kept = ~in_crowd | (_counted(tree_starts) < _OF_A_TREE)
    order, ordered = order[kept], ordered[kept]
    return np.sort(order[_counted(_changes(ordered)) < CROWD])


def _changes(rows: Hashes) -> npt.NDArray[np.bool_]:
    different = np.ones(len(rows), np.bool_)
    different[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return different


def _counted(starts: npt.NDArray[np.bool_]) -> Rows:
    """How many places each is after the last start."""
    places = np.arange(len(starts))
    return places - np.maximum.accumulate(np.where(starts, places, 0))


def _pairs(first: Rows, second: Rows, distance: npt.NDArray[np.uint8], mirrored: bool, view: int) -> Pairs:
    count = len(first)
    return Pairs(
        first.astype(np.int64),
        second.astype(np.int64),
        distance,
        np.full(count, mirrored),
        np.full(count, view, np.uint8),
    )


def _searches(settings: VerdictSettings, left: Seen, right: Seen | None, distinct: Rows | None) -> Iterator[_Search]:
    """The likeliest first, so that later pairs are often of one group already."""
    other = left if right is None else right
    if settings.rule == "code":
        yield _Search(left.codes, None if right is None else other.codes, 0, False, 0)
        return
    rows = slice(None) if distinct is None else distinct
    whole = left.views[0, 0][rows, None]
    yield _Search(
        whole,
        None if right is None else other.views[0, 0][:, None],
        PHASH_HANDICAP,
        False,
        0,
        rows=distinct,
        hash_rows=distinct,
    )
    yield _Search(left.codes, None if right is None else other.codes, 0, False, 0)
    yield _Search(left.codes, other.mirror_codes, 0, True, 0)
    for view in range(len(VIEWS)):
        for mirrored in (0, 1):
            if view or mirrored:
                views = other.views[view, mirrored][rows, None]
                yield _Search(whole, views, PHASH_HANDICAP, bool(mirrored), view, rows=distinct, hash_rows=distinct)
                if view and right is not None:
                    wholes, views = right.views[0, 0][:, None], left.views[view, mirrored][:, None]
                    yield _Search(wholes, views, PHASH_HANDICAP, bool(mirrored), view, turned=True)
