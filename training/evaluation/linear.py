"""What some features are worth: how well a linear classifier on them tells classes apart, with all labels and few."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from training.draws import Stream, permutation, philox
from training.evaluation.features import Features, mean_squared_norm
from training.evaluation.measured import Unmeasurable
from training.evaluation.protocol import at_edge, choose_c, drawn_rows, few_labels, stratified
from training.evaluation.svm import fit_svm
from training.samples import Images

Labels = npt.NDArray[np.int64]


class LinearSettings(BaseModel):
    """How linear classifiers of features are fitted and tested."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    per_class: tuple[int, ...] = Field(default=(400, 100), description="numbers of labels a class, each a column")
    draws: int = Field(default=5, ge=1, description="repeated draws of so few labels")
    c: tuple[float, ...] = Field(
        default=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        min_length=1,
        description="weights C of the errors to choose from, as multiples of 1 / the features' mean squared length, so "
        "that one grid suits all rows; where the best is at the edge, up to 4 more beyond it are tried",
    )
    validation_share: float = Field(
        default=0.2, gt=0, lt=1, description="share of the training images that chooses C and the supervised settings"
    )
    choose_images: int | None = Field(
        default=None, ge=20, description="training images that C is chosen with, validation part included; none: all"
    )

    @field_validator("c")
    @classmethod
    def _positive(cls, c: tuple[float, ...]) -> tuple[float, ...]:
        if min(c) <= 0:
            raise ValueError(f"c={min(c)} weighs errors by nothing or less; give numbers above 0")
        return tuple(sorted(c))

    @field_validator("per_class")
    @classmethod
    def _counts(cls, per_class: tuple[int, ...]) -> tuple[int, ...]:
        if any(k < 1 for k in per_class):
            raise ValueError(f"per_class={min(per_class)}: a class needs a label at least")
        return per_class


@dataclass(frozen=True)
class Split:
    """Labelled pictures to train a classifier on and to test it with.

    train, test: uint8[N, size_px, size_px, C]; train_labels, test_labels: int64[N], 0 .. len(classes) - 1
    known: the data set, where the paper has a figure for it
    """

    train: Images
    train_labels: Labels
    test: Images
    test_labels: Labels
    classes: tuple[str, ...]
    known: Literal["cifar10", "svhn"] | None = None

    def part(self, train_images: int | None, test_images: int | None, seed: int) -> "Split":
        """Some of the pictures, drawn by the seed; None: all of them."""
        train = _drawn(len(self.train), train_images, seed, 1)
        test = _drawn(len(self.test), test_images, seed, 2)
        return Split(
            self.train[train],
            self.train_labels[train],
            self.test[test],
            self.test_labels[test],
            self.classes,
            self.known,
        )

    @property
    def fewest(self) -> int:
        """Training images of the smallest class."""
        return int(np.bincount(self.train_labels, minlength=len(self.classes)).min())


@dataclass(frozen=True)
class Few:
    """Test accuracy of classifiers that had few labels.

    deviation: of the draws, null of one alone
    c_at_edge: whether C is the smallest or largest that was tried
    chosen_with: labels a class that chose C, or the supervised settings; more than the classifiers had
    """

    mean: float
    deviation: float | None
    draws: int
    c: float | None = None
    c_at_edge: bool | None = None
    chosen_with: int | None = None


@dataclass(frozen=True)
class Row:
    """A row of the table.

    c, c_tried: C of the SVM; and the validation accuracy of each that was tried, as multiples of `c_unit`
    c_at_edge: whether C is the smallest or largest that was tried
    converged: whether the fits of all labels and of few did
    gradient_norm, gap: relative gradient of the SVM's objective where the solver ended, and duality gap
    few: by labels a class
    trials: of the supervised search
    procedure: figures of the paper's procedure on SVHN, plain values
    """

    name: str
    says: str
    dimensions: int
    accuracy: float
    few: dict[str, Few]
    c: float | None = None
    c_unit: float | None = None
    c_tried: dict[str, float] = field(default_factory=dict)
    c_at_edge: bool | None = None
    converged: bool | None = None
    gradient_norm: float | None = None
    gap: float | None = None
    iterations: int | None = None
    trials: list[dict[str, float]] = field(default_factory=list)
    procedure: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Plain values; not the seconds, which another run would not repeat, nor the procedure's, of their own."""
        left_out = ("seconds", "few", "procedure")
        plain = {k: v for k, v in asdict(self).items() if v not in (None, {}, []) and k not in left_out}
        for per_class, few in self.few.items():
            plain |= {f"accuracy_{per_class}": few.mean, f"deviation_{per_class}": few.deviation}
            told = {"draws": few.draws, "c": few.c, "c_at_edge": few.c_at_edge, "chosen_with": few.chosen_with}
            plain |= {f"{name}_{per_class}": value for name, value in told.items() if value is not None}
        return plain

    @staticmethod
    def read(plain: Mapping[str, Any]) -> "Row":
        """The row of what `dataclasses.asdict` made of it."""
        return Row(**{**plain, "few": {k: Few(**few) for k, few in plain["few"].items()}})


