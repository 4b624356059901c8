"""The rule that sets itself: how often different pictures are nominated and pass, and what that means at N images.

Wrong pairs grow with the square of the images, removals only with the images, so a radius and a border that are right
for 10,000 are too lax for 3 million.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from dedup.bands import MOST_RADIUS
from dedup.nominate import nominate
from dedup.tail import ALIKE, Tail, fit_tail
from dedup.verdict import PHASH_HANDICAP, Pairs, Seen, VerdictSettings, scores
from manifests.perceptual import VIEWS

# Near hashes are rare, and count most: they take many images to be seen at all, and few to be looked at.
_NEAR_RADIUS, _NEAR_IMAGES = 10, 100_000
_FAR_IMAGES = 12_000
_MOST_SCORED = 20_000
# Nominations that have to be looked at cost time: so many an image are about a third of what ingest takes.
NOMINATIONS_PER_IMAGE = 4.0
SURE_RADIUS = PHASH_HANDICAP + 4
"""Where to begin: what is found here is counted as removals that are right."""
WIDEST_RADIUS = 18
BEARABLE_WRONG = 0.5
"""Expected wrong pairs that are no reason for a stricter rule: few repeats leave next to no share to err by."""
HIGHEST_BORDER = 0.98
_BORDER_STEP = 0.01
_NEAREST = 1000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Chances:
    """What random pairs of different pictures do, for each radius 0 to 24.

    pairs: int64[25], how many pairs were drawn; nominated: int64[25], of them, within the radius
    tails: of each radius, how likely a nominated pair of different pictures passes a border; None with rule code, where
        each passes
    times: float64[25], how many nominated pairs each that was looked at stands for; all ones where all were
    """

    pairs: npt.NDArray[np.int64]
    nominated: npt.NDArray[np.int64]
    tails: tuple[Tail, ...] | None
    times: npt.NDArray[np.float64]

    def nominations(self, radius: int, images: int) -> float:
        """Expected pairs of different pictures that the radius nominates among so many images."""
        return _pairs(images) * self._rate(radius, int(self.nominated[radius]))

    def passing(self, radius: int, border: float) -> float:
        """How likely a nominated pair of different pictures correlates by the border or more, upper 95 % limit."""
        return 1.0 if self.tails is None else self.tails[radius].beyond(border)

    def wrong(self, radius: int, border: float, images: int) -> float:
        """Expected wrong pairs among so many images; with the upper 95 % limit of either factor.

        No less than at any smaller radius, whose pairs are among these.
        """
        return _pairs(images) * max(
            self._rate(at, float(self._upper[at])) * self.passing(at, border) for at in range(radius + 1)
        )

    @cached_property
    def _upper(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.times * chi2.ppf(_CONFIDENCE, 2 * (self.nominated / self.times + 1)) / 2)

    def _rate(self, radius: int, count: float) -> float:
        pairs = int(self.pairs[radius])
        return count / pairs if pairs else 0.0


def measure_chances(settings: VerdictSettings, seen: Seen, seed: int, threads: int = 1) -> Chances:
    """The chances of wrong pairs, from all pairs of images drawn at random.

    seen: distinct images, neither flat nor repeats

    Pairs that the aligned thumbs call alike are taken for true repeats, or near misses of such, and do not count: what
    the verdict itself gets wrong is told from those further down (`dedup.tail`). Only judging pairs by eye tests that.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(seen))
    far = _measured(settings, seen.of(np.sort(order[:_FAR_IMAGES])), _widest(settings), rng, threads)
    if len(seen) <= _FAR_IMAGES:
        return far
    near = _measured(settings, seen.of(np.sort(order[:_NEAR_IMAGES])), _NEAR_RADIUS, rng, threads)
    split = _NEAR_RADIUS + 1
    return Chances(
        np.concatenate([near.pairs[:split], far.pairs[split:]]),
        np.concatenate([near.nominated[:split], far.nominated[split:]]),
        None if near.tails is None or far.tails is None else near.tails[:split] + far.tails[split:],
        np.concatenate([near.times[:split], far.times[split:]]),
    )


