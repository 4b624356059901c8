"""The classifier of attributes: it learns what can be seen, gives chance where nothing can, and repeats itself."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from drawn_shapes import NAMES, draw_shapes, known_shapes
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.attributes import (
    AttributeClassifier,
    ClassifierSettings,
    best_threshold,
    binary_attributes,
    fit_attributes,
    mirrors,
)

SMALL = ClassifierSettings(width=4, hidden=16, epochs=8, batch_images=32, learning_rate=5e-3)


@pytest.fixture(scope="module")
def fitted() -> AttributeClassifier:
    images, values = known_shapes(800)
    values[::7, 1] = np.nan  # not known of all
    return fit_attributes(images, values, NAMES, SMALL, seed=3)


def test_known_attributes_are_recovered_on_new_pictures(fitted: AttributeClassifier) -> None:
    images, values = known_shapes(400, seed=9)
    found = fitted.probabilities(images)
    assert found.shape == (400, 3)
    assert found.dtype == np.float32
    right = ((found > 0.5) == values).mean(axis=0)
    assert (right > 0.95).all(), right
    assert fitted.counts == {"heldout": 120, "thresholds": 120, "train": 560}
    for name, share in zip(NAMES, right, strict=True):
        assert fitted.accuracy[name] == pytest.approx(share, abs=0.05)


def test_what_can_not_be_seen_is_guessed_at_chance() -> None:
    images, values = known_shapes(600)
    values = np.column_stack([values[:, 1], np.random.default_rng(1).integers(0, 2, 600)]).astype(np.float32)
    found = fit_attributes(images, values, ("red", "coin"), SMALL, seed=3)
    assert found.accuracy["red"] > 0.95
    assert 0.3 < found.accuracy["coin"] < 0.7


def test_rare_attributes_count_as_much_as_common_ones() -> None:
    draw = np.random.default_rng(0)
    shows = np.column_stack([draw.random(1500) < 0.06, draw.random(1500) < 0.5, draw.random(1500) < 0.5])
    images = draw_shapes(shows, draw.uniform(-1, 1, 1500).astype(np.float32))
    found = fit_attributes(images, shows.astype(np.float32), NAMES, SMALL)
    assert found.accuracy["big"] > 0.9
    seen = found.probabilities(images[1000:])[:, 0] > 0.5
    assert seen[shows[1000:, 0]].mean() > 0.9


def test_the_same_seed_gives_the_same_classifier_and_draws_nothing_outside(fitted: AttributeClassifier) -> None:
    images, values = known_shapes(300)
    short = SMALL.model_copy(update={"epochs": 2})
    before = torch.get_rng_state()
    one, again, other = (fit_attributes(images, values, NAMES, short, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(one.probabilities(images), again.probabilities(images))
    assert one.accuracy == again.accuracy
    assert (one.probabilities(images) != other.probabilities(images)).any()
    assert fitted.features(images[:5]).shape == (5, 16)
    np.testing.assert_allclose(fitted.probabilities(images)[7:9], fitted.probabilities(images[7:9]), atol=1e-5)


def test_sides_are_learnt_where_a_name_says_left() -> None:
    draw = np.random.default_rng(0)
    place = draw.choice([-1.0, 1.0], 600).astype(np.float32)
    images = draw_shapes(draw.random((600, 3)) < 0.5, place)
    values = np.column_stack([place < 0, place > 0]).astype(np.float32)
    assert fit_attributes(images, values, ("turned_left", "turned_right"), SMALL).accuracy["turned_left"] > 0.95
    # With names that don't say so, pictures are mirrored, and the sides can't be told.
    assert fit_attributes(images, values, ("one", "other"), SMALL).accuracy["one"] < 0.75


@pytest.mark.parametrize(
    ("name", "sided"), [("turned_left", True), ("Right eye", True), ("bright", False), ("cleft_chin", False)]
)
def test_sides_are_named_by_whole_words(name: str, sided: bool) -> None:
    assert mirrors(("smile", name)) is not sided


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=30).filter(
        lambda rows: len({truth for _, truth in rows}) == 2
    )
)
def test_no_threshold_is_better_than_the_best(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], np.float32)
    truth = np.array([truth for _, truth in rows], np.float32)

    def accuracy(threshold: float) -> float:
        seen: npt.NDArray[np.bool_] = scores > threshold
        return float(np.mean([(seen[truth == value] == value).mean() for value in (0, 1)]))

    best = accuracy(best_threshold(scores, truth))
    assert best == pytest.approx(max(accuracy(threshold) for threshold in np.arange(-6, 7) + 0.5))
    # Rows of which nothing is known change nothing.
    more = best_threshold(np.append(scores, np.float32(99)), np.append(truth, np.float32(np.nan)))
    assert more == best_threshold(scores, truth)


def test_measures_are_left_out_of_binary_attributes() -> None:
    values = np.array([[0, -0.5, 1, 1], [1, 0, 1, np.nan], [np.nan, 1, 1, 0]], np.float32)
    kept, names = binary_attributes(values, ("smile", "pose", "always", "glasses"))
    assert names == ("smile", "glasses")
    np.testing.assert_array_equal(kept, values[:, [0, 3]])


@pytest.mark.parametrize(
    ("value", "message"),
    [(0.5, "big has values other than 0, 1 and nan"), (1.0, "show big and 0 do not; both are needed")],
)
def test_what_can_not_be_learnt_is_refused(value: float, message: str) -> None:
    images, values = known_shapes(100)
    values[:, 0] = value
    with pytest.raises(ValueError, match=message):
        fit_attributes(images, values, NAMES, SMALL)
    with pytest.raises(ValueError, match=r"give float32\[100, 2\]"):
        fit_attributes(images, values, ("one", "two"), SMALL)
