"""Vector arithmetic."""

from pipelines.measurements.given import Given, Readiness
from pipelines.measurements.judge import check_judged, drawer, judge, read_exemplars, samples_needed
from training.draws import Stream
from training.evaluation.arithmetic import measure_arithmetic
from training.evaluation.measured import Measured, Unmeasurable
from training.samples import fixed_z


def check(ready: Readiness) -> None:
    """Raise Unmeasurable where there is nothing to choose exemplars by, or no sums of those chosen by hand."""
    settings = ready.settings.arithmetic
    check_judged(ready, settings, "arithmetic")
    if ready.settings.attributes is None and settings.formulas is None:
        raise Unmeasurable(
            "exemplars chosen by hand need arithmetic.formulas, such as [{name: N, a: {name: A}, b: {name: B}, c: "
            "{name: C}}] with the names that the concepts have in the file"
        )


def take(given: Given) -> Measured:
    """Add and subtract concepts in the latent space of the checkpoint."""
    settings, subject = given.settings.arithmetic, given.subject
    chosen = read_exemplars(given, settings)
    judged = judge(given, settings, "arithmetic")
    classifier, real = judged or (None, None)
    z = fixed_z(subject.preset, subject.seed, samples_needed(chosen, settings.pool), Stream.ARITHMETIC)
    return measure_arithmetic(drawer(given), z, settings, subject.seed, classifier, real, chosen, subject.say)
