"""Memorisation."""

from pipelines.measurements.codes import image_codes
from pipelines.measurements.given import Given, Readiness
from training.draws import Stream
from training.evaluation.measured import Measured, Unmeasurable
from training.evaluation.memorisation import memorisation


def check(ready: Readiness) -> None:
    """Raise Unmeasurable where the training images aren't known, or the only space asked for isn't."""
    if not ready.has_shards:
        raise Unmeasurable(
            "memorisation is measured against the images that the networks were trained on: name a run, or its shards "
            "with --shards"
        )
    if ready.settings.memorisation.spaces == ("code",) and not ready.has_codes:
        raise Unmeasurable(
            "memorisation.spaces=[code] needs a run's autoencoder: name a run, or add pixels or features"
        )


def take(given: Given) -> Measured:
    """Set samples against held-out images by their distance to training images."""
    settings = given.settings.memorisation
    return memorisation(
        given.subject,
        given.images("train", settings.train_images, Stream.MEMORISATION),
        given.images("heldout", settings.heldout, Stream.MEMORISATION),
        settings,
        None if given.codes is None else image_codes(given.codes),
    )