def _measured(settings: VerdictSettings, drawn: Seen, widest: int, rng: np.random.Generator, threads: int) -> Chances:
    """The chances by all pairs of the images drawn, up to one radius."""
    nominated = _nearest(settings, drawn, widest, threads)
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
    correlation = scores(judged, MOST_RADIUS, chosen, drawn, drawn) + judged.correlation_min
    # Where each nominated pair passes, only true repeats are to be left out.
    different = correlation < (ALIKE if settings.rule == "joint" else judged.correlation_min)
    distance, correlation = chosen.distance[different], correlation[different]
    each = np.bincount(distance, minlength=MOST_RADIUS + 1)[: MOST_RADIUS + 1]
    return Chances(
        np.full(MOST_RADIUS + 1, int(_pairs(len(drawn)))),
        np.rint((each * times).cumsum()).astype(np.int64),
        _tails(distance, correlation) if settings.rule == "joint" else None,
        times,
    )


def _widest(settings: VerdictSettings) -> int:
    return WIDEST_RADIUS if settings.rule == "joint" else MOST_RADIUS


def _tails(distance: npt.NDArray[np.uint8], correlation: npt.NDArray[np.float32]) -> tuple[Tail, ...]:
    """Of each radius: pictures whose hashes are nearer are more alike. Of few pairs little is known: the nearest."""
    order = np.argsort(distance, kind="stable")
    counts = np.searchsorted(distance[order], np.arange(MOST_RADIUS + 1), side="right")
    enough = np.clip(counts, min(_NEAREST, len(order)), None).tolist()
    of_count = {count: fit_tail(correlation[order[:count]]) for count in set(enough)}
    return tuple(of_count[count] for count in enough)


def _nearest(settings: VerdictSettings, drawn: Seen, widest: int, threads: int) -> Pairs:
    """Each pair that is nominated once, as by the nearest hashes; of equally near ones, always the same."""
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


@dataclass(frozen=True)
class Found:
    """What is known before the radius and the border are chosen.

    removals: those that no border touches, such as of equal hashes and thumbs
    joined: float32[J], what the pairs correlate that would be removed beside them, found within SURE_RADIUS
    planted_distance, planted_correlation: uint8[P], float32[P], of planted near-duplicates and their source
    """

    removals: int
    joined: npt.NDArray[np.float32]
    planted_distance: npt.NDArray[np.uint8]
    planted_correlation: npt.NDArray[np.float32]

    def removed(self, border: float) -> int:
        """How many images are surely removed with a border."""
        return self.removals + int(np.count_nonzero(self.joined >= border))

    def recall(self, radius: int, border: float) -> float:
        """The share of planted near-duplicates within the radius and beyond the border; 0 where none are planted."""
        if not len(self.planted_distance):
            return 0.0
        return float(np.mean((self.planted_distance <= radius) & (self.planted_correlation >= border)))


@dataclass(frozen=True)
class Choice:
    """The radius and the border to judge by."""

    radius: int
    border: float


def choose(settings: VerdictSettings, chances: Chances, images: int, found: Found, times: float = 1.0) -> Choice:
    """The radius and the border that find most of what was planted, with few enough wrong pairs.

    Expected wrong removals keep to the settings' share of all, or to half an image. `times`: so many times what was
    removed is expected to be removed among `images`.

    A border is settings.correlation_min or higher. Of each the largest radius counts that keeps the share and does not
    nominate so many pairs that looking at them takes long. Radius 0 and the highest border where none keeps the share.
    """
    if settings.radius != "auto":
        return Choice(settings.radius, settings.correlation_min)
    keeping = []
    for border in _borders(settings):
        for radius in range(_widest(settings), -1, -1):
            if _keeps(settings, chances, images, found.removed(border) * times, radius, border):
                keeping.append((Choice(radius, border), found.recall(radius, border)))
                break
    if not keeping:
        return Choice(0, _borders(settings)[-1])
    # Of equals the first, whose border is the lowest: copies that are changed more than planted ones correlate less.
    return max(keeping, key=lambda kept: kept[1])[0]


def _borders(settings: VerdictSettings) -> list[float]:
    """From the settings' own up; with rule code there is none to raise."""
    if settings.rule == "code":
        return [settings.correlation_min]
    steps = np.arange(settings.correlation_min, max(HIGHEST_BORDER, settings.correlation_min) + 1e-9, _BORDER_STEP)
    return [round(float(border), 6) for border in steps]


def _keeps(
    settings: VerdictSettings, chances: Chances, images: int, removals: float, radius: int, border: float
) -> bool:
    wrong = chances.wrong(radius, border, images)
    few = settings.rule == "code" or chances.nominations(radius, images) <= NOMINATIONS_PER_IMAGE * images
    return few and wrong <= max(settings.wrong_share_max * (removals + wrong), BEARABLE_WRONG)


def _pairs(images: int) -> float:
    return images * (images - 1) / 2
