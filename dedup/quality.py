"""The measured error of de-duplication: what it finds of planted near-duplicates, and what it merges wrongly."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from dedup.bands import MOST_RADIUS
from dedup.nominate import nominate
from dedup.verdict import Pairs, Seen, VerdictSettings, closest_scores, scores, unfit

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class ChangeFigures(TypedDict):
    """Recall of one change, by the verdict and by equal codes."""

    planted: int
    recall: float
    recall_equal: float


class PlantFigures(TypedDict):
    """What planted near-duplicates say of the verdict; `compared_pairs` are the chances there were of a wrong merge."""

    sources: int
    recall: float | None
    recall_equal: float | None
    by_change: dict[str, ChangeFigures]
    wrong_merges: int
    compared_pairs: int


class CurvePoint(TypedDict):
    """What the verdict would do at a radius."""

    radius: int
    recall: float | None
    pairs: int
    wrong_merges: int


class TruthFigures(TypedDict):
    """What the grouping made of known near-duplicates."""

    variants: int
    found: int
    recall: float | None
    removed: int
    right: int
    precision: float | None


@dataclass(frozen=True)
class Measured:
    """The figures of planted near-duplicates: at the radius used, and at every radius up to it."""

    plants: PlantFigures
    curve: list[CurvePoint]


def measure_plants(
    settings: VerdictSettings,
    radius: int,
    plants: Seen,
    changes: Sequence[str],
    source_rows: Rows,
    samples: Seen,
    keepers: Rows,
    threads: int = 1,
) -> Measured:
    """How well near-duplicates planted of known samples find their source, and what else they are taken for.

    plants: P changed copies; changes, source_rows: the change of each, and its source's row among the samples
    samples: all N; keepers: int64[N], of their groups

    A plant is found where the verdict says that it and its source are the same. A wrong merge is a plant judged the
    same as a sample outside its source's group: true repeats among the samples, once grouped, are not held against it.
    A curve point's pairs are all pairs of a plant and a sample that are nominated within its radius.
    """
    pairs, score = closest_scores(settings, radius, plants, samples, np.arange(len(plants)), source_rows)
    meaningful = ~unfit(settings, plants) & ~unfit(settings, samples)[source_rows]
    right = meaningful & ((score >= 0) | (settings.rule == "code"))
    found = right & (pairs.distance <= radius)
    equal = (plants.codes == samples.codes[source_rows]).all(axis=1) & meaningful
    pairs_at, wrong_at = _compare(settings, radius, plants, source_rows, samples, keepers, threads)
    found_at = np.bincount(pairs.distance[right], minlength=MOST_RADIUS + 1).cumsum()
    group_sizes = np.bincount(keepers, minlength=len(keepers))[keepers]
    return Measured(
        plants=PlantFigures(
            sources=len(np.unique(source_rows)),
            recall=_share(int(found.sum()), len(plants)),
            recall_equal=_share(int(equal.sum()), len(plants)),
            by_change=recall_by_change(changes, found, equal),
            wrong_merges=int(wrong_at[radius]),
            compared_pairs=int((len(samples) - group_sizes[source_rows]).sum()),
        ),
        curve=[
            CurvePoint(
                radius=at,
                recall=_share(int(found_at[at]), len(plants)),
                pairs=int(pairs_at[at]),
                wrong_merges=int(wrong_at[at]),
            )
            for at in range(radius + 1)
        ],
    )


def planted_looks(
    settings: VerdictSettings, plants: Seen, samples: Seen, source_rows: Rows, widest: int, threads: int = 1
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """How far each plant's hashes are from its source's, and what the two correlate; -1 where one is unfit.

    Returns uint8[P] and float32[P]. Beyond `widest` bits nothing is looked at; rule code does not look at all: 1.
    """
    rows = np.array_split(np.arange(len(plants)), threads)

    def some(of: Rows) -> tuple[Pairs, npt.NDArray[np.float32]]:
        return closest_scores(settings, widest, plants, samples, of, source_rows[of], widest)

    # Filled here: threads would each begin to.
    _ = settings.rule == "joint" and (plants.views, samples.views)
    with ThreadPoolExecutor(threads) as pool:
        pairs, scored = zip(*pool.map(some, rows), strict=True)
    correlation = np.concatenate(scored) + np.float32(settings.correlation_min)
    if settings.rule == "code":
        correlation = np.ones(len(plants), np.float32)
    correlation[unfit(settings, plants) | unfit(settings, samples)[source_rows]] = -1
    return np.concatenate([of.distance for of in pairs]), correlation


def _compare(
    settings: VerdictSettings,
    radius: int,
    plants: Seen,
    source_rows: Rows,
    samples: Seen,
    keepers: Rows,
    threads: int,
) -> tuple[Rows, Rows]:
    """int64[radius + 1] each: pairs of a plant and a sample within each radius; and those of them judged wrongly."""
    some, others = (np.flatnonzero(~unfit(settings, seen)) for seen in (plants, samples))
    left, right = plants.of(some), samples.of(others)
    nearest: dict[str, list[Rows]] = {"pairs": [], "wrong": []}
    for pairs, turned in nominate(settings, radius, left, right, threads):
        plant, sample = (pairs.second, pairs.first) if turned else (pairs.first, pairs.second)
        key = (some[plant] * len(samples) + others[sample]) * (MOST_RADIUS + 1) + pairs.distance
        nearest["pairs"].append(key)
        foreign = np.flatnonzero(keepers[others[sample]] != keepers[source_rows[some[plant]]])
        one, other = (right, left) if turned else (left, right)
        passed = foreign[scores(settings, radius, pairs.of(foreign), one, other) >= 0]
        nearest["wrong"].append(key[passed])
    pairs_at, wrong_at = (_within(keys, radius) for keys in nearest.values())
    return pairs_at, wrong_at


def _within(keys: list[Rows], radius: int) -> Rows:
    """How many different pairs there are within each radius; a key is a pair's number and, in its last place, bits."""
    joined = np.unique(np.concatenate([np.empty(0, np.int64), *keys]))
    pair, distance = np.divmod(joined, MOST_RADIUS + 1)
    first = np.ones(len(pair), np.bool_)
    first[1:] = pair[1:] != pair[:-1]
    return np.bincount(distance[first], minlength=radius + 1).cumsum()


