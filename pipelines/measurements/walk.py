"""The latent walk."""

from pipelines.measurements.given import Given
from training.evaluation.measured import Measured
from training.evaluation.walk import latent_walk


def take(given: Given) -> Measured:
    """Walk between random points of the checkpoint's latent space."""
    return latent_walk(given.subject, given.settings.walk)
