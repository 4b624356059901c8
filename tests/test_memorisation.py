"""Memorisation: who shows training images is told from who doesn't, however good or bad the pictures are."""

import json
from typing import Any

import cv2
import numpy as np
import pytest
from subjects import SMALL, Shows, fields, subject, top_bits

from pipelines.measurements.memorisation import check_memory
from training.draws import Stream
from training.evaluation.copies import equal_to
from training.evaluation.measured import Measured, Unmeasurable
from training.evaluation.memorisation import MemorisationSettings, memorisation
from training.evaluation.nearer import least_share, overall
from training.evaluation.neighbours import Nearest, relative
from training.presets import resolve
from training.samples import Images, fixed_z, generate

TRAIN, HELDOUT, OTHERS = fields(400, 1), fields(200, 2), fields(200, 3)


def _measured(shown: Images, train: Images = TRAIN, heldout: Images = HELDOUT, **changed: Any) -> Measured:
    settings = {"samples": 200, "copies": 50, "neighbours": 20, "reference_images": 64, "pairs": 4, **changed}
    codes = settings.pop("codes", top_bits)
    return memorisation(subject(Shows(SMALL, shown)), train, heldout, MemorisationSettings(**settings), codes)


def _changed(images: Images) -> Images:
    """As a generator would show what it has by heart: a little blurred, noisy, and darker."""
    noise = np.random.default_rng(0).normal(0, 6, images.shape)
    soft = np.stack([cv2.GaussianBlur(image, (0, 0), 0.7).reshape(image.shape) for image in images])
    return np.asarray(np.clip(soft * 0.9 + noise, 0, 255), np.uint8)


def test_who_shows_training_images_is_found_in_every_space() -> None:
    measured = _measured(_changed(TRAIN[:200]))
    spaces = measured.figures["spaces"]
    assert measured.figures["verdict"] == "memorised"
    assert {name: of["verdict"] for name, of in spaces.items()} == dict.fromkeys(
        ("pixels", "code", "features"), "memorised"
    )
    for of in spaces.values():
        assert of["relative"]["share_below_5"] > 0.5
        assert all(control["memorised"] for control in of["copies"].values())
        assert 100 < of["training_images_nearest_to_a_sample"] <= 200
    same = measured.figures["nearest_is_the_same_image_in_all_spaces"]
    assert same["samples"] > 0.8 > 0.5 > same["held-out"]
    assert measured.says.startswith("Memorised.")


def test_who_shows_other_pictures_of_the_same_kind_is_not() -> None:
    measured = _measured(OTHERS)
    assert {of["verdict"] for of in measured.figures["spaces"].values()} == {"not"}
    assert measured.says.startswith("Not memorised.")
    for of in measured.figures["spaces"].values():
        assert of["relative"]["share_below_5"] < 0.15
        assert 0.35 < of["relative"]["nearer"] < 0.65


def test_a_fifth_of_copies_among_new_pictures_is_enough() -> None:
    measured = _measured(np.concatenate([OTHERS[:160], _changed(TRAIN[:40])]))
    pixels = measured.figures["spaces"]["pixels"]
    assert pixels["verdict"] == "memorised"
    assert pixels["least_share_of_copies_called_memorised"] < 0.2
    assert (
        _measured(np.concatenate([OTHERS[:196], TRAIN[:4]])).figures["verdict"] == "not"
    )  # as is said: too few to tell


def test_bad_pictures_prove_nothing_and_it_is_said() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 28, 28, 1), dtype=np.uint8)
    measured = _measured(noise)
    assert measured.figures["verdict"] == "not"
    assert measured.figures["samples_lie_farther"]
    assert "proves nothing" in measured.says
    assert not _measured(TRAIN).figures["samples_lie_farther"]


def test_who_draws_only_the_simplest_pictures_is_no_memoriser() -> None:
    """As a generator of digits that draws nothing but ones."""
    simple = [fields(count, seed, sigma_px=9) for count, seed in ((400, 4), (150, 5), (200, 6))]
    train, heldout = np.concatenate([TRAIN, simple[0]]), np.concatenate([HELDOUT, simple[1]])
    pixels = _measured(simple[2], train, heldout, spaces=("pixels",)).figures["spaces"]["pixels"]
    assert pixels["plain"]["nearer"] > 0.7
    assert pixels["relative"]["share_below_5"] > 0.1
    assert pixels["matched"]["share_below_5"] < 0.1
    assert pixels["verdict"] == "not"
    copied = _measured(train[-200:], train, heldout, spaces=("pixels",)).figures["spaces"]["pixels"]
    assert copied["verdict"] == "memorised"


