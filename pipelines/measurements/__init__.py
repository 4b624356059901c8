"""The measurements of what the networks learned, by name: each is told what it may use, and gives figures."""

from pipelines.measurements import (
    arithmetic,
    distribution,
    features,
    filters,
    memorisation,
    nearest,
    removal,
    turn,
    walk,
)
from pipelines.measurements.given import Given, Measurement, Readiness
from pipelines.recipe import MeasurementName

__all__ = ["MEASUREMENTS", "Given", "Measurement", "Readiness"]

MEASUREMENTS: dict[MeasurementName, Measurement] = {
    measurement.name: measurement
    for measurement in (
        Measurement("walk", "Latent walk", walk.take, codes=True),
        Measurement("features", "The discriminator's features", features.take, features.check, ("labelled",)),
        Measurement("filters", "What the discriminator's filters see", filters.take, filters.check, shards=True),
        Measurement("removal", "Windows removed", removal.take, removal.check, ("boxes",)),
        Measurement("arithmetic", "Vector arithmetic", arithmetic.take, arithmetic.check, ("attributes",)),
        Measurement("turn", "Turn vector", turn.take, turn.check, ("attributes",)),
        Measurement("memorisation", "Memorisation", memorisation.take, memorisation.check, codes=True, shards=True),
        Measurement("distribution", "Distribution of samples", distribution.take, distribution.check, shards=True),
        Measurement("nearest", "Nearest-neighbour classification", nearest.take, nearest.check, ("labelled",)),
    )
}
