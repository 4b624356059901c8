"""Windows removed."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipelines.labelled.boxes import check_boxed, read_boxed, read_json
from pipelines.labelled.there import check_there
from pipelines.measurements.given import Given, Readiness
from training.evaluation.detector import LEAST_PICTURES
from training.evaluation.measured import Measured, Unmeasurable
from training.evaluation.removal import removal
from training.plan import generator_plan


def check(ready: Readiness) -> None:
    """Raise Unmeasurable where there are no pictures with boxes, or the settings don't fit the network."""
    settings = ready.settings.removal
    if ready.settings.boxes is None:
        raise Unmeasurable(
            "removal learns from pictures with boxes what it removes: set evaluate.boxes.kind to drawn_rooms, or to "
            "json with path and boxes"
        )
    layers = len(generator_plan(ready.preset)) - 1
    if settings.layer > layers:
        raise Unmeasurable(f"removal.layer={settings.layer}: {layers} layers hand on maps; give 1 to {layers}")
    check_boxed(ready.settings.boxes)
    if settings.drawn is not None:
        check_there({"removal.drawn": settings.drawn})
        _by_number(settings.drawn)


def take(given: Given) -> Measured:
    """Train a detector on pictures with boxes, and remove from samples what it finds."""
    settings = given.settings.removal
    assert given.settings.boxes is not None
    preset = given.subject.preset
    drawn = None if settings.drawn is None else _by_number(settings.drawn)
    given.subject.say("removal: reading pictures with boxes")
    boxed = read_boxed(given.settings.boxes, preset.size_px, preset.image_channels)
    if len(boxed.images) < LEAST_PICTURES or not any(len(own) for own in boxed.boxes):
        raise Unmeasurable(
            f"{len(boxed.images)} pictures with {sum(map(len, boxed.boxes))} boxes can't train a detector; give "
            f"{LEAST_PICTURES} pictures or more, and boxes in some of them"
        )
    return removal(given.subject, boxed.images, boxed.boxes, settings, drawn)


def _by_number(path: str) -> Mapping[int, npt.NDArray[np.float32]]:
    """Boxes drawn by hand, by the number of the sample."""
    told = read_json(path)
    strange = [name for name in told if not name.isdecimal()]
    if strange:
        raise Unmeasurable(f"{path}: {strange[0]} is no number of a sample; name samples 0, 1, 2 ... as they are drawn")
    return {int(name): boxes for name, boxes in told.items()}
