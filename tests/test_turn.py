"""The turn vector: every strip of a linear generator turns, those of a scrambled one turn by chance."""

import json

import numpy as np
import pytest
from drawn_shapes import NAMES, known_shapes, linear_shapes, scrambled_shapes, shape_z
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from training.draws import Stream, philox, random_z
from training.evaluation.attributes import AttributeClassifier, ClassifierSettings, fit_attributes
from training.evaluation.exemplars import Chosen, Concept
from training.evaluation.measured import Unmeasurable
from training.evaluation.turn import TurnSettings, measure_turn, monotone, rank_correlations, strips

SMALL_TO_BIG = TurnSettings(
    start=Concept(name="small", shows={"big": 0}),
    end=Concept(name="big", shows={"big": 1}),
    reach=3,
    axes=3,
    samples=15,
    shown=2,
    pool=400,
)
NEW = random_z(philox(0, Stream.TURN), 15, 32, "uniform")


def silent(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def classifier() -> AttributeClassifier:
    images, values = known_shapes(600)
    settings = ClassifierSettings(width=4, hidden=16, epochs=10, batch_images=32, learning_rate=5e-3)
    return fit_attributes(images, values, NAMES, settings)


def test_every_strip_of_a_linear_generator_turns(classifier: AttributeClassifier) -> None:
    measured = measure_turn(linear_shapes, shape_z(400), NEW, SMALL_TO_BIG, 1, classifier, say=silent)
    axis, random = measured.figures["axis"], measured.figures["random"]
    assert axis["monotone"] == axis["crosses"] == 1
    assert axis["rank_correlation"] > 0.7
    assert axis["mean_score"][0] < -0.8
    assert axis["mean_score"][-1] > 0.8
    assert random["monotone"] < 0.5
    assert abs(random["rank_correlation"]) < 0.4
    assert measured.figures["monotone_by_axis"] == [1, 1, 1]
    assert measured.figures["strips"] == 45
    assert "rises all along 100% of 45 strips" in measured.says
    again = measure_turn(linear_shapes, shape_z(400), NEW, SMALL_TO_BIG, 1, classifier, say=silent)
    assert again.figures == measured.figures
    np.testing.assert_array_equal(again.pictures["strips"], measured.pictures["strips"])
    json.dumps([measured.figures, measured.settings])


def test_strips_of_a_scrambled_generator_turn_by_chance(classifier: AttributeClassifier) -> None:
    measured = measure_turn(scrambled_shapes, shape_z(400), NEW, SMALL_TO_BIG, 1, classifier, say=silent)
    axis, random = measured.figures["axis"], measured.figures["random"]
    # A strip of 9 coins rises all along with a chance of 8 in 512, and ends as asked for in one of 4.
    for found in (axis, random):
        assert found["monotone"] < 0.12
        assert abs(found["rank_correlation"]) < 0.2
        assert 0.05 < found["crosses"] < 0.5


def test_strips_go_through_their_sample_in_even_steps() -> None:
    axis = np.arange(32, dtype=np.float32)
    made = strips(NEW, axis, SMALL_TO_BIG)
    assert made.shape == (15, 9, 32)
    np.testing.assert_allclose(made[:, 4], NEW, atol=1e-6)
    np.testing.assert_allclose(made[2, 0], NEW[2] - 3 * axis, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(made[2, 8], NEW[2] + 3 * axis, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.diff(made, axis=1), 0.75 * np.broadcast_to(axis, (15, 8, 32)), rtol=1e-3, atol=1e-4)


def test_a_strip_is_monotone_where_it_never_falls_and_rises_on_the_whole() -> None:
    rows = np.array(
        [[-1, -0.9, 0, 1], [-1, -1.04, 0, 1], [-1, -1, -1, -1], [1, 0, 0, -1], [-1, 1, 0.9, 1], [0, 0, 0.02, 0.06]]
    )
    assert monotone(rows, 0.05).tolist() == [True, True, False, False, False, True]
    assert monotone(rows, 0.0).tolist() == [True, False, False, False, False, True]


@given(arrays(np.int8, (3, 6), elements=st.integers(-3, 3)))
def test_rank_correlations_are_spearmans(rows: np.ndarray[tuple[int, int], np.dtype[np.int8]]) -> None:
    scores = rows.astype(np.float64)
    for row, found in zip(scores, rank_correlations(scores), strict=True):
        expected = 0.0 if len(set(row.tolist())) == 1 else spearmanr(np.arange(6), row).statistic
        assert found == pytest.approx(expected, abs=1e-9)


def test_concepts_that_are_not_there_are_said(classifier: AttributeClassifier) -> None:
    with pytest.raises(
        Unmeasurable, match=r"turn\.start shows turned_left, the pictures have big, red, pale; set turn"
    ):
        measure_turn(linear_shapes, shape_z(50), NEW, TurnSettings(), 1, classifier, say=silent)
    many = SMALL_TO_BIG.model_copy(update={"per_concept": 40})
    with pytest.raises(Unmeasurable, match="samples show small, 40 are needed; take a checkpoint"):
        measure_turn(linear_shapes, shape_z(50), NEW, many, 1, classifier, say=silent)


def test_exemplars_for_one_axis_are_not_counted_as_many(classifier: AttributeClassifier) -> None:
    chosen = Chosen(seed=0, checkpoint="", concepts={"small": (1, 2, 3, 4), "big": (5, 6, 7, 8)})
    measured = measure_turn(linear_shapes, shape_z(20), NEW, SMALL_TO_BIG, 0, classifier, chosen, silent)
    assert len(measured.figures["monotone_by_axis"]) == 1


def test_an_axis_chosen_by_hand_is_shown_without_figures() -> None:
    chosen = Chosen(seed=0, checkpoint="", concepts={"small": (1, 2, 3, 4), "big": (5, 6, 7, 8)})
    measured = measure_turn(linear_shapes, shape_z(20), NEW, SMALL_TO_BIG, 0, chosen=chosen, say=silent)
    assert measured.figures == {}
    assert measured.pictures["strips"].dtype == np.uint8
    assert measured.settings["chosen_by"] == "hand"
