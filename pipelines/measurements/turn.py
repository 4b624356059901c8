"""The turn vector."""

from pipelines.measurements.given import Given, Readiness
from pipelines.measurements.judge import check_judged, drawer, judge, read_exemplars, samples_needed
from training.draws import Stream
from training.evaluation.measured import Measured
from training.evaluation.turn import measure_turn
from training.samples import fixed_z


def check(ready: Readiness) -> None:
    """Raise Unmeasurable where there is nothing to choose exemplars by."""
    check_judged(ready, ready.settings.turn, "turn")


def take(given: Given) -> Measured:
    """Turn new samples of the checkpoint along the axis between two concepts."""
    settings, subject = given.settings.turn, given.subject
    chosen = read_exemplars(given, settings)
    judged = judge(given, settings, "turn")
    classifier = None if judged is None else judged[0]
    # The samples to choose among are those of the arithmetic, so one page of exemplars serves both.
    z = fixed_z(subject.preset, subject.seed, samples_needed(chosen, settings.pool), Stream.ARITHMETIC)
    new = fixed_z(subject.preset, subject.seed, settings.samples, Stream.TURN)
    return measure_turn(drawer(given), z, new, settings, subject.seed, classifier, chosen, subject.say)
