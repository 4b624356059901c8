"""Pictures with classes: CIFAR-10, SVHN, MNIST, or a folder a class."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field


class LabelledSettings(BaseModel):
    """Where pictures with classes are, to train a classifier on and to test it with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["folders", "cifar10", "svhn", "idx"] = Field(description="How they are stored")
    train: str = Field(description="The training pictures")
    test: str = Field(description="The test pictures")
    train_labels: str | None = Field(None, description="Labels of train; idx only")
    test_labels: str | None = Field(None, description="Labels of test; idx only")


@dataclass(frozen=True)
class Labelled:
    """Pictures and their classes.

    images: uint8[N, size_px, size_px, C], RGB or grey
    labels: int64[N], 0 .. len(classes) - 1
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
