"""Precision and recall against loops over all pairs, and on sets of which the answer is known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.manifolds import inside, precision_recall, radii


def _normal(count: int, seed: int, size: int = 4, shift: float = 0.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(shift, 1, (count, size)).astype(np.float32))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(6, 30), st.integers(6, 30), st.floats(0, 2))
def test_precision_and_recall_are_those_of_a_plain_loop(
    seed: int, k: int, real: int, samples: int, shift: float
) -> None:
    a, b = _normal(real, seed), _normal(samples, seed + 1, shift=shift)

    def share(points: torch.Tensor, centres: torch.Tensor) -> float:
        p, c = points.double().numpy(), centres.double().numpy()
        reach = [sorted(np.linalg.norm(c - centre, axis=1))[k] for centre in c]  # the first is the centre itself
        within = [any(np.linalg.norm(point - centre) <= r for centre, r in zip(c, reach, strict=True)) for point in p]
        return sum(within) / len(p)

    found = precision_recall(a, b, k)
    assert found.precision == pytest.approx(share(b, a), abs=1.01 / samples)  # a point on a ball's surface may round
    assert found.recall == pytest.approx(share(a, b), abs=1.01 / real)


def test_the_same_set_overlaps_wholly_and_far_ones_not_at_all() -> None:
    real = _normal(200, 0)
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, _normal(200, 1, shift=50)) == (0, 0)


def test_samples_without_variety_are_precise_and_recall_little() -> None:
    real = _normal(500, 0)
    narrow = precision_recall(real, 0.1 * _normal(500, 1))
    wide = precision_recall(real, 3 * _normal(500, 1))
    assert narrow.precision > 0.95 > 0.2 > narrow.recall
    assert wide.recall > 0.7 > wide.precision
    alike = precision_recall(real, _normal(500, 2))
    assert alike.precision == pytest.approx(alike.recall, abs=0.1)


def test_radii_reach_to_the_kth_other_and_need_one() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert radii(line, 1).tolist() == pytest.approx([1, 1, 2, 4], abs=1e-3)
    assert radii(line, 3).tolist() == pytest.approx([7, 6, 4, 7], abs=1e-3)
    assert inside(torch.tensor([[1.9], [5.1]]), line[:1], torch.tensor([2.0])).tolist() == [True, False]
    with pytest.raises(ValueError, match="4 images are fewer than the 5"):
        radii(line, 4)
