"""Latent draws: by counter, the same for any number of workers, as they are distributed."""

import numpy as np
import pytest

from training.draws import (
    Distribution,
    Stream,
    by_turns,
    draw_labels,
    draw_z,
    one_hot,
    philox,
    random_z,
    with_labels,
)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_latent_vectors_are_those_of_the_update_and_the_seed(distribution: Distribution) -> None:
    whole = draw_z(3, 17, 12, 100, distribution)
    assert whole.shape == (12, 100)
    np.testing.assert_array_equal(draw_z(3, 17, 12, 100, distribution), whole)
    assert not np.isin(draw_z(3, 18, 12, 100, distribution), whole).any()
    assert not np.isin(draw_z(4, 17, 12, 100, distribution), whole).any()


def test_latent_distributions() -> None:
    uniform = draw_z(0, 0, 2000, 100, "uniform")
    assert uniform.dtype == np.float32
    assert -1 <= uniform.min() < -0.999
    assert 0.999 < uniform.max() <= 1
    assert np.square(uniform).mean() == pytest.approx(1 / 3, rel=0.01)
    normal = draw_z(0, 0, 2000, 100, "normal")
    assert normal.std() == pytest.approx(1, rel=0.01)
    assert abs(normal).max() > 3.5


def test_a_longer_draw_begins_with_the_shorter_and_streams_differ() -> None:
    short, long = (random_z(philox(1, Stream.GRID), n, 100, "uniform") for n in (8, 64))
    np.testing.assert_array_equal(long[:8], short)
    assert not np.isin(random_z(philox(1, Stream.WALK), 8, 100, "uniform"), long).any()


def test_labels_are_those_of_the_update_and_the_seed_and_each_class_is_as_likely() -> None:
    labels = draw_labels(3, 17, 20_000, 7)
    np.testing.assert_array_equal(draw_labels(3, 17, 20_000, 7), labels)
    assert (draw_labels(3, 18, 20_000, 7) != labels).mean() == pytest.approx(6 / 7, abs=0.02)
    assert (draw_labels(4, 17, 20_000, 7) != labels).mean() == pytest.approx(6 / 7, abs=0.02)
    shares = np.bincount(labels, minlength=7) / len(labels)
    assert shares.shape == (7,)
    assert shares == pytest.approx(np.full(7, 1 / 7), abs=0.012)


def test_a_label_stands_after_its_z() -> None:
    z = draw_z(0, 0, 5, 3, "normal")
    joined = with_labels(z, by_turns(5, 4), 4)
    np.testing.assert_array_equal(joined[:, :3], z)
    np.testing.assert_array_equal(joined[:, 3:].argmax(1), [0, 1, 2, 3, 0])
    np.testing.assert_array_equal(joined[:, 3:], one_hot(np.array([0, 1, 2, 3, 0]), 4))
    assert joined.dtype == np.float32
    assert (joined[:, 3:].sum(1) == 1).all()
