"""The latent walk."""

from pipelines.measurements.codes import image_codes
from pipelines.measurements.given import Given
from training.evaluation.measured import Measured
from training.evaluation.walk import latent_walk


def take(given: Given) -> Measured:
    """Walk between random points of the checkpoint's latent space."""
    codes = None if given.codes is None else image_codes(given.codes)
    return latent_walk(given.subject, given.settings.walk, codes)
