"""Nominated pairs to groups of one picture, and of each group the image to keep."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dedup import forest
from dedup.neighbours import collapse
from dedup.nominate import PairSearch, nominate
from dedup.verdict import Pairs, Seen, VerdictSettings, closest_scores, scores, unfit

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

_FEWEST_PAIRS = 256  # of a thread: starting one for fewer takes longer than they do
# Hashes further apart than this are not looked at as parts of one star: a chain of thousands would take for ever.
_REACH_BITS = 32


@dataclass(frozen=True)
class Groups:
    """Groups of N images that show one picture each; an image like no other is a group of its own.

    keepers: int64[N], the row that is kept of each image's group; itself where it is kept
    distance: uint8[N], between the hashes of an image and its keeper, 0 where it is kept
    score: float32[N], how sure the verdict was of the two; the border is at 0. inf where it is kept
    mirrored: bool[N], whether it is its keeper's mirror image
    nominated, judged: how many pairs hashes nominated, and how many of them had to be looked at
    """

    keepers: Rows
    distance: npt.NDArray[np.uint8]
    score: Scores
    mirrored: npt.NDArray[np.bool_]
    nominated: int
    judged: int

    @property
    def removed(self) -> Rows:
        """The rows that are not kept, ascending."""
        return np.flatnonzero(self.keepers != np.arange(len(self.keepers)))


class Grouping:
    """Groups in the making. The result depends on neither the order of the images nor that of the pairs."""

    def __init__(
        self,
        seen: Seen,
        settings: VerdictSettings,
        rank: Rows,
        threads: int = 1,
        search_pairs: PairSearch | None = None,
    ) -> None:
        """`seen`: N images; `rank`: int64[N], the image of lowest rank in a group is kept.

        `threads` judge pairs at once; `search_pairs` as `nominate` has it.
        """
        self._search_pairs = search_pairs
        self._images = len(seen)
        self._settings, self._threads = settings, threads
        # By rank from here on, so that the first row of any set of rows is the one to keep.
        by_rank = np.argsort(rank, kind="stable")
        self._order = by_rank[~unfit(settings, seen)[by_rank]]
        looks = [seen.codes, *([seen.mirror_codes, seen.fingerprints] if settings.rule == "joint" else [])]
        # Ten thousand copies of one picture would be fifty million pairs.
        self._distinct, self._repeats = collapse(np.concatenate(looks, axis=1)[self._order])
        self._seen = seen.of(self._order[self._distinct])
        self._parents = np.arange(len(self._seen))
        self.nominated = self.judged = 0
        self._joined = [np.empty(0, np.float32)]

    @property
    def pictures(self) -> Seen:
        """One image of each group as it stands, the best; neither flat ones nor repeats."""
        return self._seen.of(self._best)

    @property
    def repeats(self) -> int:
        """How many images are removed since all that is seen of them equals another's."""
        return len(self._repeats)

    @property
    def joined(self) -> Scores:
        """float32[J], the scores of the pairs that join images so far: each removes one image, were that a group."""
        return np.concatenate(self._joined)

    @property
    def _best(self) -> npt.NDArray[np.bool_]:
        return np.asarray(forest.roots(self._parents) == np.arange(len(self._parents)), np.bool_)

    def extend(self, radius: int) -> None:
        """Join all pairs that hashes within the radius nominate and that are judged the same."""
        with ThreadPoolExecutor(self._threads) as pool:
            trees = lambda: forest.roots(self._parents)  # noqa: E731
            for pairs, _ in nominate(
                self._settings,
                radius,
                self._seen,
                threads=self._threads,
                trees=trees,
                search_pairs=self._search_pairs,
            ):
                self.nominated += len(pairs)
                self._take(pairs, radius, pool)

    def _take(self, pairs: Pairs, radius: int, pool: ThreadPoolExecutor) -> None:
        # The nearest first: of a group of n images the n - 1 surest pairs are judged, not all n (n - 1) / 2.
        left = pairs.of(np.argsort(pairs.distance, kind="stable"))
        while True:
            left = left.of(forest.apart(self._parents, left.first, left.second))
            if not len(left):
                return
            turn = forest.needed(self._parents, left.first, left.second)
            judged = left.of(turn)
            self.judged += len(judged)
            found = _spread(
                pool, self._threads, judged, lambda some: scores(self._settings, radius, some, self._seen, self._seen)
            )
            same = judged.of(found >= 0)
            forest.join(self._parents, same.first, same.second)
            self._joined.append(found[found >= 0])
            left = left.of(~turn)

    def groups(self, radius: int) -> Groups:
        """The groups of all that was joined."""
        keepers, pairs, score = self._stars(radius)
        everywhere = np.arange(len(self._order))
        everywhere[self._distinct] = self._distinct[keepers]
        distance, mirrored = np.zeros(len(self._order), np.uint8), np.zeros(len(self._order), np.bool_)
        sure = np.full(len(self._order), np.inf, np.float32)
        members = self._distinct[pairs.second]
        distance[members], mirrored[members], sure[members] = pairs.distance, pairs.mirrored, score
        # A repeat's keeper is that of the image that it repeats.
        first, second = self._repeats.first, self._repeats.second
        everywhere[second], distance[second], mirrored[second] = everywhere[first], distance[first], mirrored[first]
        sure[second] = np.where(everywhere[first] == first, np.float32(self._surest(radius)), sure[first])
        all_keepers = np.arange(self._images)
        all_keepers[self._order] = self._order[everywhere]
        result = Groups(
            all_keepers,
            np.zeros(self._images, np.uint8),
            np.full(self._images, np.inf, np.float32),
            np.zeros(self._images, np.bool_),
            self.nominated,
            self.judged,
        )
        result.distance[self._order], result.score[self._order] = distance, sure
        result.mirrored[self._order] = mirrored
        return result

    def _surest(self, radius: int) -> float:
        return float(radius) if self._settings.rule == "code" else 1 - self._settings.correlation_min

    def _stars(self, radius: int) -> tuple[Rows, Pairs, Scores]:
        """The keeper of each distinct image; the pair of each that is not kept (as `second`) with it, and its score."""
        trees = forest.roots(self._parents)
        keepers = np.arange(len(trees))
        left = np.flatnonzero(trees != keepers)
        left = np.flatnonzero(np.isin(trees, trees[left]))
        centre_of = np.empty(len(trees), np.int64)
        found_pairs, found_scores = [], []
        nobody = np.empty(0, np.int64)
        found_pairs.append((nobody, nobody, np.empty(0, np.uint8), np.empty(0, np.bool_), np.empty(0, np.uint8)))
        found_scores.append(np.empty(0, np.float32))
        with ThreadPoolExecutor(self._threads) as pool:
            while len(left):
                # Rows are in order of rank, so the first row left of a tree is the best.
                _, first = np.unique(trees[left], return_index=True)
                centre_of[trees[left[first]]] = left[first]
                centres = centre_of[trees[left]]
                tested = centres != left
                pairs, score = self._closest(pool, radius, centres[tested], left[tested])
                joins = (score >= 0) if self._settings.grouping == "star" else np.ones(len(score), np.bool_)
                members = left[tested][joins]
                keepers[members] = centres[tested][joins]
                kept = pairs.of(joins)
                found_pairs.append((keepers[members], members, kept.distance, kept.mirrored, kept.view))
                found_scores.append(score[joins])
                left = left[tested][~joins]
        return (
            keepers,
            Pairs(*(np.concatenate(column) for column in zip(*found_pairs, strict=True))),
            np.concatenate(found_scores),
        )

    def _closest(self, pool: ThreadPoolExecutor, radius: int, first: Rows, second: Rows) -> tuple[Pairs, Scores]:
        def some(rows: Rows) -> tuple[Pairs, Scores]:
            return closest_scores(
                self._settings, radius, self._seen, self._seen, first[rows], second[rows], _REACH_BITS
            )

        shares = np.array_split(np.arange(len(first)), max(1, min(self._threads, len(first) // _FEWEST_PAIRS)))
        done = list(pool.map(some, shares))
        columns = zip(
            *((p.first, p.second, p.distance, p.mirrored, p.view) for p, _ in done),
            strict=True,
        )
        return Pairs(*(np.concatenate(column) for column in columns)), np.concatenate([score for _, score in done])


def _spread(pool: ThreadPoolExecutor, threads: int, pairs: Pairs, work: Callable[[Pairs], Scores]) -> Scores:
    shares = np.array_split(np.arange(len(pairs)), max(1, min(8 * threads, len(pairs) // _FEWEST_PAIRS)))
    return np.concatenate(list(pool.map(lambda rows: work(pairs.of(rows)), shares)))


def find_groups(seen: Seen, settings: VerdictSettings, radius: int, rank: Rows, threads: int = 1) -> Groups:
    """The groups of images that show the same picture.

    rank: int64[N], the image of lowest rank in a group is kept. Memory grows with the images, not with the pairs.
    """
    grouping = Grouping(seen, settings, rank, threads)
    grouping.extend(radius)
    return grouping.groups(radius)


def smallest_ids(keepers: Rows, sample_ids: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The smallest sample id of each image's group: the group's name, whatever order the rows came in."""
    rows = np.arange(len(keepers))
    members = grouped(keepers)
    if len(members):
        order = np.lexsort((sample_ids[members].astype(np.bytes_), keepers[members]))
        ordered = keepers[members][order]
        starts = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        rows[members[order]] = members[order[starts]][np.cumsum(starts) - 1]
    return sample_ids[rows]


def grouped(keepers: Rows) -> Rows:
    """The rows that share their group with another, ascending."""
    return np.flatnonzero(np.bincount(keepers, minlength=len(keepers))[keepers] > 1)
