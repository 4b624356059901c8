"""The measured error of de-duplication: what it finds of planted near-duplicates, and what it merges wrongly."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from dedup.neighbours import MOST_RADIUS
from dedup.verdict import Seen, VerdictSettings, same

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
    """What the code alone would do at a radius."""

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
    """The figures of planted near-duplicates: of the verdict, and of the code alone at radius 0 to 24."""

    plants: PlantFigures
    curve: list[CurvePoint]


def measure_plants(
    settings: VerdictSettings, plants: Seen, changes: Sequence[str], source_rows: Rows, samples: Seen, labels: Rows
) -> Measured:
    """How well near-duplicates planted of known samples find their source, and what else they are taken for.

    plants: P changed copies; changes, source_rows: the change of each, and its source's row among the samples
    samples: all N; labels: int64[N], their groups

    A plant is found where the verdict says that it and its source are the same. A wrong merge is a plant judged the
    same as a sample outside its source's group: true repeats among the samples, once grouped, are not held against it.
    A curve point's pairs are all pairs of a plant and a sample within its radius, the right ones with the wrong ones.
    """
    distance = np.bitwise_count(plants.codes ^ samples.codes[source_rows]).sum(axis=1, dtype=np.uint8)
    meaningful = ~plants.flat & ~samples.flat[source_rows]
    found = same(settings, distance, plants.looks, samples.looks[source_rows]) & meaningful
    equal = (distance == 0) & meaningful
    pairs_at = np.zeros(MOST_RADIUS + 1, np.int64)
    wrong_at = np.zeros(MOST_RADIUS + 1, np.int64)
    wrong_merges = 0
    low, high = (np.ascontiguousarray(samples.codes[:, word]) for word in (0, 1))
    # One plant after the other against all samples: there are a few thousand plants however many samples there are, and
    # pictures drawn alike may have more pairs within the largest radius than memory holds.
    for plant in np.flatnonzero(~plants.flat):
        code = plants.codes[plant]
        apart = np.bitwise_count(low ^ code[0]) + np.bitwise_count(high ^ code[1])
        near = np.flatnonzero((apart <= MOST_RADIUS) & ~samples.flat)
        wrong = near[labels[near] != labels[source_rows[plant]]]
        pairs_at += np.bincount(apart[near], minlength=MOST_RADIUS + 1)
        wrong_at += np.bincount(apart[wrong], minlength=MOST_RADIUS + 1)
        nominated = wrong[apart[wrong] <= settings.radius]
        looks = np.broadcast_to(plants.looks[plant], (len(nominated), 2))
        wrong_merges += int(np.count_nonzero(same(settings, apart[nominated], looks, samples.looks[nominated])))
    found_at = np.bincount(distance[meaningful], minlength=MOST_RADIUS + 1)[: MOST_RADIUS + 1].cumsum()
    group_sizes = np.bincount(labels, minlength=len(labels))[labels]
    return Measured(
        plants=PlantFigures(
            sources=len(np.unique(source_rows)),
            recall=_share(int(found.sum()), len(plants)),
            recall_equal=_share(int(equal.sum()), len(plants)),
            by_change=recall_by_change(changes, found, equal),
            wrong_merges=wrong_merges,
            compared_pairs=int((len(samples) - group_sizes[source_rows]).sum()),
        ),
        curve=[
            CurvePoint(radius=radius, recall=_share(int(right), len(plants)), pairs=int(pairs), wrong_merges=int(wrong))
            for radius, (right, pairs, wrong) in enumerate(
                zip(found_at, pairs_at.cumsum(), wrong_at.cumsum(), strict=True)
            )
        ],
    )


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


def truth_figures(sample_ids: Sequence[str], labels: Rows, keepers: Rows, source_of: Mapping[str, str]) -> TruthFigures:
    """Recall and precision of a grouping against known near-duplicates.

    labels, keepers: int64[N], of `choose_keepers`; source_of: sample id of each known near-duplicate -> that of its
    original. Only those count whose original is among the samples too.

    Found is a variant that ended in its original's group. Right to remove is an image whose keeper has the same origin.
    """
    row_of = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    variants = [
        (row_of[variant], row_of[source]) for variant, source in source_of.items() if {variant, source} <= row_of.keys()
    ]
    found = sum(int(labels[variant] == labels[source]) for variant, source in variants)
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
