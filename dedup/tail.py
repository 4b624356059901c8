"""How likely different pictures, once nominated, correlate beyond a border that next to none of them reach."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

TAIL_FROM = 0.4
ALIKE = 0.75
"""Pairs that correlate more are left out: among them are near misses of true copies, more with every step upwards."""
# Tails are not taken to thin out faster than those of 46,000 pairs of photos that hash alike did, nor to be flat.
LEAST_DECAY, MOST_DECAY = 0.1, 1.0
_CONFIDENCE = 0.95
_FEWEST = 100
_DECAYS = np.geomspace(LEAST_DECAY, MOST_DECAY, 200)


@dataclass(frozen=True)
class Tail:
    """The upper end of different pictures' correlations.

    share: of them that correlate by TAIL_FROM to ALIKE, upper 95 % limit
    decay: how slowly they thin out towards 1, upper 95 % limit; of Fisher's z, the inverse hyperbolic tangent
    """

    share: float
    decay: float

    def beyond(self, border: float) -> float:
        """How likely a pair correlates by `border` or more; `border` above ALIKE."""
        low, high = math.atanh(TAIL_FROM), math.atanh(ALIKE)
        in_window = 1 - math.exp(-(high - low) / self.decay)
        return min(1.0, self.share / in_window * math.exp(-(math.atanh(border) - low) / self.decay))


USUAL = Tail(0.23, 0.43)
"""Of 1,300 pairs of different photos, of 60,000 at 32x32, whose hashes are within 10 bits: little detail, so alike."""


def fit_tail(correlations: npt.NDArray[np.floating]) -> Tail:
    """The tail of different pictures' correlations, which are taken to thin out exponentially, in Fisher's z.

    correlations: float[P], below ALIKE

    The decay is the slowest that the likelihood of a cut exponential does not rule out. USUAL where there are too few
    pairs to tell by.
    """
    if len(correlations) < _FEWEST:
        return USUAL
    window = math.atanh(ALIKE) - math.atanh(TAIL_FROM)
    excess = np.arctanh(correlations[correlations >= TAIL_FROM]) - math.atanh(TAIL_FROM)
    share = min(1.0, float(chi2.ppf(_CONFIDENCE, 2 * (len(excess) + 1))) / 2 / len(correlations))
    likelihood = -len(excess) * np.log(_DECAYS * -np.expm1(-window / _DECAYS)) - excess.sum() / _DECAYS
    # One side of the interval of a likelihood ratio (Wilks 1938).
    ruled_out = chi2.ppf(2 * _CONFIDENCE - 1, 1) / 2
    return Tail(share, float(_DECAYS[likelihood >= likelihood.max() - ruled_out].max()))
