"""What the filters see."""

from pipelines.measurements.given import Given, Readiness
from training.draws import Stream
from training.evaluation.filters import filters
from training.evaluation.measured import Measured, Unmeasurable


def check(ready: Readiness) -> None:
    """Raise Unmeasurable where there are no shards."""
    if not ready.has_shards:
        raise Unmeasurable("filters looks at held-out pictures: name a run, or the shards with --shards")


def take(given: Given) -> Measured:
    """Look through held-out pictures for what the discriminator's last convolution answers to."""
    settings = given.settings.filters
    return filters(given.subject, given.images("heldout", settings.images, Stream.FILTERS), settings)
