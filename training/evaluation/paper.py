"""What the paper reports of the features of data sets, in words and as numbers to set beside ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Published:
    """The paper's figures for one data set.

    figures: parts of 1, by the names that ours have: accuracy of all labels, accuracy_K and deviation_K of K labels a
        class, error likewise
    """

    words: str
    figures: Mapping[str, float] = field(default_factory=dict)


PAPER: Mapping[str, Published] = MappingProxyType(
    {
        "cifar10": Published(
            "82.8 % (all labels), 73.8 +- 0.4 % (400 per class), with a D trained on ImageNet-1k",
            {"accuracy": 0.828, "accuracy_400": 0.738, "deviation_400": 0.004},
        ),
        # 1,000 labels are 100 of each digit.
        "svhn": Published(
            "22.48 % test error with 1,000 labels, a supervised CNN 28.87 % validation error",
            {"accuracy_100": 0.7752, "error_100": 0.2248, "supervised_validation_error_100": 0.2887},
        ),
    }
)


def published(known: str | None) -> Published | None:
    """What the paper reports of these pictures; None where it has no figure."""
    return PAPER.get(known or "")
