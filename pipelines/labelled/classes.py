"""Pictures with classes: CIFAR-10, SVHN, MNIST, or a folder a class."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.labelled.cifar import read_cifar
from pipelines.labelled.class_folders import Part, read_class_folders
from pipelines.labelled.pictures import Labelled, fitted
from pipelines.labelled.svhn import read_svhn
from pipelines.labelled.there import check_there
from pipelines.sources.idx import read_idx
from pipelines.sources.record import SourceError

__all__ = ["Labelled", "LabelledSettings", "check_labelled", "read_labelled"]

_LARGEST_IDX_BYTES = 1 << 34


class LabelledSettings(BaseModel):
    """Where pictures with classes are, to train a classifier on and to test it with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["folders", "cifar10", "svhn", "idx"] = Field(
        description="How they are stored: a folder a class, as ImageNet is, also in a tar or tar.gz; CIFAR-10's binary "
        "version; SVHN's .mat; MNIST's IDX"
    )
    train: str = Field(
        description="The training pictures. folders: what holds the class folders, such as cifar10.tar.gz/train; "
        "cifar10: a folder or tar.gz with data_batch_*.bin; svhn: train_32x32.mat; idx: the images"
    )
    test: str = Field(description="The test pictures, likewise; of cifar10 those of test_batch.bin")
    train_labels: str | None = Field(None, description="Labels of train; idx only")
    test_labels: str | None = Field(None, description="Labels of test; idx only")

    @model_validator(mode="after")
    def _labels_of_idx(self) -> "LabelledSettings":
        given = [labels is not None for labels in (self.train_labels, self.test_labels)]
        if self.kind == "idx" and not all(given):
            raise ValueError("kind=idx: the labels are files of their own; set train_labels and test_labels")
        if self.kind != "idx" and any(given):
            raise ValueError(f"kind={self.kind}: labels come with the pictures; leave out train_labels and test_labels")
        return self


def check_labelled(settings: LabelledSettings) -> None:
    """Raise Unmeasurable where what the settings name is not there."""
    named = settings.model_dump(include={"train", "test", "train_labels", "test_labels"})
    check_there({f"evaluate.labelled.{name}": path for name, path in named.items()}, settings.kind == "folders")


def read_labelled(settings: LabelledSettings, size_px: int, channels: int) -> tuple[Labelled, Labelled]:
    """The training and the test pictures: the largest centred squares, reduced to size_px by area, RGB or grey.

    Files that give no picture are left out, counted, and told of in the log.

    Raises:
        SourceError: a part can't be read, isn't of that kind, or holds no pictures; or those to train on are of one
            class only.
    """
    train = _read(settings, "train", size_px, channels, None)
    present = np.unique(train.labels)
    if len(present) < 2:
        raise SourceError(
            f"{settings.train} holds pictures of one class only, {train.classes[int(present[0])]}; a classifier needs "
            "two: name what holds them all"
        )
    return train, _read(settings, "test", size_px, channels, train.classes)


def _read(
    settings: LabelledSettings, part: Part, size_px: int, channels: int, classes: tuple[str, ...] | None
) -> Labelled:
    path = settings.train if part == "train" else settings.test
    if "://" in path:
        raise SourceError(f"{path} is a URI; pictures with classes are read from local or mounted files: copy them")
    if settings.kind == "cifar10":
        return read_cifar(path, part, size_px, channels)
    if settings.kind == "svhn":
        return read_svhn(path, size_px, channels)
    if settings.kind == "folders":
        return read_class_folders(path, part, size_px, channels, classes)
    labels = settings.train_labels if part == "train" else settings.test_labels
    return _read_idx_pair(path, str(labels), size_px, channels, classes)


def _read_idx_pair(
    path: str, labels_path: str, size_px: int, channels: int, classes: tuple[str, ...] | None
) -> Labelled:
    images = read_idx(path, "images", _LARGEST_IDX_BYTES)
    labels = read_idx(labels_path, "labels", _LARGEST_IDX_BYTES).astype(np.int64)
    if len(labels) != len(images):
        raise SourceError(
            f"{labels_path} has {len(labels)} labels, {path} has {len(images)} images; name the two files that belong "
            "together"
        )
    names = classes if classes is not None else tuple(str(number) for number in range(int(labels.max()) + 1))
    if labels.max() >= len(names):
        raise SourceError(f"{labels_path} has a label {labels.max()}, and the training labels end at {len(names) - 1}")
    return Labelled(fitted(images, size_px, channels), labels, names)
