"""How unlike real pictures a picture is, to a network that knows what matters in them."""

import numpy as np
import numpy.typing as npt

from training.evaluation.attributes import AttributeClassifier, Floats
from training.samples import Images

_MOST_REAL = 4000
_MOST_SAMPLES = 500
_CHUNK_IMAGES = 256


def nearest_distances(features: Floats, others: Floats) -> npt.NDArray[np.float64]:
    """The Euclidean distance of each row to the nearest of the others. float32[N, F], float32[M, F] -> float64[N]."""
    other = others.astype(np.float64)
    squares = np.square(other).sum(axis=1)
    found = []
    for start in range(0, len(features), _CHUNK_IMAGES):
        rows = features[start : start + _CHUNK_IMAGES].astype(np.float64)
        apart = np.square(rows).sum(axis=1)[:, None] - 2 * rows @ other.T + squares
        found.append(np.sqrt(np.clip(apart, 0, None).min(axis=1)))
    return np.concatenate(found)


class Strangeness:
    """The distance of pictures to the nearest real one in the classifier's features; 1 is an ordinary sample's.

    A classifier can be sure of an attribute in a picture that is no face at all. So this says whether what it judged
    was still near what it knows.

    real, samples: uint8[N, H, W, C].
    """

    def __init__(self, classifier: AttributeClassifier, real: Images, samples: Images) -> None:
        self._classifier = classifier
        self._real = classifier.features(real[:_MOST_REAL])
        self._ordinary = float(np.median(self._distances(samples[:_MOST_SAMPLES])))

    def of(self, images: Images) -> float:
        """The median over pictures, in units of the samples' median. images: uint8[N, H, W, C]."""
        return float(np.median(self._distances(images))) / max(self._ordinary, 1e-12)

    def _distances(self, images: Images) -> npt.NDArray[np.float64]:
        return nearest_distances(self._classifier.features(images), self._real)
