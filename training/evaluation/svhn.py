"""The paper's figure on SVHN: the test error with few labels, by its own procedure."""

from typing import Any

from training.evaluation.features import Features
from training.evaluation.linear import Row, Split
from training.evaluation.measured import Unmeasurable
from training.evaluation.paper import published
from training.evaluation.protocol import ProtocolSettings, at_edge, parts, svhn_procedure

ROWS = ("trained", "random")


def check_procedure(split: Split, settings: ProtocolSettings, seed: int) -> None:
    """Raise Unmeasurable where the training images don't suffice for the procedure."""
    try:
        parts(split.train_labels, settings, seed)
    except ValueError as error:
        raise Unmeasurable(
            f"features.svhn: {error}; change it there, set features.train_images higher, or features.svhn to null to "
            "leave the paper's procedure out"
        ) from error


def by_procedure(
    train: Features, test: Features, split: Split, settings: ProtocolSettings, seed: int
) -> dict[str, Any]:
    """The figures of some features of SVHN: errors are parts of 1, plain values for JSON.

    train: float[N, F]; test: float[M, F], in the order of the split's pictures.
    """
    found = svhn_procedure(train, split.train_labels, test, split.test_labels, seed, settings)
    return {
        "error": round(found.mean, 4),
        "deviation": round(found.deviation, 4),
        "labels": settings.labels,
        "draws": len(found.errors),
        "c": float(f"{found.c:.4g}"),
        "c_at_edge": at_edge(found.c, found.validation),
        "converged": found.converged,
        "validation_images": settings.validation,
        "validation_error": {f"{c:.3g}": round(error, 4) for c, error in found.validation.items()},
    }


def told(rows: list[Row], scaled: bool) -> str:
    """What came out, beside the paper's figure, as the end of a sentence; nothing where it wasn't measured."""
    found = {row.name: row.procedure for row in rows if row.procedure}
    paper = published("svhn")
    if "trained" not in found or paper is None:
        return ""
    own = found["trained"]
    random = f", on random weights' {found['random']['error']:.1%}" if "random" in found else ""
    return (
        f". By the paper's procedure, with {own['labels']:,} labels{' and standardised features' if scaled else ''}: "
        f"{own['error']:.2%} +- {own['deviation']:.2%} test error of {own['draws']} draws{random}; the paper's "
        f"{paper.figures['error_100']:.2%} with 1,000"
    )
