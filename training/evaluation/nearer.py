"""Whether one set of distances is smaller than another: rank tests, and one that looks at the smallest alone."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Floats = npt.NDArray[np.float64]
Verdict = Literal["memorised", "not", "no power"]
NEAR = 0.05  # a sample is near where it is nearer than this share of the held-out
SHARES = (0.01, NEAR)


@dataclass(frozen=True)
class Floor:
    """How near the nearest of the held-out images are.

    distance: that of the `rank`-th nearest (from 1) of `count` held-out images
    """

    distance: float
    rank: int
    count: int

    def share(self, samples: Floats) -> float:
        """The share of samples that are nearer; those as near don't count."""
        return float((samples < self.distance).mean())


@dataclass(frozen=True)
class Rule:
    """When samples count as nearer than held-out images: more than `times` as many are near, by no chance."""

    times: float
    significance: float

    def needed(self, samples: int, floor: Floor) -> int:
        """How many samples have to be below the floor; more than there are where too few can tell anything."""
        by_share = int(self.times * floor.rank / floor.count * samples) + 1
        return max(by_share, least_beyond_chance(samples, floor.count, floor.rank, self.significance))

    def met(self, samples: Floats, floor: Floor) -> bool:
        """Whether the samples at these distances are nearer."""
        return int((samples < floor.distance).sum()) >= self.needed(len(samples), floor)


def equally_weighted(weights: npt.NDArray[np.integer]) -> int:
    """How many equally weighted images say as much as these: sum(w)^2 / sum(w^2) (Kish 1965)."""
    w = weights.astype(np.float64)
    return int(w.sum() ** 2 / np.square(w).sum() + 1e-9)


def floor_of(heldout: Floats, share: float = NEAR, weights: npt.NDArray[np.integer] | None = None) -> Floor | None:
    """The distance below which a share of the held-out ones lie; None where the share is less than one image.

    weights: how often each of them counts; the floor's count is then that of `equally_weighted`.
    """
    w = np.ones(len(heldout), np.int64) if weights is None else weights
    count = equally_weighted(w)
    rank = int(share * count + 1e-9)
    if not rank:
        return None
    order = np.argsort(heldout, kind="stable")
    reached = np.cumsum(w[order]) / w.sum()
    return Floor(float(heldout[order[np.searchsorted(reached, rank / count - 1e-12)]]), rank, count)


def precedence(samples: int, heldout: int, rank: int, nearer: int) -> float:
    """The chance that so many samples, or more, lie below the `rank`-th smallest of the held-out, if both are alike.

    Exact for distances without ties, whatever their distribution; with ties, which don't count as below, it errs on
    the side of the larger chance.

    Source: Nelson 1963, the precedence test: the count is negative hypergeometric.
    """
    j = np.arange(nearer, samples + 1, dtype=np.float64)
    log = _log_choose(j + rank - 1, j) + _log_choose(samples - j + heldout - rank, samples - j)
    return float(min(1.0, np.exp(special.logsumexp(log - _log_choose(samples + heldout, samples)))))


def least_beyond_chance(samples: int, heldout: int, rank: int, significance: float) -> int:
    """How many samples at least must lie below the `rank`-th held-out one for the chance to be under `significance`.

    `samples + 1` where no number is enough: too few images.
    """
    low, high = 0, samples + 1
    while low < high:
        middle = (low + high) // 2
        if precedence(samples, heldout, rank, middle) < significance:
            high = middle
        else:
            low = middle + 1
    return low


def overall(verdicts: list[Verdict]) -> Verdict:
    """The verdict in all, of those in each space.

    One space alone may mistake a kind of pictures for copies: smooth samples, for one, come near to the few training
    images in which a discriminator's filters find as little.
    """
    able = [verdict for verdict in verdicts if verdict != "no power"]
    if not able:
        return "no power"
    return "memorised" if 2 * able.count("memorised") > len(able) else "not"


def least_share(spaces: list[tuple[Verdict, float | None]]) -> float | None:
    """The least share of copies among the samples that is called memorised in all; None where no space has power.

    spaces: each one's verdict, and the least share that it would call so; None where no share is enough.
    """
    able = sorted(1.0 if share is None else share for verdict, share in spaces if verdict != "no power")
    return able[len(able) // 2] if able else None  # of the space that makes up the majority


def below(samples: Floats, floor: Floor, name: str) -> dict[str, float]:
    """The share of samples below a floor, the chance of as many or more, and the floor's rank and count."""
    count = int((samples < floor.distance).sum())
    chance = precedence(len(samples), floor.count, floor.rank, count)
    return {
        f"share_below_{name}": round(floor.share(samples), 4),
        f"p_below_{name}": _digits(chance),
        f"rank_{name}": floor.rank,
        f"count_{name}": floor.count,
    }


def compared(samples: Floats, heldout: Floats) -> dict[str, Any]:
    """The distances of samples against those of held-out images.

    share_below_5, share_below_1: of the samples, nearer than the nearest 5 or 1 % of the held-out; p_below_5, ...: how
    likely as many or more are if both sets were alike (`precedence`); rank_5, count_5, ...: that nearest one's number,
    and of how many. Left out where the share is less than one image
    nearer: the chance that a sample is nearer than a held-out image (ties count half): 0.5 if alike; p_nearer:
    Mann-Whitney, one-sided
    ks, p_ks: the largest difference of the two distributions (Kolmogorov-Smirnov, two-sided)
    """
    figures: dict[str, Any] = {
        "median_samples": _digits(np.median(samples)),
        "median_heldout": _digits(np.median(heldout)),
    }
    for share in SHARES:
        floor = floor_of(heldout, share)
        if floor is not None:
            figures |= below(samples, floor, f"{round(100 * share)}")
    ranks = stats.mannwhitneyu(samples, heldout, alternative="less")
    figures["nearer"] = round(1 - float(ranks.statistic) / (len(samples) * len(heldout)), 4)
    figures["p_nearer"] = _digits(ranks.pvalue)
    both = stats.ks_2samp(samples, heldout, method="asymp")
    return figures | {"ks": round(float(both.statistic), 4), "p_ks": _digits(both.pvalue)}


def _log_choose(n: npt.ArrayLike, k: npt.ArrayLike) -> Floats:
    n, k = np.asarray(n, np.float64), np.asarray(k, np.float64)
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))


def _digits(value: Any) -> float:
    return float(f"{float(value):.4g}")