def few_of(
    accuracies: npt.NDArray[np.float64],
    c: float | None = None,
    c_at_edge: bool | None = None,
    chosen_with: int | None = None,
) -> Few:
    """Mean and deviation of the draws' accuracies: float64[draws]."""
    deviation = round(float(accuracies.std(ddof=1)), 4) if len(accuracies) > 1 else None
    return Few(round(float(accuracies.mean()), 4), deviation, len(accuracies), c, c_at_edge, chosen_with)


def check_choosing(split: Split, settings: LinearSettings, seed: int) -> None:
    """Raise Unmeasurable where the images that choose C leave a class with none to train or to validate on."""
    labels = split.train_labels[_drawn(len(split.train), settings.choose_images, seed, 3)]
    try:
        stratified(labels, settings.validation_share, seed)
    except ValueError as error:
        raise Unmeasurable(f"features.validation_share, or features.choose_images={len(labels)}: {error}") from error
    if len(np.unique(labels)) < 2:
        raise Unmeasurable(f"features.choose_images={len(labels)} are of one class; set it higher")


def classify(
    name: str,
    says: str,
    train: Features,
    test: Features,
    split: Split,
    settings: LinearSettings,
    seed: int,
    say: Callable[[str], None],
) -> Row:
    """The row of some features: C by the validation part, then one SVM of all labels, then several of few.

    Of few labels C is chosen once, on training images of a draw of its own: half of them, as many as a draw that is
    tested has, are fitted, the other half validates. So C has seen twice as many labels as a classifier.

    train: float[N, F]; test: float[M, F], in the order of the split's pictures.

    Raises:
        Unmeasurable: the features aren't finite, or are 0 in every image.

    Source: Radford et al. 2016, section 5.1; C chosen as in the authors' SVHN code.
    """
    squared, of_test = mean_squared_norm(train), mean_squared_norm(test)
    if not (np.isfinite(squared + of_test) and squared > 0):
        raise Unmeasurable(
            f"{name}: the features' mean squared length is {squared:.3g} in training and {of_test:.3g} in test images, "
            "and a classifier needs finite ones that aren't all 0; the network has collapsed or diverged: take an "
            "earlier checkpoint"
        )
    unit = 1 / squared
    labels, candidates = split.train_labels, [unit * c for c in settings.c]
    rows = _drawn(len(train), settings.choose_images, seed, 3)
    part, of_part = (train, labels) if len(rows) == len(train) else (train[rows], labels[rows])
    c, tried = choose_c(part, of_part, candidates, settings.validation_share, seed)
    say(f"{name}: C={c:.3g}, {tried[c]:.1%} of the validation part")
    svm = fit_svm(train, labels, c)
    accuracy = float((svm.predict(test) == split.test_labels).mean())
    say(f"{name}: {accuracy:.2%} of the test images with all labels")
    few, converged = {}, svm.converged
    for k in settings.per_class:
        rows = drawn_rows(labels, min(2 * k, split.fewest), settings.draws, seed)  # a draw that is not tested
        of_few, tried_few = choose_c(train[rows], labels[rows], candidates, 0.5, seed)
        found, all_did = few_labels(train, labels, test, split.test_labels, k, settings.draws, of_few, seed)
        few[str(k)] = few_of(found, _short(of_few), at_edge(of_few, tried_few), min(2 * k, split.fewest))
        converged &= all_did
        say(f"{name}: {found.mean():.2%} with {k} labels a class")
    return Row(
        name=name,
        says=says,
        dimensions=train.shape[1],
        accuracy=round(accuracy, 4),
        few=few,
        c=_short(c),
        c_unit=_short(unit),
        c_tried={f"{tried_c / unit:.3g}": round(right, 4) for tried_c, right in tried.items()},
        c_at_edge=at_edge(c, tried),
        converged=converged,
        gradient_norm=_short(svm.gradient_norm),
        gap=_short(svm.gap),
        iterations=int(svm.iterations),
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _drawn(count: int, most: int | None, seed: int, use: int) -> npt.NDArray[np.int64]:
    """Which of `count` are used, in their order."""
    if most is None or most >= count:
        return np.arange(count)
    return np.sort(permutation(count, philox(seed, Stream.FEATURES, use))[:most])
