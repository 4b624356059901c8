"""Nearest neighbours against loops over all pairs, however the images fall into blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from subjects import fields, top_bits

from training.evaluation import neighbours
from training.evaluation.copies import CHANGES, versions
from training.evaluation.neighbours import nearest_codes, nearest_features
from training.evaluation.spaces import code_space, feature_space, pixel_space, standardised
from training.networks import build
from training.presets import resolve


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 6), st.integers(1, 40))
def test_features_nearest_to_several_forms_of_a_query(seed: int, forms: int, k: int, block: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(40, 5)).astype(np.float32)
    queries = random.normal(size=(forms, 7, 5)).astype(np.float32)
    blocks = [torch.from_numpy(rows[start : start + block]) for start in range(0, 40, block)]
    found = nearest_features(list(torch.from_numpy(queries)), blocks, k)
    every = np.linalg.norm(queries[:, :, None] - rows[None, None], axis=3).min(axis=0)
    np.testing.assert_array_equal(found.rows, np.argsort(every, axis=1)[:, :k])
    np.testing.assert_allclose(found.distances, np.sort(every, axis=1)[:, :k], atol=2e-3)


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 6), st.integers(1, 50))
def test_codes_nearest_and_of_ties_the_lowest_row(seed: int, forms: int, k: int, block: int) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 8, (50, 2)).astype(np.uint64)  # few bits: many ties
    queries = random.integers(0, 8, (forms, 6, 2)).astype(np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BLOCK_IMAGES", block)
        found = nearest_codes(list(queries), codes, k)
    for query in range(6):
        every = [
            min(sum(int(a ^ b).bit_count() for a, b in zip(form[query], row, strict=True)) for form in queries)
            for row in codes
        ]
        order = np.argsort(every, kind="stable")[:k]
        np.testing.assert_array_equal(found.rows[query], order)
        np.testing.assert_array_equal(found.distances[query], np.array(every)[order])


def test_more_neighbours_than_images_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images are fewer than the 4 nearest"):
        nearest_features([torch.zeros(2, 5)], [torch.zeros(3, 5)], 4)
    with pytest.raises(ValueError, match="ask for fewer"):
        nearest_codes([np.zeros((1, 2), np.uint64)], np.zeros((3, 2), np.uint64), 4)


def test_every_form_of_an_image_is_one_that_shifting_and_mirroring_gives() -> None:
    images = fields(3, 0, side_px=64, channels=3)
    forms = list(versions(images, shifts=True))
    assert len(forms) == 10
    assert len(list(versions(images, shifts=False))) == 2
    np.testing.assert_array_equal(forms[0], images)
    np.testing.assert_array_equal(forms[1], images[:, :, ::-1])
    np.testing.assert_array_equal(forms[2][:, 2:], images[:, :-2])  # down by a 32nd
    np.testing.assert_array_equal(forms[2][:, :2], images[:, [0, 0]])  # the border is repeated
    np.testing.assert_array_equal(forms[9][:, :, ::-1][:, :, :-2], images[:, :, 2:])  # left by a 32nd


def test_pixels_forget_brightness_contrast_shift_and_mirror_but_not_the_picture() -> None:
    images = fields(60, 1)
    space = pixel_space(32, torch.device("cpu"))
    darker = (images[:20] * 0.6 + 20).astype(np.uint8)
    moved = np.roll(images[:20], 1, axis=1)[:, :, ::-1]
    for queries in (darker, moved):
        found = space.nearest(space.forms(queries), images, 2)
        np.testing.assert_array_equal(found.rows[:, 0], np.arange(20))
        assert (found.distances[:, 0] < 0.5 * found.distances[:, 1]).all()
    flat = np.full((1, 28, 28, 1), 7, np.uint8)
    assert np.square(standardised(images, 32)).sum(axis=1) == pytest.approx(np.ones(60), abs=1e-4)
    assert np.square(standardised(flat, 32)).sum() == 0
    assert standardised(fields(2, 0, side_px=64), 16).shape == (2, 256)


def test_features_of_an_image_hang_on_it_and_the_reference_alone() -> None:
    _, discriminator = build(resolve("mnist-28", width=4), 0, torch.device("cpu"))
    images = fields(300, 2)
    with feature_space(discriminator.eval(), images[:64]) as space:
        together, alone = space.see(images), np.concatenate([space.see(images[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(together[:5], alone, rtol=1e-4, atol=1e-5)
        found = space.nearest(space.forms(images[40:45, :, ::-1]), images, 3)
    np.testing.assert_array_equal(found.rows[:, 0], range(40, 45))
    assert found.distances[:, 0] == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_copies_are_other_images_that_are_found_again(kind: str) -> None:
    images = fields(100, 3)
    copies = CHANGES[kind](images[:30], np.random.default_rng(0))
    assert copies.shape == (30, 28, 28, 1)
    assert copies.dtype == np.uint8
    assert (copies != images[:30]).any(axis=(1, 2, 3)).all()
    for space in (pixel_space(32, torch.device("cpu")), code_space(top_bits)):
        assert (space.nearest(space.forms(copies), images, 2).rows[:, 0] == np.arange(30)).mean() > 0.9
