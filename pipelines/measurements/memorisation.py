"""Memorisation."""

from pipelines.measurements.codes import image_codes
from pipelines.measurements.given import Given, Readiness
from training.draws import Stream
from training.evaluation.measured import Measured, Unmeasurable
from training.evaluation.memorisation import memorisation
from training.presets import Preset

_MOST_BYTES = 4 << 30


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


def check_memory(images: int, preset: Preset) -> None:
    """Raise Unmeasurable where so many training images, which are held in memory at once, are over 4 GiB."""
    each_bytes = preset.size_px**2 * preset.image_channels
    if images * each_bytes > _MOST_BYTES:
        raise Unmeasurable(
            f"{images:,} training images of {preset.size_px} px are {images * each_bytes / (1 << 30):.1f} GiB in "
            f"memory, and {_MOST_BYTES >> 30} are allowed; set memorisation.train_images to "
            f"{_MOST_BYTES // each_bytes} or fewer, drawn by the seed: copies of the others then aren't found"
        )


def take(given: Given) -> Measured:
    """Set samples against held-out images by their distance to training images."""
    settings = given.settings.memorisation
    check_memory(given.count("train", settings.train_images), given.subject.preset)
    return memorisation(
        given.subject,
        given.images("train", settings.train_images, Stream.MEMORISATION),
        given.images("heldout", settings.heldout, Stream.MEMORISATION),
        settings,
        None if given.codes is None else image_codes(given.codes),
    )
