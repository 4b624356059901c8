"""How classifiers of features are judged: C chosen on training data alone, few labels drawn again and again."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from training.draws import Stream, permutation, philox
from training.evaluation.rows import Floats
from training.evaluation.svm import LinearSvm, fit_svm

Labels = npt.NDArray[np.int64]

# Places in the stream: what is held out stands before the draws of few labels.
_HELD_OUT, _DRAWS = 0, 1
_WIDENINGS = 4


class ProtocolSettings(BaseModel):
    """The procedure of the paper's SVHN figure: few labels, C from a validation part, many draws."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    labels: int = Field(1000, ge=2, description="Labels of a draw, as many of each class")
    validation: int = Field(10_000, ge=1, description="Training pictures that are held out to choose C with")
    candidates: tuple[float, ...] = Field((1e-4, 3e-4, 1e-3, 3e-3, 1e-2), min_length=1, description="C to choose from")
    validation_draws: int = Field(10, ge=1, description="Draws that each C is judged by")
    test_draws: int = Field(100, ge=1, description="Draws that are tested with the chosen C")


@dataclass(frozen=True)
class FewLabels:
    """What the procedure found.

    errors: float64[test_draws], parts of 1; validation: C -> mean error there; converged: whether all tested fits did
    """

    c: float
    validation: dict[float, float]
    errors: npt.NDArray[np.float64]
    converged: bool = True

    @property
    def mean(self) -> float:
        """The mean test error of the draws."""
        return float(self.errors.mean())

    @property
    def deviation(self) -> float:
        """The standard deviation of the draws' test errors, each seen as one of many."""
        return float(self.errors.std(ddof=1)) if len(self.errors) > 1 else 0.0


def widened(candidates: Sequence[float], judge: Callable[[float], float]) -> tuple[float, dict[float, float]]:
    """The candidate of the highest score, of equal ones the smallest; and the score of each that was tried.

    While the best is the smallest or the largest, a next one is tried beyond it, by the step that stands there, four
    times at most. One candidate alone is a choice made: it stays.
    """
    scores = {c: judge(c) for c in sorted(set(candidates))}
    for _ in range(_WIDENINGS if len(scores) > 1 else 0):
        tried, best = sorted(scores), _best(scores)
        if not at_edge(best, scores):
            break
        inner = tried[1] if best == tried[0] else tried[-2]
        further = best**2 / inner
        scores[further] = judge(further)
    return _best(scores), dict(sorted(scores.items()))


def _best(scores: dict[float, float]) -> float:
    return max(scores, key=lambda c: (scores[c], -c))


def at_edge(chosen: float, tried: Collection[float]) -> bool:
    """Whether the chosen one is the smallest or largest of several: a better one may lie beyond."""
    return len(tried) > 1 and chosen in (min(tried), max(tried))


def choose_c(
    features: Floats, labels: Labels, candidates: Sequence[float], validation_share: float, seed: int
) -> tuple[float, dict[float, float]]:
    """The C whose classifier is right most often on a part of these, held out by the seed, and each C's accuracy.

    The same share of each class is held out. Of equally good ones the smallest C, so the simplest classifier, is taken;
    where that is at the edge of the candidates, more are tried (`widened`). Each fit starts from that of the next
    smaller C. No features are copied.

    features: float32[N, F], labels: int64[N]: of the training data alone

    Raises:
        ValueError: there is no C, or the share leaves a class with nothing to train or to validate on.
    """
    if not candidates:
        raise ValueError("candidates is empty; name one C or more, such as 1e-3")
    held_out = stratified(labels, validation_share, seed)
    fitted: dict[float, LinearSvm] = {}

    def accuracy(c: float) -> float:
        fitted[c] = fit_svm(features, labels, c, start=_next_smaller(fitted, c), kept=~held_out)
        return float(np.mean(fitted[c].predict(features)[held_out] == labels[held_out]))

    return widened(candidates, accuracy)


def _next_smaller(fitted: dict[float, LinearSvm], c: float) -> LinearSvm | None:
    smaller = [other for other in fitted if other < c]
    return fitted[max(smaller)] if smaller else None