def test_a_space_that_cannot_tell_images_apart_has_no_power() -> None:
    measured = _measured(OTHERS, spaces=("code",), codes=lambda images: np.zeros((len(images), 2), np.uint64))
    assert measured.figures["verdict"] == measured.figures["spaces"]["code"]["verdict"] == "no power"
    assert measured.figures["spaces"]["code"]["least_share_of_copies_called_memorised"] is None
    assert "no power" in measured.says


def test_few_held_out_images_like_the_samples_have_no_power() -> None:
    measured = _measured(OTHERS, heldout=HELDOUT[:20], spaces=("pixels",), matched=2)
    pixels = measured.figures["spaces"]["pixels"]
    assert pixels["matched"].keys() == {"heldout_equally_weighted"}
    assert pixels["matched"]["heldout_equally_weighted"] < 20
    assert pixels["verdict"] == "no power"
    assert "too few are like them" in measured.says
    assert (pixels["relative"]["rank_5"], pixels["relative"]["count_5"]) == (1, 20)
    assert "share_below_1" not in pixels["relative"]


def test_the_same_seed_gives_the_same_json_and_spaces_without_codes_say_so() -> None:
    first, again = (_measured(OTHERS, codes=None) for _ in range(2))
    assert json.dumps(first.figures) == json.dumps(again.figures)
    assert set(first.figures["spaces"]) == {"pixels", "features"}
    assert "run" in first.figures["left_out"]["code"]
    for name, picture in first.pictures.items():
        np.testing.assert_array_equal(picture, again.pictures[name])
        assert first.captions[name]


def test_the_picture_shows_each_sample_above_its_nearest_training_image() -> None:
    measured = _measured(_changed(TRAIN[:200]), spaces=("pixels",), pairs=3)
    sheet = measured.pictures["nearest_pairs"]
    samples = generate(Shows(SMALL, _changed(TRAIN[:200])), fixed_z(SMALL, 0, 200, Stream.MEMORISATION), "standing")
    strip = sheet.shape[0] // 2 - 6 - 2 * (56 + 2) - 2  # two blocks, each of words and two rows, enlarged twice
    top = sheet[strip + 2 :][:56, 2:58][::2, ::2]
    below = sheet[strip + 60 :][:56, 2:58][::2, ::2]
    assert (samples == top).all(axis=(1, 2, 3)).any()
    assert (below == TRAIN).all(axis=(1, 2, 3)).any()
    assert np.corrcoef(top.ravel(), below.ravel())[0, 1] > 0.9


def test_too_few_images_are_refused_before_any_work() -> None:
    with pytest.raises(Unmeasurable, match="19 held-out images are too few"):
        _measured(OTHERS, heldout=HELDOUT[:19])
    with pytest.raises(Unmeasurable, match="more than 20"):
        _measured(OTHERS, train=TRAIN[:20])


def test_the_least_share_in_all_is_that_of_the_space_that_makes_the_majority() -> None:
    assert least_share([("not", 0.08)]) == 0.08
    assert least_share([("not", 0.08), ("not", 0.6)]) == 0.6
    assert least_share([("not", 0.6), ("not", 0.08), ("not", 0.2)]) == 0.2
    assert least_share([("not", None), ("no power", 0.1), ("not", 0.3)]) == 1
    assert least_share([("no power", 0.1)]) is None


def test_verdicts_in_all_and_relative_distances() -> None:
    assert overall(["memorised", "memorised", "not"]) == overall(["memorised", "no power"]) == "memorised"
    assert overall(["not", "memorised", "no power"]) == "not"
    assert overall(["no power", "not"]) == "not"
    assert overall(["no power", "no power"]) == "no power"
    nearest = Nearest(np.array([[1.0, 2, 4], [0, 0, 0]]), np.zeros((2, 3), np.int64))
    np.testing.assert_array_equal(relative(nearest), [0.25, 1])


def test_equal_images_are_known_byte_for_byte() -> None:
    images = HELDOUT[:4].copy()
    images[1], images[3] = TRAIN[7], TRAIN[0]
    images[3, 0, 0] ^= 1
    assert equal_to(images, TRAIN).tolist() == [False, True, False, False]


def test_more_training_images_than_memory_should_hold_are_refused_with_a_number_that_fits() -> None:
    preset = resolve("paper-64")
    check_memory(349_525, preset)
    with pytest.raises(Unmeasurable, match=r"3,033,042 training images of 64 px are 34\.7 GiB .* to 349525 or fewer"):
        check_memory(3_033_042, preset)
