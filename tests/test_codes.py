"""Codes are exact: against whole-number arithmetic, in any batch, order and number of threads."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.autoencoder import GRID, Encoder, on_grid
from dedup.codes import FLAT_DEVIATION, encode, flat, mirror_bits, mirrored, pack, unpack


def drawn_encoder(seed: int, standardise: bool) -> Encoder:
    rng = np.random.default_rng(seed)
    weights = on_grid(rng.normal(0, 0.05, (128, 3072)) * rng.choice([0.1, 1, 20], (128, 1)))
    # Biases that balance the middling image, so that both values of every bit occur.
    bias = on_grid(rng.normal(0, 1, 128) - (0 if standardise else 0.5 * weights.sum(axis=1)))
    return Encoder(weights, bias, standardise)


def drawn_thumbs(seed: int, images: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    middle, spread = rng.uniform(0, 255, (images, 1)), rng.choice([0, 0.4, 3, 30, 200], (images, 1))
    return np.clip(rng.normal(middle, spread, (images, 3072)), 0, 255).astype(np.uint8)


def exact_bit(weights: list[int], bias: int, pixels: list[int], standardise: bool) -> bool:
    """The bit by whole numbers alone, weights and bias counted in grid steps."""
    weighted = sum(weight * pixel for weight, pixel in zip(weights, pixels, strict=True))
    if not standardise:
        return weighted + 255 * bias > 0
    total = sum(pixels)
    a = 3072 * weighted - sum(weights) * total
    square = 3072 * sum(pixel * pixel for pixel in pixels) - total * total
    # a + bias * sqrt(square) > 0, by the signs and, where they differ, the squares
    if a >= 0 and bias >= 0:
        return a > 0 or bias * square > 0
    if a <= 0 and bias <= 0:
        return False
    return a * a > bias * bias * square if a > 0 else bias * bias * square > a * a


@pytest.mark.parametrize("standardise", [True, False])
def test_every_bit_agrees_with_whole_number_arithmetic(standardise: bool) -> None:
    encoder = drawn_encoder(3, standardise)
    thumbs = drawn_thumbs(4, 12)
    thumbs[0], thumbs[1] = 0, 255
    codes = encode(encoder, thumbs)
    weights = np.rint(encoder.weights / GRID).astype(int).tolist()
    bias = np.rint(encoder.bias / GRID).astype(int).tolist()
    for pixels, code in zip(thumbs.tolist(), codes.tolist(), strict=True):
        exact = [exact_bit(weights[bit], bias[bit], pixels, standardise) for bit in range(128)]
        assert [bool(code[bit // 64] >> bit % 64 & 1) for bit in range(128)] == exact


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), images=st.integers(0, 600), standardise=st.booleans(), cuts=st.data())
def test_batches_and_order_do_not_matter(seed: int, images: int, standardise: bool, cuts: st.DataObject) -> None:
    encoder, thumbs = drawn_encoder(seed, standardise), drawn_thumbs(seed, images)
    codes = encode(encoder, thumbs)
    assert codes.shape == (images, 2)
    at = sorted(cuts.draw(st.lists(st.integers(0, images), max_size=6)))
    np.testing.assert_array_equal(np.concatenate([encode(encoder, part) for part in np.split(thumbs, at)]), codes)
    order = np.random.default_rng(seed).permutation(images)
    np.testing.assert_array_equal(encode(encoder, thumbs[order]), codes[order])
    np.testing.assert_array_equal(flat(thumbs[order]), flat(thumbs)[order])


PRINT_CODES = """
import hashlib, sys
sys.path.insert(0, "tests")
from test_codes import drawn_encoder, drawn_thumbs
from dedup.codes import encode, flat
for standardise in (True, False):
    print(hashlib.sha256(encode(drawn_encoder(5, standardise), drawn_thumbs(6, 1500)).tobytes()).hexdigest())
