"""Vector arithmetic: it succeeds where pictures are linear in z, and fails where z is scrambled."""

import json
from typing import Any

import numpy as np
import pytest
from drawn_shapes import NAMES, known_shapes, linear_shapes, scrambled_shapes, shape_z

from training.evaluation.arithmetic import (
    ArithmeticSettings,
    measure_arithmetic,
)
from training.evaluation.attributes import AttributeClassifier, ClassifierSettings, fit_attributes
from training.evaluation.exemplars import Chosen, Concept, Floats
from training.evaluation.formulas import Formula
from training.evaluation.measured import Measured, Unmeasurable
from training.evaluation.strangeness import Strangeness, nearest_distances
from training.evaluation.sums import latent_sums, pixel_sums
from training.samples import Images

BIG_BLUE = Formula(
    name="big and blue",
    a=Concept(name="big, red", shows={"big": 1, "red": 1}),
    b=Concept(name="small, red", shows={"big": 0, "red": 1}),
    c=Concept(name="small, blue", shows={"big": 0, "red": 0}),
)
SETTINGS = ArithmeticSettings(formulas=(BIG_BLUE,), trials=60, pool=600, surest=60)


def silent(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def classifier() -> AttributeClassifier:
    images, values = known_shapes(600)
    settings = ClassifierSettings(width=4, hidden=16, epochs=10, batch_images=32, learning_rate=5e-3)
    return fit_attributes(images, values, NAMES, settings)


@pytest.fixture(scope="module")
def linear(classifier: AttributeClassifier) -> Measured:
    return measure_arithmetic(
        linear_shapes, shape_z(600), SETTINGS, 1, classifier, real=known_shapes(300)[0], say=silent
    )


def of(measured: Measured) -> Any:
    return measured.figures["formulas"]["big and blue"]


def test_sums_succeed_where_pictures_are_linear_in_z(linear: Measured) -> None:
    found = of(linear)
    assert found["wanted"] == {"big": 1}
    assert found["kept"] == {"red": 0}
    assert found["candidates"] == {"big, red": 60, "small, red": 60, "small, blue": 60}
    assert found["latent"]["wanted"] > 0.9
    assert found["latent"]["both"] > 0.8
    assert found["variants"]["both"] > 0.8
    assert found["c_alone"]["wanted"] < 0.05
    assert found["c_alone"]["kept"] > 0.95
    assert found["random"]["wanted"] < 0.5
    # A mean of more exemplars lies nearer to the middle of its concept.
    curve = found["by_exemplars"]
    assert list(curve) == ["1", "3", "10"]
    assert curve["1"]["latent"] < curve["10"]["latent"] == pytest.approx(1.0, abs=0.02)
    assert curve["3"]["latent"] == found["latent"]["both"]
    assert curve["3"]["pixels"] == found["pixels"]["both"]
    assert curve["3"]["random"] == found["random"]["both"]
    assert linear.figures["all"]["latent"] == {
        what: found["latent"][what] for what in ("wanted", "both", "strangeness")
    }
    assert linear.figures["classifier"]["heldout_accuracy"].keys() == {"big", "red"}
    assert f"in {found['latent']['wanted']:.0%} of 60 latent sums" in linear.says
    json.dumps(linear.figures)
    json.dumps(linear.settings)


def test_pixel_sums_are_told_by_their_strangeness(linear: Measured) -> None:
    """Sums of pictures overlap, which a classifier may not mind; samples are as strange as samples."""
    found = of(linear)
    assert found["latent"]["strangeness"] < 2
    assert found["pixels"]["strangeness"] > 1.5 * found["latent"]["strangeness"]


def test_sums_fail_where_z_is_scrambled(classifier: AttributeClassifier) -> None:
    settings = SETTINGS.model_copy(update={"trials": 100})
    found = of(measure_arithmetic(scrambled_shapes, shape_z(600), settings, 1, classifier, say=silent))
    assert min(found["candidates"].values()) == 60
    for way in ("latent", "c_alone", "random"):
        assert 0.3 < found[way]["wanted"] < 0.7, way
    assert found["latent"]["both"] < 0.45
    assert "strangeness" not in found["latent"]


def test_the_same_seed_gives_the_same_figures_and_pictures(linear: Measured, classifier: AttributeClassifier) -> None:
    real = known_shapes(300)[0]
    again = measure_arithmetic(linear_shapes, shape_z(600), SETTINGS, 1, classifier, real, say=silent)
    assert again.figures == linear.figures
    for name, picture in linear.pictures.items():
        np.testing.assert_array_equal(picture, again.pictures[name])
        assert name in linear.captions
    other = measure_arithmetic(linear_shapes, shape_z(600), SETTINGS, 2, classifier, real, say=silent)
    assert other.figures != linear.figures


def test_sums_are_what_a_plain_loop_adds() -> None:
    z, images = shape_z(40), known_shapes(40)[0]
    pools = [np.arange(10), np.arange(10, 20), np.arange(20, 40)]
    sums = latent_sums(z, pools, 3, 5, seed=1, place=1)
    made = pixel_sums(images, sums.places)
    for trial in range(5):
        a, b, c = sums.places[trial]
        assert set(a) <= set(range(10))
        assert set(c) <= set(range(20, 40))
        means = [np.mean([z[place].astype(np.float64) for place in places], axis=0) for places in (a, b, c)]
        np.testing.assert_allclose(sums.latent[trial], means[0] - means[1] + means[2], atol=1e-6)
        np.testing.assert_allclose(sums.c_alone[trial], means[2], atol=1e-6)
        step = sums.random_step()[trial] - means[2]
        assert np.linalg.norm(step) == pytest.approx(np.linalg.norm(means[0] - means[1]), rel=1e-5)
        pixels = [images[places].astype(np.float64).mean(axis=0) for places in (a, b, c)]
        difference = np.abs(made[trial] - np.clip(pixels[0] - pixels[1] + pixels[2], 0, 255))
        assert difference.max() <= 0.5 + 1e-6
    assert (np.abs(sums.latent) > 1).any()  # nothing is clipped
    assert len(np.unique(sums.places.reshape(5, -1), axis=0)) == 5


def test_a_sum_stands_in_the_middle_of_its_variants() -> None:
    sums = latent_sums(shape_z(40), [np.arange(10), np.arange(10, 20), np.arange(20, 40)], 3, 7, seed=1, place=1)
    z, near = sums.latent, sums.variants(9, 0.25)
    assert near.shape == (7, 9, 32)
    np.testing.assert_array_equal(near[:, 4], z)
    apart = np.abs(np.delete(near, 4, axis=1) - z[:, None])
    assert 0.24 < apart.max() <= 0.25 + 1e-6
    assert apart.mean() == pytest.approx(0.125, abs=0.01)
    assert (sums.variants(1, 0.25)[:, 0] == z).all()


def test_concepts_that_no_sample_shows_are_said(classifier: AttributeClassifier) -> None:
    def never_big(z: Floats) -> Images:
        return linear_shapes(np.concatenate([-np.abs(z[:, :1]), z[:, 1:]], axis=1))

    with pytest.raises(
        Unmeasurable, match=r"big and blue: 0 samples show big, red, 3 are needed.*raise arithmetic\.pool"
    ):
        measure_arithmetic(never_big, shape_z(200), SETTINGS, 1, classifier, say=silent)
    pale = BIG_BLUE.model_copy(
        update={
            "name": "red and pale",
            "a": Concept(name="pale, blue", shows={"pale": 1, "red": 0}),
            "b": Concept(name="dark, blue", shows={"pale": 0, "red": 0}),
            "c": Concept(name="dark, red", shows={"pale": 0, "red": 1}),
        }
    )
    both = SETTINGS.model_copy(update={"formulas": (BIG_BLUE, pale), "trials": 5, "curve": (1, 40)})
    found = measure_arithmetic(never_big, shape_z(200), both, 1, classifier, say=silent).figures["formulas"]
    assert found["big and blue"]["unmeasured"].startswith("0 samples")
    assert found["red and pale"]["latent"]["wanted"] >= 0.6
    assert list(found["red and pale"]["by_exemplars"]) == ["1", "3", "40"]


def test_exemplars_chosen_by_hand_make_one_sum() -> None:
    chosen = Chosen(
        seed=0,
        checkpoint="",
        concepts={"big, red": (1, 2, 3), "small, red": (9, 8, 7), "small, blue": (11, 12, 14)},
    )
    z = shape_z(20)
    settings = SETTINGS.model_copy(update={"trials": 50})
    measured = measure_arithmetic(linear_shapes, z, settings, 0, chosen=chosen, say=silent)
    assert of(measured)["trials"] == 1
    assert "latent" not in of(measured)
    assert "no attributes to judge" in measured.says
    assert list(measured.pictures) == ["sums"]
    with pytest.raises(Unmeasurable, match=r"set arithmetic\.formulas"):
        measure_arithmetic(linear_shapes, z, ArithmeticSettings(), 0, chosen=chosen, say=silent)
    few = chosen.model_copy(update={"concepts": {**chosen.concepts, "small, red": (9, 8)}})
    with pytest.raises(Unmeasurable, match="2 samples show small, red, 3 are needed"):
        measure_arithmetic(linear_shapes, z, settings, 0, chosen=few, say=silent)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="has a number below 1"):
        ArithmeticSettings(curve=(0, 3))
    with pytest.raises(ValueError, match="big and blue names two sums"):
        ArithmeticSettings(formulas=(BIG_BLUE, BIG_BLUE))
    assert ArithmeticSettings(curve=(10, 1, 3, 3)).curve == (1, 3, 10)


def test_nearest_distances_are_a_plain_search() -> None:
    draw = np.random.default_rng(0)
    rows, others = draw.normal(size=(300, 5)).astype(np.float32), draw.normal(size=(40, 5)).astype(np.float32)
    expected = [min(np.linalg.norm(row - other) for other in others) for row in rows]
    np.testing.assert_allclose(nearest_distances(rows, others), expected, rtol=1e-4)


def test_ordinary_samples_are_not_strange_and_noise_is(classifier: AttributeClassifier) -> None:
    strange = Strangeness(classifier, known_shapes(400)[0], known_shapes(300, seed=1)[0])
    assert strange.of(known_shapes(300, seed=2)[0]) == pytest.approx(1, abs=0.3)
    noise = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3)).astype(np.uint8)
    assert strange.of(noise) > 3
