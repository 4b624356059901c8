"""The proof of an epoch sees every way in which a sample may be dealt wrongly, and survives a checkpoint."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.order import SampleOrder, Share
from training.proof import OrderBroken, Proof

CPU = torch.device("cpu")


def _deal(proof: Proof, order: SampleOrder, batch_images: int, updates: range) -> None:
    for update in updates:
        positions = Share(batch_images).positions(update)
        proof.deal(positions, order.samples_at(positions), looked_at=update % 2 == 1)
        proof.end_epochs((update + 1) * batch_images)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 30), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_every_epoch_of_the_order_is_proven_and_a_checkpoint_changes_nothing(
    shards: list[int], batch_images: int, pause: int
) -> None:
    order, updates = SampleOrder(shards, 3, 10), 12
    whole, first = Proof(order.samples, CPU), Proof(order.samples, CPU)
    _deal(whole, order, batch_images, range(updates))
    assert len(whole.rows) == updates * batch_images // order.samples
    assert all(row["looked_at"] + row["passed_over"] == order.samples for row in whole.rows)
    _deal(first, order, batch_images, range(pause))
    state, marks = first.state()
    resumed = Proof(order.samples, CPU)
    resumed.restore(json.loads(json.dumps(state)), marks)
    _deal(resumed, order, batch_images, range(pause, updates))
    assert resumed.rows == whole.rows


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([0, 1, 2, 3, 3], "dealt 3 of 5 samples exactly once; sample 3 was looked at 2 times"),
        ([4, 1, 1, 1, 1], "dealt 1 of 5 samples exactly once; sample 0 was looked at 0 times"),
        ([0] * 5, "dealt 0 of 5 samples exactly once; sample 0 was looked at 5 times"),
    ],
)
def test_a_sample_dealt_twice_or_never_is_seen(samples: list[int], message: str) -> None:
    proof = Proof(5, CPU)
    proof.deal(np.arange(5), np.array(samples), looked_at=True)
    with pytest.raises(OrderBroken, match=message):
        proof.end_epochs(5)


def test_a_sample_looked_at_and_passed_over_is_seen() -> None:
    proof = Proof(3, CPU)
    proof.deal(np.arange(2), np.array([0, 1]), looked_at=True)
    proof.deal(np.array([2]), np.array([1]), looked_at=False)
    with pytest.raises(OrderBroken, match="sample 1 was looked at 1 times and passed over 1 times"):
        proof.end_epochs(3)