"""


def test_the_number_of_threads_does_not_matter() -> None:
    printed = set()
    for threads in ("1", "2", "3"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        root = Path(__file__).parent.parent
        done = subprocess.run(
            [sys.executable, "-c", PRINT_CODES], cwd=root, env=environment, capture_output=True, text=True, check=True
        )
        printed.add(done.stdout)
    assert len(printed) == 1
    assert len(set(printed.pop().split())) == 2


def test_brightness_and_contrast_leave_a_standardised_code_alone() -> None:
    thumbs = np.random.default_rng(1).integers(20, 100, (50, 3072), np.uint8)
    encoder = drawn_encoder(2, True)
    codes = encode(encoder, thumbs)
    np.testing.assert_array_equal(encode(encoder, thumbs + 31), codes)
    np.testing.assert_array_equal(encode(encoder, thumbs * 2), codes)
    plain = drawn_encoder(2, False)
    assert not np.array_equal(encode(plain, thumbs + 31), encode(plain, thumbs))


def test_a_constant_image_has_the_code_0_and_is_flat() -> None:
    thumbs = np.arange(256, dtype=np.uint8)[:, None].repeat(3072, axis=1)
    np.testing.assert_array_equal(encode(drawn_encoder(1, True), thumbs), np.zeros((256, 2), np.uint64))
    assert flat(thumbs).all()


def test_flat_is_below_the_stated_deviation() -> None:
    step = int(FLAT_DEVIATION)
    wave = np.tile([1, -1], 1536)
    thumbs = np.stack([128 + step * wave, 128 + (step - 1) * wave, 128 + (step + 1) * wave]).astype(np.uint8)
    np.testing.assert_array_equal(flat(thumbs), [False, True, False])


def test_mirrored_thumbs_are_flipped_left_to_right() -> None:
    thumbs = drawn_thumbs(7, 5)
    turned = mirrored(thumbs)
    for before, after in zip(thumbs.reshape(5, 32, 32, 3), turned.reshape(5, 32, 32, 3), strict=True):
        np.testing.assert_array_equal(after, np.fliplr(before))
    np.testing.assert_array_equal(mirrored(turned), thumbs)
    assert mirrored(thumbs[:0]).shape == (0, 3072)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), standardise=st.booleans(), odd_bits=st.sets(st.integers(0, 127)))
def test_codes_of_mirror_images_flip_the_bits_of_odd_rows(seed: int, standardise: bool, odd_bits: set[int]) -> None:
    drawn = drawn_encoder(seed, standardise)
    rows = drawn.weights.reshape(128, 32, 32, 3)
    odd = np.isin(np.arange(128), list(odd_bits))
    rows = rows + np.where(odd, -1, 1)[:, None, None, None] * rows[:, :, ::-1]
    encoder = Encoder(rows.reshape(128, 3072), np.where(odd, 0, drawn.bias), standardise)
    flips = mirror_bits(encoder)
    assert flips is not None
    assert set(np.flatnonzero(np.unpackbits(flips.view(np.uint8), bitorder="little"))) == odd_bits
    thumbs = drawn_thumbs(seed, 60)
    thumbs = thumbs[(thumbs != mirrored(thumbs)).any(axis=1)]
    seen = encode(encoder, thumbs)
    np.testing.assert_array_equal(encode(encoder, mirrored(thumbs)), seen ^ flips)


def test_an_encoder_without_parity_has_no_mirror_bits() -> None:
    drawn = drawn_encoder(0, True)
    assert mirror_bits(drawn) is None
    rows = drawn.weights.reshape(128, 32, 32, 3)
    odd = (rows - rows[:, :, ::-1]).reshape(128, 3072)
    assert mirror_bits(Encoder(odd, np.zeros(128), True)) is not None
    assert mirror_bits(Encoder(odd, np.full(128, GRID), True)) is None  # the bias is not negated


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=20))
def test_packed_codes_come_back(values: list[tuple[int, int]]) -> None:
    codes = np.array(values, np.uint64).reshape(-1, 2)
    packed = pack(codes)
    assert all(len(one) == 16 for one in packed)
    np.testing.assert_array_equal(unpack(b"".join(packed)), codes)


def test_the_bytes_of_a_packed_code() -> None:
    code = np.array([[1 | 1 << 9, 1 << 63]], np.uint64)  # bits 0, 9 and 127
    assert pack(code) == [bytes([1, 2, *[0] * 13, 128])]


def test_what_is_no_thumb_or_no_code_is_refused() -> None:
    encoder = drawn_encoder(0, True)
    with pytest.raises(ValueError, match=r"float32\[2, 3072\], not uint8\[N, 3072\]"):
        encode(encoder, np.zeros((2, 3072), np.float32))
    with pytest.raises(ValueError, match=r"uint8\[2, 32, 32, 3\]"):
        flat(np.zeros((2, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="17 bytes"):
        unpack(bytes(17))
