"""Nearest-neighbour classification."""

from pipelines.labelled.classes import check_labelled, read_labelled
from pipelines.measurements.given import Given, Readiness
from training.evaluation.measured import Measured, Unmeasurable
from training.evaluation.nearest import nearest_classification


def check(ready: Readiness) -> None:
    """Raise Unmeasurable where the generator can't be asked for a class, or no pictures with classes are named."""
    if not ready.preset.classes:
        raise Unmeasurable(
            f"the generator of preset {ready.preset.name} can't be asked for a class; train one that can, such as "
            "mnist-28-conditional (recipe mnist_conditional)"
        )
    if ready.settings.labelled is None:
        raise Unmeasurable("real pictures with classes are needed; name them in evaluate.labelled")
    check_labelled(ready.settings.labelled)


def take(given: Given) -> Measured:
    """Classify real test pictures by their nearest generated ones."""
    preset, settings = given.subject.preset, given.settings
    assert settings.labelled is not None
    train, test = read_labelled(settings.labelled, preset.size_px, preset.image_channels)
    if len(train.classes) != preset.classes:
        raise Unmeasurable(
            f"evaluate.labelled has {len(train.classes)} classes, the generator {preset.classes}; name the pictures "
            "that it was trained on"
        )
    return nearest_classification(
        given.subject, (train.images, train.labels), (test.images, test.labels), train.classes, settings.nearest
    )
