"""What the filters see."""

from pipelines.measurements.given import Given, Readiness
from training.evaluation.measured import Measured, Unmeasurable


def check(ready: Readiness) -> None:
    """Raise Unmeasurable where something that is needed isn't there."""
    raise Unmeasurable("not built yet")


def take(given: Given) -> Measured:
    """Not built yet."""
    raise NotImplementedError