def recall_by_change(changes: Sequence[str], found: Mask, equal: Mask) -> dict[str, ChangeFigures]:
    """Recall of each change, in alphabetical order.

    changes: one name a plant; found, equal: bool[P], whether the verdict, or the paper's rule, joins it to its source
    """
    names = np.asarray(changes, np.str_)
    figures = {}
    for name in np.unique(names).tolist():
        planted = names == name
        figures[name] = ChangeFigures(
            planted=int(planted.sum()), recall=float(found[planted].mean()), recall_equal=float(equal[planted].mean())
        )
    return figures


def truth_figures(sample_ids: Sequence[str], keepers: Rows, source_of: Mapping[str, str]) -> TruthFigures:
    """Recall and precision of a grouping against known near-duplicates.

    keepers: int64[N], of the grouping; source_of: sample id of each known near-duplicate -> that of its
    original. Only those count whose original is among the samples too.

    Found is a variant that ended in its original's group. Right to remove is an image whose keeper has the same origin.
    """
    row_of = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    variants = [
        (row_of[variant], row_of[source]) for variant, source in source_of.items() if {variant, source} <= row_of.keys()
    ]
    found = sum(int(keepers[variant] == keepers[source]) for variant, source in variants)
    removed = np.flatnonzero(keepers != np.arange(len(keepers))).tolist()
    right = sum(_origin(sample_ids[row], source_of) == _origin(sample_ids[keepers[row]], source_of) for row in removed)
    return TruthFigures(
        variants=len(variants),
        found=found,
        recall=_share(found, len(variants)),
        removed=len(removed),
        right=right,
        precision=_share(right, len(removed)),
    )


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval that the true share lies in, given the successes in so many trials; (0, 1) where there were none.

    Raises ValueError where successes are not in 0..trials or confidence is not between 0 and 1.

    Wilson 1927; unlike the usual p +- z sqrt(p (1 - p) / n) it is no empty interval at 0 successes.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes={successes} is not in 0..{trials}, the trials; count both over the same pairs")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} is not between 0 and 1; try 0.95")
    if not trials:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # At the ends rounding could leave the interval a hair off the share itself.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def _origin(sample_id: str, source_of: Mapping[str, str]) -> str:
    while sample_id in source_of:  # a variant of a variant has the first one's origin
        sample_id = source_of[sample_id]
    return sample_id


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
