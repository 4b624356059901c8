"""Distribution of samples."""

from pipelines.labelled.there import check_there
from pipelines.measurements.given import Given, Readiness, measurable
from training.draws import Stream
from training.evaluation.distribution import distribution
from training.evaluation.inception import check_inception
from training.evaluation.measured import Measured, Unmeasurable


def check(ready: Readiness) -> None:
    """Raise Unmeasurable where there are no real images, or FID was asked for and can't be had."""
    if not ready.has_shards:
        raise Unmeasurable("samples are set against real images: name a run, or its shards with --shards")
    weights = ready.settings.distribution.inception_weights
    if weights is not None:
        check_there({"distribution.inception_weights": weights})
        check_inception(weights)


def take(given: Given) -> Measured:
    """Compare samples with training images; as a control held-out ones, or, if these are few, other training images.

    Few are less than half as many as `distribution.images` asks for.
    """
    settings = given.settings.distribution
    heldout = given.images("heldout", settings.images, Stream.DISTRIBUTION)
    if 2 * len(heldout) >= settings.images:
        train = given.images("train", settings.images, Stream.DISTRIBUTION)
        count = min(len(train), len(heldout))
        with measurable():
            return distribution(given.subject, train[:count], heldout[:count], settings)
    train = given.images("train", 2 * settings.images, Stream.DISTRIBUTION)
    count = len(train) // 2
    with measurable():
        return distribution(given.subject, train[:count], train[count : 2 * count], settings, "other training images")
