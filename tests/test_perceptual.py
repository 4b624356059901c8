"""Thumbs are area means; hashes are imagehash's, exact, and know their mirror images."""

from io import BytesIO

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from manifests.perceptual import VIEWS, luma, phashes, thumbs

Pixels = npt.NDArray[np.uint8]


def smooth(height: int, width: int, seed: int = 0) -> Pixels:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def lumas_of(count: int, seed: int = 0) -> Pixels:
    return np.stack([luma(smooth(32, 32, seed + at)) for at in range(count)])


@given(arrays(np.uint8, (3, 32, 32), elements=st.integers(0, 255)), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_hash_is_imagehashs_on_drawn_pictures(noise: Pixels, seed: int) -> None:
    noise = noise ^ np.random.default_rng(seed).integers(0, 256, noise.shape, np.uint8)
    for pictures in (noise, lumas_of(3, seed)):
        hashes, _ = phashes(pictures)
        assert [f"{value:016x}" for value in hashes] == [str(imagehash.phash(Image.fromarray(p))) for p in pictures]


@given(arrays(np.uint8, (2, 32, 32), elements=st.sampled_from([0, 1, 127, 128, 255])))
@settings(max_examples=100, deadline=None)
def test_mirrored_hash_is_the_mirror_images_hash(pictures: Pixels) -> None:
    hashes, mirrored = phashes(pictures)
    assert np.array_equal(phashes(pictures[:, :, ::-1])[0], mirrored)
    assert np.array_equal(phashes(pictures[:, :, ::-1])[1], hashes)


def test_hash_is_that_of_whole_numbers() -> None:
    pictures = np.concatenate([lumas_of(20), np.random.default_rng(3).integers(0, 256, (180, 32, 32), np.uint8)])
    angles = np.pi / 64 * np.outer(np.arange(8), 2 * np.arange(32) + 1)
    cosines = np.rint(np.cos(angles) * 2**17).astype(np.int64)
    frequencies = np.einsum("uy,nyx,vx->nuv", cosines, pictures.astype(np.int64), cosines).reshape(-1, 64)
    ordered = np.sort(frequencies, axis=1)
    bits = 2 * frequencies > ordered[:, 31:32] + ordered[:, 32:33]
    expected = [int("".join("01"[int(bit)] for bit in row), 2) for row in bits]
    assert phashes(pictures)[0].tolist() == expected


def test_hash_does_not_depend_on_the_batch() -> None:
    pictures = np.concatenate([lumas_of(50), np.random.default_rng(4).integers(0, 256, (100, 32, 32), np.uint8)])
    together = np.stack(phashes(pictures))
    alone = np.concatenate([np.stack(phashes(picture[None])) for picture in pictures], axis=1)
    assert np.array_equal(together, alone)
    assert [part.shape for part in phashes(pictures[:0])] == [(0,), (0,)]


def test_flat_and_one_way_pictures_hash_alike_in_the_mirror() -> None:
    flat = np.stack([np.full((32, 32), value, np.uint8) for value in range(256)])
    hashes, mirrored = phashes(flat)
    assert np.array_equal(hashes, mirrored)
    assert set(hashes[1:].tolist()) == {1 << 63}
    assert hashes[0] == 0
    rows = np.repeat(np.random.default_rng(5).integers(0, 256, (40, 32, 1), np.uint8), 32, axis=2)
    assert np.array_equal(*phashes(rows))
    halves = np.random.default_rng(6).integers(0, 256, (40, 32, 16), np.uint8)
    assert np.array_equal(*phashes(np.concatenate([halves, halves[:, :, ::-1]], axis=2)))


def test_hash_moves_little_with_jpeg_and_much_with_another_picture() -> None:
    pictures = lumas_of(40)
    lossy = np.empty_like(pictures)
    for picture, after in zip(pictures, lossy, strict=True):
        file = BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=60)
        after[:] = Image.open(file)
    hashes = phashes(pictures)[0]
    assert np.median(np.bitwise_count(hashes ^ phashes(lossy)[0])) <= 4
    assert np.median(np.bitwise_count(hashes[:, None] ^ hashes[None])) >= 24


def test_luma_is_pillows_for_every_seventh_colour() -> None:
    levels = np.append(np.arange(0, 256, 5), [1, 2, 254]).astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    assert np.array_equal(luma(colours), np.asarray(Image.fromarray(colours).convert("L")))
    assert luma(np.zeros((3, 32, 32, 3), np.uint8)).shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("height", "width"), [(32, 32), (96, 64), (256, 256), (256, 341), (341, 255), (129, 131), (700, 1001)]
)
def test_thumbs_are_area_means(height: int, width: int) -> None:
    image = smooth(height, width, 9)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    for thumb, source in zip(thumbs(image), (square, image), strict=True):
        direct = cv2.resize(source, (32, 32), interpolation=cv2.INTER_AREA)
        assert thumb.shape == (32, 32, 3)
        assert np.abs(thumb.astype(int) - direct).max() <= 5
        assert np.abs(thumb.astype(int) - direct).mean() < 1


