"""Seconds, memory and convergence of the linear SVM, and how well it agrees with liblinear on a subset.

    python benchmarks/svm.py [--rows 60000] [--features 28672] [--c 1e-3] [--threads 2] [--subset-rows 1500]

The features are made up: a class shifts 256 hidden factors of falling size, which mix into all features; those are
then max-pooled and leaked as a discriminator's are, so that they are correlated, positive for the most part and of a
long spectrum. 2,000 more rows test the classifier.

liblinear, through scikit-learn, fits the subset to a tolerance of 1e-6; `cpu_seconds` are of fits to each one's usual
tolerance, ours 1e-3 with a gap of 1 %, liblinear's 1e-4; `agrees` says that objective, accuracy and the
direction of each class's weights are equal to 3 digits. The large fit runs in a process of its own, whose peak of
memory is told, features and all; `cpu_seconds` are those of all its threads, which other work on the machine doesn't
change so much. Nothing of 60,000 x 28,672 goes to liblinear: it would take 27 GB.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

# A script's folder stands first on the path, and the svm.py in this one would be taken for another's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.evaluation.svm import SvmSettings, fit_svm

CLASSES = 10
TEST_ROWS = 2_000
_FACTORS = 256
_SUBSET_FEATURES = 7_168
_BLOCK = 512
_EXACT = SvmSettings(tolerance=1e-5, gap=1e-7)

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fit:
    """What a fit took, and what came of it."""

    seconds: float
    cpu_seconds: float
    accuracy: float
    converged: bool
    gradient_norm: float
    gap: float
    iterations: int
    products: int
    peak_gb: float


def made_up(rows: int, features: int, seed: int) -> tuple[Features, Labels]:
    """float32[rows, features] and their classes, int64[rows]; the same of a seed whatever the number of rows."""
    draw = np.random.default_rng(seed)
    sizes = 1 / np.sqrt(1 + np.arange(_FACTORS, dtype=np.float32))
    shifts = (draw.standard_normal((CLASSES, _FACTORS)) * 0.5 * np.sqrt(sizes)).astype(np.float32)
    mixing = draw.standard_normal((_FACTORS, features), np.float32) / 2
    base = draw.standard_normal(features, np.float32) / 2
    values = np.empty((rows, features), np.float32)
    labels = np.empty(rows, np.int64)
    for first in range(0, rows, _BLOCK):
        block = values[first : first + _BLOCK]
        of_class = draw.integers(0, CLASSES, len(block))
        factors = sizes * (shifts[of_class] + draw.standard_normal((len(block), _FACTORS), np.float32))
        np.matmul(factors, mixing, out=block)
        block += base
        # The largest of a field of four is about one deviation up.
        block += 0.7 * draw.standard_normal(block.shape, np.float32) + 1
        np.multiply(block, 0.2, out=block, where=block < 0)
        labels[first : first + _BLOCK] = of_class
    return values, labels


def timed(rows: int, features: int, c: float, threads: int) -> Fit:
    """The fit of made-up features, with the seconds of fitting alone."""
    torch.set_num_threads(threads)
    values, labels = made_up(rows + TEST_ROWS, features, 1)
    wall, cpu = time.perf_counter(), time.process_time()
    svm = fit_svm(values[:rows], labels[:rows], c, say=_say)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    right = svm.predict(values[rows:]) == labels[rows:]
    return Fit(
        seconds=wall,
        cpu_seconds=cpu,
        accuracy=float(right.mean()),
        converged=svm.converged,
        gradient_norm=svm.gradient_norm,
        gap=svm.gap,
        iterations=svm.iterations,
        products=svm.products,
        peak_gb=_peak_gb(),
    )


def agreement(rows: int, features: int, c: float) -> dict[str, float | bool]:
    """How far our classifier of a subset is from liblinear's, and the seconds of both, on one thread."""
    from sklearn.svm import LinearSVC

    torch.set_num_threads(1)
    values, labels = made_up(rows + TEST_ROWS, features, 2)
    began = time.process_time()
    fit_svm(values[:rows], labels[:rows], c)
    usual_s = time.process_time() - began
    ours = fit_svm(values[:rows], labels[:rows], c, settings=_EXACT)
    began = time.process_time()
    LinearSVC(C=c, dual="auto", max_iter=100_000, random_state=0).fit(values[:rows], labels[:rows])
    liblinear_s = time.process_time() - began
    theirs = LinearSVC(C=c, dual=True, tol=1e-6, max_iter=100_000, random_state=0).fit(values[:rows], labels[:rows])
    weights = np.column_stack([theirs.coef_, theirs.intercept_])
    own = ours.augmented()
    cosines = np.sum(weights * own, axis=1) / np.linalg.norm(weights, axis=1) / np.linalg.norm(own, axis=1)
    objective = objective_of(weights, values[:rows], labels[:rows], c)
    accuracy = float((ours.predict(values[rows:]) == labels[rows:]).mean())
    other = float(theirs.score(values[rows:], labels[rows:]))
    return {
        "agrees": bool(
            abs(ours.objective / objective - 1) < 5e-4 and abs(accuracy - other) < 1e-3 and cosines.min() > 0.9995
        ),
        "objective_apart": abs(ours.objective / objective - 1),
        "cosine": float(cosines.min()),
        "accuracy": accuracy,
        "liblinear_accuracy": other,
        "cpu_seconds": usual_s,
        "liblinear_cpu_seconds": liblinear_s,
    }


def objective_of(weights: npt.NDArray[np.float64], features: Features, labels: Labels, c: float) -> float:
    """The sum over classes of the primal objective; weights: float64[classes, F + 1], the bias last."""
    scores = features.astype(np.float64) @ weights[:, :-1].T + weights[:, -1]
    signs = np.where(labels[:, None] == np.arange(len(weights)), 1, -1)
    return float(0.5 * np.sum(weights**2) + c * np.sum(np.maximum(1 - signs * scores, 0) ** 2))


def main() -> None:
    """Fit the subset with both, then the large one alone; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--features", type=int, default=28_672)
    parser.add_argument("--c", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--subset-rows", type=int, default=1_500, help="0: leave liblinear out")
    options = parser.parse_args()
    # Of NumPy too, in the processes to come.
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "OPENBLAS_NUM_THREADS": str(options.threads)}
    figures: dict[str, Any] = {"rows": options.rows, "features": options.features, "c": options.c}
    if options.subset_rows:
        columns = min(options.features, _SUBSET_FEATURES)
        found = _alone(agreement, options.subset_rows, columns, options.c)
        _say(f"subset of {options.subset_rows:,} x {columns:,}: {_rounded(found)}")
        figures["subset"] = _rounded(found)
    fit = asdict(_alone(timed, options.rows, options.features, options.c, options.threads))
    print(json.dumps(figures | _rounded(fit)))


def _say(text: str) -> None:
    print(text, flush=True)


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in figures.items()}


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, run in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _peak_gb() -> float:
    # Of this program alone: what getrusage tells starts with the parent's.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 / 1e9


if __name__ == "__main__":
    main()
