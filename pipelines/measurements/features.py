"""Features of the discriminator, of pictures with classes."""

import hashlib
from dataclasses import asdict
from typing import Literal

import numpy as np

from pipelines.labelled.classes import LabelledSettings, check_labelled, read_labelled
from pipelines.measurements.given import Given, Readiness, measurable
from training.evaluation.linear import Row, Split
from training.evaluation.measured import Measured, Unmeasurable
from training.evaluation.table import features_table
from training.presets import Preset

# Folders of these names hold CIFAR-10 in one encoding or another.
_CIFAR10 = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}


def check(ready: Readiness) -> None:
    """Raise Unmeasurable where there are no pictures with classes, or what is named is not there."""
    if ready.settings.labelled is None:
        raise Unmeasurable(
            "pictures with classes are needed, to train a classifier on and to test it with: set evaluate.labelled to "
            "{kind: folders, train: FOLDER, test: FOLDER}, a folder a class, or to a kind cifar10, svhn or idx"
        )
    check_labelled(ready.settings.labelled)


def take(given: Given) -> Measured:
    """Fit linear classifiers on the discriminator's features and on their controls; what was kept is not done again."""
    labelled = given.settings.labelled
    if labelled is None:
        raise Unmeasurable("set evaluate.labelled")
    split = read_split(labelled, given.subject.preset)
    kept, digest = given.unfinished, digest_of(split)

    def keep(row: Row) -> None:
        if kept is not None:
            kept.keep(row.name, {"split": digest, "row": asdict(row)})

    with measurable():
        return features_table(given.subject, split, given.settings.features, _rows(given, digest), keep)


def digest_of(split: Split) -> str:
    """sha256 of the pictures and labels: a folder or a large file may hold others by now, under the same name."""
    digest = hashlib.sha256()
    for array in (split.train, split.train_labels, split.test, split.test_labels):
        digest.update(f"{array.shape} {array.dtype}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _rows(given: Given, digest: str) -> dict[str, Row]:
    """The rows that an interrupted measurement of the same, of the same pictures, had finished."""
    if given.unfinished is None:
        return {}
    try:
        pieces = given.unfinished.pieces().items()
        rows = {name: Row.read(piece["row"]) for name, piece in pieces if piece["split"] == digest}
    except (KeyError, TypeError):
        return {}  # kept by another version of this program
    if rows:
        given.subject.say(f"features: measured already: {', '.join(rows)}")
    return rows


def read_split(settings: LabelledSettings, preset: Preset) -> Split:
    """The labelled pictures, at the side and with the channels that a preset's networks take."""
    train, test = read_labelled(settings, preset.size_px, preset.image_channels)
    known: Literal["cifar10", "svhn"] | None = "svhn" if settings.kind == "svhn" else None
    if settings.kind == "cifar10" or set(train.classes) == _CIFAR10:
        known = "cifar10"
    return Split(train.images, train.labels, test.images, test.labels, train.classes, known)