def test_thumbs_of_noise_are_block_means_to_a_rounding() -> None:
    image = np.random.default_rng(8).integers(0, 256, (256, 512, 3), np.uint8)
    centre, whole = thumbs(image)
    assert np.abs(whole - image.reshape(32, 8, 32, 16, 3).mean(axis=(1, 3))).max() <= 2
    assert np.abs(centre - image[:, 128:384].reshape(32, 8, 32, 8, 3).mean(axis=(1, 3))).max() <= 2


def test_thumbs_of_tiny_and_thin_pictures() -> None:
    for shape in ((1, 1, 3), (1, 500, 3), (3, 2, 3), (4000, 130, 3)):
        colour = np.full(shape, (9, 99, 199), np.uint8)
        assert all(np.array_equal(thumb, np.full((32, 32, 3), (9, 99, 199))) for thumb in thumbs(colour))


@given(st.integers(1, 600), st.integers(1, 600))
@settings(max_examples=150, deadline=None)
def test_thumbs_of_every_size_are_32_pixels_and_keep_a_flat_colour(height: int, width: int) -> None:
    for thumb in thumbs(np.full((height, width, 3), (9, 99, 199), np.uint8)):
        assert np.array_equal(thumb, np.full((32, 32, 3), (9, 99, 199)))


def test_square_pictures_have_one_thumb_and_long_ones_two() -> None:
    centre, whole = thumbs(smooth(128, 128))
    assert np.array_equal(centre, whole)
    centre, whole = thumbs(smooth(128, 300))
    assert not np.array_equal(centre, whole)


def test_mirrored_picture_has_the_mirrored_hash() -> None:
    for seed, (height, width) in enumerate([(256, 256), (256, 340), (192, 320)]):
        image = smooth(height, width, seed)
        (_, whole), (_, whole_mirrored) = thumbs(image), thumbs(np.ascontiguousarray(image[:, ::-1]))
        mirrored = phashes(luma(whole)[None])[1]
        assert np.bitwise_count(mirrored ^ phashes(luma(whole_mirrored)[None])[0])[0] <= 2


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_hash_of_a_view_is_that_of_the_picture_cropped_and_stretched(view: str) -> None:
    left, top, right, bottom = (round(share * 800) for share in VIEWS[view])
    off = []
    for seed in range(60):
        image = smooth(800, 800, seed)
        cropped = np.ascontiguousarray(image[top:bottom, left:right])
        (_, whole), (_, part) = thumbs(image), thumbs(cropped)
        expected = np.stack(phashes(luma(part)[None]))
        off.append(np.bitwise_count(np.stack(phashes(luma(whole)[None], view)) ^ expected))
    assert np.quantile(off, 0.95) <= 2
    assert np.mean(off) <= 0.7


@pytest.mark.parametrize("view", [view for view in sorted(VIEWS) if view != "whole"])
def test_hash_of_a_view_is_nearer_to_the_crop_than_that_of_the_whole(view: str) -> None:
    left, top, right, bottom = (round(share * 400) for share in VIEWS[view])
    nearer = []
    for seed in range(60):
        image = smooth(400, 400, seed)
        (_, whole), (_, part) = thumbs(image), thumbs(np.ascontiguousarray(image[top:bottom, left:right]))
        of_part = phashes(luma(part)[None])[0]
        by_view, by_whole = (
            np.bitwise_count(phashes(luma(whole)[None], name)[0] ^ of_part) for name in (view, "whole")
        )
        nearer.append(by_whole[0].astype(int) - by_view[0])
    assert np.mean(nearer) >= 2


def test_the_whole_is_the_first_view_and_what_is_hashed_by_default() -> None:
    pictures = lumas_of(30)
    assert next(iter(VIEWS)) == "whole"  # its number is 0
    np.testing.assert_array_equal(np.stack(phashes(pictures, "whole")), np.stack(phashes(pictures)))


@pytest.mark.parametrize(
    ("view", "in_the_mirror"),
    [
        ("whole", "whole"),
        ("middle", "middle"),
        ("left", "right"),
        ("right", "left"),
        ("top", "top"),
        ("bottom", "bottom"),
    ],
)
def test_the_mirrored_hash_of_a_view_is_that_of_the_mirror_images_view(view: str, in_the_mirror: str) -> None:
    pictures = np.concatenate([lumas_of(40), np.random.default_rng(7).integers(0, 256, (40, 32, 32), np.uint8)])
    mirror_images = np.ascontiguousarray(pictures[:, :, ::-1])
    mirrored = phashes(pictures, view)[1]
    off = np.bitwise_count(mirrored ^ phashes(mirror_images, in_the_mirror)[0])
    assert off.max() <= 2  # a cosine of the one side is rounded apart from that of the other
    assert off.mean() <= 0.1
    assert len(set(mirrored.tolist()) & set(phashes(pictures, view)[0].tolist())) == 0
