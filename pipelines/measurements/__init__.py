"""The measurements of what the networks learned, by name. Each is told what it may use, and gives figures and pictures."""

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

__all__ = ["MEASUREMENTS", "Given", "Measurement", "Readiness"]

MEASUREMENTS: dict[str, Measurement] = {
    measurement.name: measurement
    for measurement in (
        Measurement("walk", "Latent walk", walk.take),
        Measurement("features", "The discriminator's features", features.take, features.check),
        Measurement("filters", "What the discriminator's filters see", filters.take, filters.check),
        Measurement("removal", "Windows removed", removal.take, removal.check),
        Measurement("arithmetic", "Vector arithmetic", arithmetic.take, arithmetic.check),
        Measurement("turn", "Turn vector", turn.take, turn.check),
        Measurement("memorisation", "Memorisation", memorisation.take, memorisation.check),
        Measurement("distribution", "Distribution of samples", distribution.take, distribution.check),
        Measurement("nearest", "Nearest-neighbour classification", nearest.take, nearest.check),
    )
}