def stratified(labels: Labels, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """bool[N]: a share of each class, drawn by the seed; at least one of each.

    Raises:
        ValueError: it would leave nothing of a class.
    """
    held_out = np.zeros(len(labels), bool)
    for of_class in np.unique(labels):
        members = np.flatnonzero(labels == of_class)
        count = max(1, round(share * len(members)))
        if not 0 < share < 1 or count >= len(members):
            raise ValueError(
                f"a share of {share} of the {len(members)} of class {of_class} leaves none; set it between 0 and 1, "
                "and give two of each class or more"
            )
        order = permutation(len(members), philox(seed, Stream.LABELLED_DRAWS, _HELD_OUT, int(of_class)))
        held_out[members[order[:count]]] = True
    return held_out


def drawn_rows(labels: Labels, per_class: int, draw: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of the draw: per_class of each class, without repeats, in order.

    Raises:
        ValueError: a class has fewer.
    """
    rows = []
    for of_class in np.unique(labels):
        members = np.flatnonzero(labels == of_class)
        if len(members) < per_class:
            raise ValueError(f"class {of_class} has {len(members)}, fewer than per_class={per_class}; lower that")
        bits = philox(seed, Stream.LABELLED_DRAWS, _DRAWS + draw, int(of_class))
        rows.append(members[permutation(len(members), bits)[:per_class]])
    return np.sort(np.concatenate(rows))


def few_labels(
    features: Floats,
    labels: Labels,
    test_features: Floats,
    test_labels: Labels,
    per_class: int,
    draws: int,
    c: float,
    seed: int,
) -> tuple[npt.NDArray[np.float64], bool]:
    """The test accuracy of each draw of per_class training rows of each class; and whether all fits converged.

    A draw depends on the seed and its number alone.

    Returns:
        accuracies: float64[draws], parts of 1.
        converged: whether every fit did.
    """
    found, converged = np.empty(draws), True
    for draw in range(draws):
        rows = drawn_rows(labels, per_class, draw, seed)
        svm = fit_svm(features[rows], labels[rows], c)
        found[draw] = np.mean(svm.predict(test_features) == test_labels)
        converged &= svm.converged
    return found, converged


def parts(labels: Labels, settings: ProtocolSettings, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows that SVHN's procedure validates on, and those that it draws few labels from: int64, both in order.

    Raises:
        ValueError: the labels don't divide by the classes, or there are too few rows.
    """
    classes = np.unique(labels)
    per_class, rest = divmod(settings.labels, len(classes))
    if rest or not per_class:
        raise ValueError(
            f"labels={settings.labels} does not divide by {len(classes)} classes; try "
            f"{max(per_class, 1) * len(classes)}"
        )
    if settings.validation >= len(labels):
        raise ValueError(f"validation={settings.validation} of {len(labels)} leaves none to draw from; lower it")
    order = permutation(len(labels), philox(seed, Stream.LABELLED_DRAWS, _HELD_OUT))
    held_out, pool = np.sort(order[: settings.validation]), np.sort(order[settings.validation :])
    fewest = int(min((labels[pool] == of_class).sum() for of_class in classes))
    if fewest < per_class:
        raise ValueError(
            f"labels={settings.labels} asks for {per_class} of each class, and beside validation={settings.validation} "
            f"one has {fewest}; lower either"
        )
    return held_out, pool


def svhn_procedure(
    features: Floats,
    labels: Labels,
    test_features: Floats,
    test_labels: Labels,
    seed: int,
    settings: ProtocolSettings | None = None,
) -> FewLabels:
    """The test error with few labels: C by the mean of some draws on held-out training data, then other draws, tested.

    Draws are of the training data that isn't held out, uniform over the classes; those that are tested are none of
    those that C was chosen by. Features are taken as they are, without scaling, as in the authors' code.

    features: float32[N, F], labels: int64[N]; test_features, test_labels likewise

    Raises:
        ValueError: the labels don't divide by the classes, or there are too few rows.

    Source: Radford et al. 2016, section 5.2, and the authors' code.
    Departs: where the best C is at the edge of the candidates, more are tried (`widened`).
    """
    settings = settings or ProtocolSettings()
    held_out, pool = parts(labels, settings, seed)
    per_class = settings.labels // len(np.unique(labels))
    validation = features[held_out]
    drawn = [pool[drawn_rows(labels[pool], per_class, draw, seed)] for draw in range(settings.validation_draws)]
    fitted: list[dict[float, LinearSvm]] = [{} for _ in drawn]

    def less_error(c: float) -> float:
        for of_draw, rows in zip(fitted, drawn, strict=True):
            of_draw[c] = fit_svm(features[rows], labels[rows], c, start=_next_smaller(of_draw, c))
        return -float(np.mean([np.mean(of[c].predict(validation) != labels[held_out]) for of in fitted]))

    chosen, scores = widened(settings.candidates, less_error)
    tested, converged = np.empty(settings.test_draws), True
    for draw in range(settings.test_draws):
        rows = pool[drawn_rows(labels[pool], per_class, settings.validation_draws + draw, seed)]
        svm = fit_svm(features[rows], labels[rows], chosen)
        tested[draw] = np.mean(svm.predict(test_features) != test_labels)
        converged &= svm.converged
    return FewLabels(chosen, {c: -score for c, score in scores.items()}, tested, converged)
