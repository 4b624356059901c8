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
from dedup.verdict import PHASH_HANDICAP, Pairs, Seen, VerdictSettings, scores
from manifests.perceptual import VIEWS

_SAMPLED_IMAGES = 4000
_MOST_SCORED = 20_000
# Nominations that have to be looked at cost time: so many an image are about a third of what ingest takes.
NOMINATIONS_PER_IMAGE = 4.0
SURE_RADIUS = PHASH_HANDICAP + 4
"""Where to begin: what is found here is counted as removals that are right."""
WIDEST_RADIUS = 18
BEARABLE_WRONG = 0.5
"""Expected wrong pairs that are no reason for a smaller radius: few repeats leave next to no share to err by."""
# Above this score's correlation the scores of different pictures are taken to thin out exponentially.
_TAIL_FROM = 0.5
# Nor are they taken to thin out faster than those of 46,000 pairs of photos that hash alike did.
_LEAST_DECAY = 0.1
_ROUNDS = 50
_NEAREST = 1000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Chances:
    """What random pairs of different pictures do, for each radius 0 to 24.

    pairs: how many pairs were drawn; nominated: int64[25], of them, within the radius
    passing: how likely a nominated pair of different pictures passes the verdict, upper 95 % limit; with rule code 1
    times: float64[25], how many nominated pairs each that was looked at stands for; all ones where all were
    """

    pairs: int
    nominated: npt.NDArray[np.int64]
    passing: float
    times: npt.NDArray[np.float64] | None = None

    def nominations(self, radius: int, images: int) -> float:
        """Expected pairs of different pictures that the radius nominates among so many images."""
        return _pairs(images) * self._rate(int(self.nominated[radius]))

    def wrong(self, radius: int, images: int) -> float:
        """Expected wrong pairs among so many images; with the upper 95 % limit of either factor."""
        times = 1.0 if self.times is None else float(self.times[radius])
        upper = times * chi2.ppf(_CONFIDENCE, 2 * (int(self.nominated[radius]) / times + 1)) / 2
        return _pairs(images) * self._rate(float(upper)) * self.passing

    def _rate(self, count: float) -> float:
        return count / self.pairs if self.pairs else 0.0


def measure_chances(settings: VerdictSettings, seen: Seen, seed: int, threads: int = 1) -> Chances:
    """The chances of wrong pairs, from all pairs of images drawn at random.

    seen: distinct images, neither flat nor repeats

    Pairs that the aligned thumbs call the same are taken for true repeats, and do not count: what the verdict itself
    gets wrong is told from those that it only just refuses. What different pictures score is taken to thin out like an
    exponential towards the border (of Fisher's z, the inverse hyperbolic tangent of the correlation). Only judging
    pairs by eye tests that.
    """
    rng = np.random.default_rng(seed)
    drawn = seen.of(np.sort(rng.permutation(len(seen))[:_SAMPLED_IMAGES]))
    nominated = _nearest(settings, drawn, threads)
    count = int(_pairs(len(drawn)))
    if not len(nominated):
        return Chances(count, np.zeros(MOST_RADIUS + 1, np.int64), 1.0)
    # The near ones are few and count most: only of those further off is a part looked at.
    order = np.lexsort((rng.random(len(nominated)), nominated.distance))
    chosen, times = nominated.of(np.sort(order[:_MOST_SCORED])), np.ones(MOST_RADIUS + 1)
    if len(nominated) > _MOST_SCORED:
        near = int(nominated.distance[order[_MOST_SCORED]])
        whole = order[nominated.distance[order] < near]
        part = order[len(whole) :]
        taken = part[rng.permutation(len(part))[: max(1, _MOST_SCORED - len(whole))]]
        chosen = nominated.of(np.sort(np.concatenate([whole, taken])))
        times[near:] = len(part) / len(taken)
    judged = VerdictSettings(rule="joint", correlation_min=settings.correlation_min)
    score = scores(judged, MOST_RADIUS, chosen, drawn, drawn)
    distance, correlation = chosen.distance[score < 0], score[score < 0] + settings.correlation_min
    each = np.bincount(distance, minlength=MOST_RADIUS + 1)[: MOST_RADIUS + 1]
    passing = 1.0
    if settings.rule == "joint" and len(distance):
        # Pictures whose hashes are nearer are more alike: the higher limit is taken, of all and of the nearest.
        nearest = correlation[np.argsort(distance, kind="stable")[:_NEAREST]]
        passing = max(passing_limit(correlation, settings), passing_limit(nearest, settings))
    return Chances(count, np.rint((each * times).cumsum()).astype(np.int64), passing, times)


def _nearest(settings: VerdictSettings, drawn: Seen, threads: int) -> Pairs:
    """Each pair that is nominated once, as by the nearest hashes; of equally near ones, always the same."""
    widest = WIDEST_RADIUS if settings.rule == "joint" else MOST_RADIUS
    keys = np.empty((0, 2), np.int64)
    for pairs, _ in nominate(settings, widest, drawn, threads=threads):
        low, high = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
        how = (pairs.distance.astype(np.int64) * len(VIEWS) + pairs.view) * 4 + pairs.mirrored * 2
        keys = np.concatenate([keys, np.stack([low * len(drawn) + high, how + (pairs.first > pairs.second)], axis=1)])
        keys = keys[np.lexsort((keys[:, 1], keys[:, 0]))]
        keys = keys[np.concatenate([[True], keys[1:, 0] != keys[:-1, 0]])]
    low, high = np.divmod(keys[:, 0], max(1, len(drawn)))
    swapped, mirrored = keys[:, 1] % 2 == 1, keys[:, 1] // 2 % 2 == 1
    distance, view = np.divmod(keys[:, 1] // 4, len(VIEWS))
    return Pairs(
        np.where(swapped, high, low),
        np.where(swapped, low, high),
        distance.astype(np.uint8),
        mirrored,
        view.astype(np.uint8),
    )


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
    """The largest radius whose expected wrong removals keep to the settings' share of all, or to half an image.

    removals: those found at SURE_RADIUS, or any other count that is surely right

    Radius 0 where even the smallest keeps too little; never so wide that looking at what it nominates takes long.
    """
    if settings.radius != "auto":
        return settings.radius
    widest = WIDEST_RADIUS if settings.rule == "joint" else MOST_RADIUS
    for radius in range(widest, 0, -1):
        wrong = chances.wrong(radius, images)
        few = settings.rule == "code" or chances.nominations(radius, images) <= NOMINATIONS_PER_IMAGE * images
        if few and wrong <= max(settings.wrong_share_max * (removals + wrong), BEARABLE_WRONG):
            return radius
    return 0


def _pairs(images: int) -> float:
    return images * (images - 1) / 2
