"""Who chooses exemplars and judges what comes of them: a classifier of attributes, a person, or both."""

from collections.abc import Callable
from typing import Protocol

from pipelines.labelled.attributes import check_attributed, read_attributed
from pipelines.labelled.there import check_there
from pipelines.measurements.given import Given, Readiness
from training.evaluation.attributes import AttributeClassifier, ClassifierSettings, binary_attributes, fit_attributes
from training.evaluation.exemplars import Chosen, Floats, check_chosen, read_chosen
from training.evaluation.measured import Unmeasurable
from training.samples import Images, generate


class ExemplarSettings(Protocol):
    """What the settings of measurements that need exemplars have in common."""

    @property
    def exemplars(self) -> str | None:
        """A file of exemplars chosen by hand."""

    @property
    def classifier(self) -> ClassifierSettings:
        """How the classifier is trained."""


def check_judged(ready: Readiness, settings: ExemplarSettings, name: str) -> None:
    """Raise Unmeasurable where neither pictures with attributes nor exemplars chosen by hand are named, or there.

    Or where the exemplars are of another seed, or of another checkpoint than one that is there already.
    Neither can it be measured where the generator is told a class: what is added would be labels too.
    """
    if ready.preset.classes:
        raise Unmeasurable(
            f"{name} adds and subtracts z, and this generator is told one of {ready.preset.classes} classes beside it; "
            "take a checkpoint of a training without classes"
        )
    if ready.settings.attributes is not None:
        check_attributed(ready.settings.attributes)
    if settings.exemplars is not None:
        check_there(
            {f"{name}.exemplars": settings.exemplars},
            hint="make a page with dcgan exemplars CHECKPOINT --out page.html, choose, and save",
        )
        chosen = read_chosen(settings.exemplars)
        if ready.seed is not None:
            check_chosen(chosen, None if ready.checkpoint is None else ready.checkpoint(), ready.seed)
    elif ready.settings.attributes is None:
        raise Unmeasurable(
            "exemplars are chosen, and the results judged, by a classifier: set evaluate.attributes to pictures with "
            f"attributes. For pictures without figures choose exemplars by hand: dcgan exemplars CHECKPOINT --out "
            f"page.html, and set {name}.exemplars to the file that it saves"
        )


def read_exemplars(given: Given, settings: ExemplarSettings) -> Chosen | None:
    """The exemplars chosen by hand, of this generator and seed; None where none are named."""
    if settings.exemplars is None:
        return None
    chosen = read_chosen(settings.exemplars)
    check_chosen(chosen, given.subject.checkpoint, given.subject.seed)
    return chosen


def judge(given: Given, settings: ExemplarSettings, name: str) -> tuple[AttributeClassifier, Images] | None:
    """The classifier, and the pictures that it was trained on; None where no pictures with attributes are named.

    Raises:
        Unmeasurable: the pictures don't suffice to train it.
    """
    if given.settings.attributes is None:
        return None
    subject = given.subject
    attributed = read_attributed(given.settings.attributes, subject.preset.size_px, subject.preset.image_channels)
    values, names = binary_attributes(attributed.values, attributed.names)
    if not names:
        raise Unmeasurable(f"evaluate.attributes: of {', '.join(attributed.names)} none is 0 or 1 in each picture")
    subject.say(f"{name}: a classifier of {', '.join(names)} on {len(attributed.images):,} pictures")
    try:
        classifier = fit_attributes(
            attributed.images, values, names, settings.classifier, subject.seed, device=subject.device
        )
    except ValueError as error:
        raise Unmeasurable(f"evaluate.attributes: {error}") from error
    return classifier, attributed.images


def drawer(given: Given) -> Callable[[Floats], Images]:
    """Makes pictures of z with standing statistics of the seed: what the page of dcgan exemplars shows too."""
    return lambda z: generate(given.subject.generator, z, "standing", given.subject.seed)


def samples_needed(chosen: Chosen | None, pool: int) -> int:
    """How many samples to make, so that each exemplar chosen by hand is among them."""
    if chosen is None:
        return pool
    return max((max(numbers, default=1) for numbers in chosen.concepts.values()), default=1)
