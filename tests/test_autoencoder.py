"""The autoencoder learns, the same each time, and its file comes back as it was."""

import io
import math
import pickle
import zipfile

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError

from dedup.autoencoder import (
    GRID,
    PAPER,
    AutoencoderSettings,
    Encoder,
    Fitted,
    fit,
    load_encoder,
    on_grid,
    save_encoder,
)
from dedup.changes import apply_change
from dedup.codes import encode, mirror_bits, mirrored
from dedup.corruption import masked

QUICK = AutoencoderSettings(epochs=3, batch_images=50)
PLAIN = PAPER.model_copy(update={"epochs": 3, "batch_images": 50})


def smooth_thumbs(seed: int, images: int) -> npt.NDArray[np.uint8]:
    """Soft blobs of colour: 48 numbers an image, so 128 units can learn them."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (images, 4, 4, 3)).astype(np.float32)
    large = [cv2.resize(image, (32, 32), interpolation=cv2.INTER_LINEAR) for image in small]
    return np.stack(large).astype(np.uint8).reshape(images, -1)


def same_encoder(a: Encoder, b: Encoder) -> bool:
    return np.array_equal(a.weights, b.weights) and np.array_equal(a.bias, b.bias) and a.standardise is b.standardise


def a_fit(images: int = 300, settings: AutoencoderSettings = QUICK, seed: int = 0) -> Fitted:
    return fit(smooth_thumbs(1, images), settings, seed, threads=1)


@pytest.mark.parametrize("settings", [QUICK, PLAIN])
def test_the_same_thumbs_in_any_order_give_the_same_bytes(settings: AutoencoderSettings) -> None:
    thumbs = smooth_thumbs(1, 300)
    once = save_encoder(fit(thumbs, settings, 0, 1).encoder)
    shuffled = thumbs[np.random.default_rng(9).permutation(300)]
    assert save_encoder(fit(shuffled, settings, 0, 1).encoder) == once
    assert save_encoder(fit(thumbs, settings, 1, 1).encoder) != once


def test_fitting_leaves_torchs_own_state_alone() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    fit(smooth_thumbs(1, 60), PLAIN, 0, threads=threads + 1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("standardise", [True, False])
def test_all_pixels_are_learnt_and_units_tell_images_apart(standardise: bool) -> None:
    told: list[tuple[int, float]] = []
    thumbs = smooth_thumbs(1, 600)
    settings = PAPER.model_copy(update={"epochs": 8, "standardise": standardise})
    fitted = fit(thumbs, settings, 0, 1, on_epoch=lambda epoch, loss: told.append((epoch, loss)))
    assert told == list(enumerate(fitted.losses, start=1))
    # Always guessing the mean image has the variance about it as its error.
    images = thumbs / 255.0
    if standardise:
        images = (images - images.mean(1, keepdims=True)) / images.std(1, keepdims=True)
    assert fitted.losses[-1] < 0.5 * images.var(axis=0).mean()
    codes = encode(fitted.encoder, smooth_thumbs(2, 400))
    assert ((shares_on(codes) > 0.1) & (shares_on(codes) < 0.9)).sum() >= 115  # a dead unit says nothing of any image
    assert len(np.unique(codes, axis=0)) == 400


def shares_on(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.unpackbits(codes.view(np.uint8), axis=1, bitorder="little").mean(axis=0), np.float64)


def test_directions_are_learnt_and_hold_under_changes_that_pixels_do_not() -> None:
    # The same blobs as pictures of 96 px, so that the changes have something to work on.
    pictures = [cv2.resize(thumb.reshape(32, 32, 3), (96, 96)) for thumb in smooth_thumbs(2, 150)]
    changed = [
        [apply_change(np.asarray(picture, np.uint8), name) for picture in pictures]
        for name in ("crop10", "letterbox", "grey", "bright_down", "rotate2")
    ]
    thumbs = smooth_thumbs(1, 1000)
    bits_off: list[float] = []
    for settings in (AutoencoderSettings(), PAPER):
        fitted = fit(thumbs, settings, 0, 1)
        assert fitted.losses[-1] < 0.5 * fitted.losses[0]
        codes = encode(fitted.encoder, small(pictures))
        copies = np.stack([encode(fitted.encoder, small(images)) for images in changed])
        off = np.bitwise_count(copies ^ codes).sum(axis=2)
        others = np.bitwise_count(codes[1:] ^ codes[:-1]).sum(axis=1)
        assert off.mean() < others.mean() / 2
        bits_off.append(float(off.mean() / others.mean()))
    assert bits_off[0] < 0.7 * bits_off[1]


def small(pictures: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    resized = [cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA) for picture in pictures]
    return np.stack(resized).astype(np.uint8).reshape(len(pictures), -1)


def test_bits_are_balanced_and_mirror_images_flip_fixed_ones() -> None:
    thumbs = smooth_thumbs(1, 800) // 2  # darker to the right and below, so that thresholds at 0 are off
    shade = np.linspace(1, 0.3, 32)
    thumbs = (thumbs.reshape(-1, 32, 32, 3) * shade[:, None, None]).astype(np.uint8).reshape(800, -1)
    balanced = fit(thumbs, QUICK, 0, 1).encoder
    flips = mirror_bits(balanced)
    assert flips is not None
    assert 20 <= np.bitwise_count(flips).sum() <= 108
    np.testing.assert_array_equal(
        encode(balanced, mirrored(smooth_thumbs(5, 300))), encode(balanced, smooth_thumbs(5, 300)) ^ flips
    )
    even = ~np.unpackbits(flips.view(np.uint8), bitorder="little").astype(bool)
    np.testing.assert_allclose(shares_on(encode(balanced, thumbs))[even], 0.5, atol=0.01)

    free = fit(thumbs, QUICK.model_copy(update={"mirror_units": False}), 0, 1).encoder
    assert mirror_bits(free) is None
    np.testing.assert_allclose(shares_on(encode(free, thumbs)), 0.5, atol=0.01)
    left_alone = fit(thumbs, QUICK.model_copy(update={"mirror_units": False, "balance": False}), 0, 1).encoder
    assert np.abs(shares_on(encode(left_alone, thumbs)) - 0.5).max() > 0.02


def test_a_handful_of_images_is_enough_for_codes_that_hold() -> None:
    thumbs = smooth_thumbs(3, 3)
    darker = (thumbs * 0.8).astype(np.uint8)
    encoder = fit(np.concatenate([thumbs[:2], darker[:1]]), AutoencoderSettings(), 0, 1).encoder
    codes, copies = encode(encoder, thumbs), encode(encoder, darker)
    # Were thresholds at the median of three images, two of which are one picture, half its bits would be chance.
    assert np.bitwise_count(codes ^ copies).sum(axis=1).max() <= 12
    assert np.bitwise_count(codes[0] ^ codes[1]).sum() > 30


def test_each_setting_changes_the_fit() -> None:
    thumbs = smooth_thumbs(1, 120)
    forms = [QUICK, PLAIN]
    forms += [QUICK.model_copy(update=one) for one in ({"directions": 16}, {"noise": 0.1}, {"standardise": False})]
    forms += [QUICK.model_copy(update=one) for one in ({"mirror_units": False}, {"balance": False}, {"dropout": 0.4})]
    forms += [PLAIN.model_copy(update=one) for one in ({"changes": True}, {"noise": 0.0}, {"balance": True})]
    assert len({save_encoder(fit(thumbs, settings, 0, 1).encoder) for settings in forms}) == len(forms)


def test_only_so_many_images_are_fitted_on() -> None:
    few = AutoencoderSettings(epochs=2, batch_images=50, fit_images=100)
    thumbs = smooth_thumbs(1, 300)
    counted = fit(thumbs, few, 0, 1)
    # Another seed draws other images: had all been used, or always the first, one image would do the same as the next.
    assert not same_encoder(counted.encoder, fit(thumbs, few, 3, 1).encoder)
    assert not same_encoder(counted.encoder, fit(thumbs[:100], few, 0, 1).encoder)
    all_of_them = AutoencoderSettings(epochs=2, batch_images=50, fit_images=300)
    assert same_encoder(
        fit(thumbs, all_of_them, 0, 1).encoder,
        fit(thumbs, AutoencoderSettings(epochs=2, batch_images=50), 0, 1).encoder,
    )


def test_flat_images_and_a_single_one_can_be_fitted_on() -> None:
    thumbs = np.full((3, 3072), [[0], [128], [255]], np.uint8)
    for settings in (QUICK, PLAIN, QUICK.model_copy(update={"standardise": False})):
        fitted = fit(thumbs, settings, 0, 1)
        assert all(math.isfinite(loss) for loss in fitted.losses)
    assert len(a_fit(1).losses) == 3


def test_nothing_to_fit_on_and_a_fit_that_runs_away_are_refused() -> None:
    with pytest.raises(ValueError, match="keep at least one image"):
        fit(np.empty((0, 3072), np.uint8), QUICK, 0, 1)
    with pytest.raises(ValueError, match="learning_rate"):
        a_fit(settings=PLAIN.model_copy(update={"learning_rate": 1e30}))


def test_an_encoder_file_comes_back_as_it_was() -> None:
    encoder = a_fit().encoder
    data = save_encoder(encoder)
    assert same_encoder(load_encoder(data), encoder)
    assert save_encoder(load_encoder(data)) == data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("the file was unpickled",)


def test_what_is_no_encoder_file_is_refused_and_never_unpickled() -> None:
    with_pickle = io.BytesIO()
    np.savez(with_pickle, weights=np.array([Bomb()], object), bias=np.zeros(128), standardise=np.array(True))
    no_bias = io.BytesIO()
    np.savez(no_bias, weights=np.zeros((128, 3072)))
    whole = save_encoder(a_fit(20).encoder)
    plain_pickle = pickle.dumps(Bomb())
    for data in (b"", b"no zip", plain_pickle, with_pickle.getvalue(), no_bias.getvalue(), whole[:-900], whole[:5000]):
        with pytest.raises(ValueError, match="not an encoder file"):
            load_encoder(data)


def test_an_encoder_whose_sums_would_not_be_exact_is_refused() -> None:
    weights, bias = np.zeros((128, 3072)), np.zeros(128)
    Encoder(weights, bias, True)
    with pytest.raises(ValueError, match="are not"):
        Encoder(weights.T, bias, True)
    with pytest.raises(ValueError, match="bias hold values"):
        Encoder(weights, bias + GRID / 2, True)
    with pytest.raises(ValueError, match="weights hold values"):
        Encoder(np.full((128, 3072), np.nan), bias, True)
    # 2 x 3072 x 255 x 3072 x w steps of 2^-14 reach 2^53 at w = 114.2.
    Encoder(weights + 114, bias, True)
    with pytest.raises(ValueError, match=r"exact only below 2\^53"):
        Encoder(weights - 115, bias, True)


def test_grid_values_are_the_nearest() -> None:
    values = np.array([0.3, -0.3, 1e-6, -1e-6, 5.0])
    rounded = on_grid(values)
    assert np.abs(rounded - values).max() <= GRID / 2
    np.testing.assert_array_equal(rounded[2:], [0, 0, 5])
    assert not np.signbit(rounded[3])  # -0.0 has other bytes than 0.0


def test_settings_refuse_what_cannot_be() -> None:
    for bad in ({"dropout": 1.0}, {"noise": -0.1}, {"epochs": 0}, {"epoch": 3}):
        with pytest.raises(ValidationError):
            AutoencoderSettings.model_validate(bad)
    with pytest.raises(ValidationError, match="mirror_units=true needs directions"):
        AutoencoderSettings(directions=0)
    with pytest.raises(ValidationError, match="directions are found by the changes"):
        AutoencoderSettings(changes=False)
    AutoencoderSettings.model_validate(PAPER.model_dump())


def test_masking_takes_whole_pixels() -> None:
    images = torch.rand(40, 3072) + 1
    seen = masked(images, 0.25, torch.Generator().manual_seed(0)).view(40, 1024, 3)
    gone = (seen == 0).all(dim=2)
    assert 0.22 < gone.float().mean() < 0.28
    assert torch.equal(seen[~gone], images.view(40, 1024, 3)[~gone])
