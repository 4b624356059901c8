"""The radius that sets itself: how often different pictures are nominated and pass, and what that means at N images.

Wrong pairs grow with the square of the images, removals only with the images, so a radius that is right for 10,000 is
too wide for 3 million.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from dedup.bands import MOST_RADIUS
from dedup.nominate import nominate
from dedup.verdict import PHASH_HANDICAP, Seen, VerdictSettings, scores

_SAMPLED_IMAGES = 4000
_MOST_SCORED = 20_000
# Nominations that have to be looked at cost time: so many an image are about a third of what ingest takes.
NOMINATIONS_PER_IMAGE = 4.0
SURE_RADIUS = PHASH_HANDICAP + 4
"""Where to begin: what is found here is counted as removals that are right."""
WIDEST_RADIUS = 18
# Above this score's correlation the scores of different pictures are taken to thin out exponentially.
_TAIL_FROM = 0.5
# Nor are they taken to thin out faster than those of 46,000 pairs of photos that hash alike did.
_LEAST_DECAY = 0.1
_ROUNDS = 50
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Chances:
    """What random pairs of different pictures do, for each radius 0 to 24.

    pairs: how many pairs were drawn; nominated: int64[25], of them, within the radius
    passing: how likely a nominated pair of different pictures passes the verdict, upper 95 % limit; with rule code 1
    """

    pairs: int
    nominated: npt.NDArray[np.int64]
    passing: float

    def nominations(self, radius: int, images: int) -> float:
        """Expected pairs of different pictures that the radius nominates among so many images."""
        return _pairs(images) * self._rate(int(self.nominated[radius]))

    def wrong(self, radius: int, images: int) -> float:
        """Expected wrong pairs among so many images; with the upper 95 % limit of either factor."""
        upper = chi2.ppf(_CONFIDENCE, 2 * (int(self.nominated[radius]) + 1)) / 2
        return _pairs(images) * self._rate(float(upper)) * self.passing

    def _rate(self, count: float) -> float:
        return count / self.pairs if self.pairs else 0.0


def measure_chances(settings: VerdictSettings, seen: Seen, seed: int, threads: int = 1) -> Chances:
    """The chances of wrong pairs, from all pairs of images drawn at random.

    seen: distinct images, neither flat nor repeats

    Pairs that the aligned thumbs call the same are true repeats, and do not count. What different pictures score
    thins out like an exponential towards the border (of Fisher's z, the inverse hyperbolic tangent of the
    correlation), so that the share beyond it can be told from those short of it.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(seen))[:_SAMPLED_IMAGES])
    drawn = seen.of(rows)
    widest = WIDEST_RADIUS if settings.rule == "joint" else MOST_RADIUS
    keys, distances, chunks = [], [], []
    for pairs, _ in nominate(settings, widest, drawn, threads=threads):
        keys.append(np.minimum(pairs.first, pairs.second) * len(drawn) + np.maximum(pairs.first, pairs.second))
        distances.append(pairs.distance)
        chunks.append(pairs)
    if not chunks:
        return Chances(int(_pairs(len(drawn))), np.zeros(MOST_RADIUS + 1, np.int64), 1.0)
    key, distance = np.concatenate(keys), np.concatenate(distances)
    # A pair that several hashes nominate counts once, as near as the nearest of them.
    order = np.lexsort((distance, key))
    first = order[np.concatenate([[True], key[order][1:] != key[order][:-1]])]
    judged = VerdictSettings(rule="joint", correlation_min=settings.correlation_min)
    chosen = np.sort(rng.permutation(first)[:_MOST_SCORED])
    starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
    score = np.empty(len(chosen), np.float32)
    for chunk, start, stop in zip(chunks, starts, starts[1:], strict=False):
        inside = (chosen >= start) & (chosen < stop)
        score[inside] = scores(judged, widest, chunk.of(chosen[inside] - start), drawn, drawn)
    different = score < 0
    share = len(first) / len(chosen)
    counted = np.bincount(distance[chosen[different]], minlength=MOST_RADIUS + 1)[: MOST_RADIUS + 1].cumsum() * share
    passing = 1.0 if settings.rule == "code" else passing_limit(score[different] + settings.correlation_min, settings)
    return Chances(int(_pairs(len(drawn))), counted.astype(np.int64), passing)


def passing_limit(correlations: npt.NDArray[np.floating], settings: VerdictSettings) -> float:
    """How likely two different pictures, once nominated, correlate beyond the border; upper 95 % limit.

    correlations: float[P], of pairs of different pictures, all below settings.correlation_min
    """
    tail = np.arctanh(correlations[correlations > _TAIL_FROM]) - math.atanh(_TAIL_FROM)
    if not len(correlations):
        return 1.0
    share = min(1.0, float(chi2.ppf(_CONFIDENCE, 2 * (len(tail) + 1))) / 2 / len(correlations))
    if not len(tail):
        return share
    slowest = 2 * float(tail.sum()) / float(chi2.ppf(1 - _CONFIDENCE, 2 * len(tail)))
    reach = math.atanh(settings.correlation_min) - math.atanh(_TAIL_FROM)
    seen = slowest = max(slowest, _LEAST_DECAY)
    for _ in range(_ROUNDS):
        # What passed was taken for the same and is not in the tail, so that its mean is too small by this.
        slowest = seen + reach / math.expm1(reach / slowest)
    return share * math.exp(-reach / slowest)


def choose_radius(settings: VerdictSettings, chances: Chances, images: int, removals: int) -> int:
    """The largest radius whose expected wrong removals keep to the settings' share of all removals.

    removals: those found at SURE_RADIUS, or any other count that is surely right

    Radius 0 where even the smallest keeps too little; never so wide that looking at what it nominates takes long.
    """
    if settings.radius != "auto":
        return settings.radius
    widest = WIDEST_RADIUS if settings.rule == "joint" else MOST_RADIUS
    for radius in range(widest, 0, -1):
        wrong = chances.wrong(radius, images)
        few = settings.rule == "code" or chances.nominations(radius, images) <= NOMINATIONS_PER_IMAGE * images
        if few and wrong <= settings.wrong_share_max * (removals + wrong):
            return radius
    return 0


def _pairs(images: int) -> float:
    return images * (images - 1) / 2
