"""The near-duplicate changes: each does what its name says, the same way every time."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dedup.changes import CHANGES, HARD_CHANGES, apply_change
from pipelines.sources.bedroom import draw_room

NAMES = [
    *("jpeg60", "jpeg30", "webp", "png", "scale75", "scale50", "crop2", "crop5", "crop10", "bright_up", "bright_down"),
    *("contrast", "saturation", "blur", "grey", "caption", "rotate2", "letterbox", "mirror"),
]
HARD_NAMES = ["crop20", "rotate5", "aspect115", "border10", "sticker15", "jpeg10", "gamma16", "crop_jpeg_caption"]

Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def image() -> Image:
    return draw_room(11, 0, 256).image


def test_the_nineteen_names_stand_in_their_order() -> None:
    assert list(CHANGES) == NAMES


def test_the_hard_names_stand_in_their_order_and_are_no_others() -> None:
    assert list(HARD_CHANGES) == HARD_NAMES
    assert not set(HARD_CHANGES) & set(CHANGES)


@pytest.mark.parametrize("name", NAMES + HARD_NAMES)
@pytest.mark.parametrize("shape", [(256, 256), (32, 32), (97, 210)])
def test_a_change_repeats_and_gives_an_rgb_picture(image: Image, name: str, shape: tuple[int, int]) -> None:
    source = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA).astype(np.uint8)
    before = source.copy()
    changed, again = apply_change(source, name), apply_change(source, name)
    assert changed.dtype == np.uint8
    assert changed.ndim == 3
    assert changed.shape[2] == 3
    np.testing.assert_array_equal(changed, again)
    np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize("name", [name for name in NAMES + HARD_NAMES if name != "png"])
def test_a_change_changes_the_picture_but_keeps_its_subject(image: Image, name: str) -> None:
    changed = apply_change(image, name)
    back = cv2.resize(changed, (256, 256), interpolation=cv2.INTER_AREA)
    if name == "mirror":
        back = back[:, ::-1]
    else:
        assert changed.shape != image.shape or (changed != image).any()
    one, two = (cv2.cvtColor(np.ascontiguousarray(i), cv2.COLOR_RGB2GRAY).astype(float).ravel() for i in (image, back))
    assert np.corrcoef(one, two)[0, 1] > 0.5


def test_known_values(image: Image) -> None:
    np.testing.assert_array_equal(apply_change(image, "png"), image)
    np.testing.assert_array_equal(apply_change(image, "mirror"), image[:, ::-1])
    assert apply_change(image, "scale50").shape == (128, 128, 3)
    assert apply_change(image, "scale75").shape == (192, 192, 3)
    grey = apply_change(image, "grey")
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 1] == grey[..., 2]).all()
    ratios = {name: apply_change(image, name).mean() / image.mean() for name in ("bright_up", "bright_down")}
    assert 1.05 < ratios["bright_up"] < 1.16
    assert 0.84 < ratios["bright_down"] < 0.86


@pytest.mark.parametrize(("name", "share"), [("crop2", 0.02), ("crop5", 0.05), ("crop10", 0.10), ("crop20", 0.20)])
def test_crops_take_the_middle(image: Image, name: str, share: float) -> None:
    cropped = apply_change(image, name)
    side = cropped.shape[0]
    assert abs(side * side / 256**2 - (1 - share)) <= 0.01
    start = (256 - side) // 2
    assert any(
        np.array_equal(cropped, image[top : top + side, left : left + side])
        for top in (start, start + 1)
        for left in (start, start + 1)
    )


def test_an_aspect_of_115_is_wider_and_no_taller(image: Image) -> None:
    assert apply_change(image[:100, :200], "aspect115").shape == (100, 230, 3)


def test_a_border_leaves_the_picture_whole_at_the_right_of_a_white_bar(image: Image) -> None:
    bordered = apply_change(image, "border10")
    assert bordered.shape == (256, 282, 3)
    np.testing.assert_array_equal(bordered[:, 26:], image)
    assert (bordered[:, :26] == 255).all()


@pytest.mark.parametrize("shape", [(256, 256), (97, 210)])
def test_a_sticker_hides_15_percent_off_the_middle_and_nothing_else(image: Image, shape: tuple[int, int]) -> None:
    source = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA).astype(np.uint8)
    grey = np.full_like(source, 128)
    rows, columns = np.nonzero((apply_change(grey, "sticker15") != grey).any(axis=2))
    assert abs(len(rows) / (shape[0] * shape[1]) - 0.15) < 0.01
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert rows.max() < 0.6 * shape[0]
    assert columns.min() > 0.4 * shape[1]
    stuck, plain = apply_change(source, "sticker15"), np.ones(shape, np.bool_)
    plain[rows, columns] = False
    np.testing.assert_array_equal(stuck[plain], source[plain])
    assert len(np.unique(stuck[~plain], axis=0)) == 2


def test_a_gamma_of_16_leaves_the_ends_and_darkens_the_middle() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(32, axis=0).repeat(3, axis=2)
    darker = apply_change(levels, "gamma16")[0, :, 0]
    assert darker[[0, 128, 255]].tolist() == [0, 85, 255]  # 255 (128 / 255) ^ 1.6 = 84.6
    assert (np.diff(darker.astype(int)) >= 0).all()


def test_five_degrees_turn_further_than_two(image: Image) -> None:
    centre = (slice(64, 192), slice(64, 192))
    turned = {name: apply_change(image, name)[centre].astype(float) for name in ("rotate2", "rotate5")}
    apart = {name: np.abs(pixels - image[centre]).mean() for name, pixels in turned.items()}
    assert apart["rotate5"] > apart["rotate2"] > 0
    back = cv2.getRotationMatrix2D((127.5, 127.5), -5.0, 1.0)
    upright = cv2.warpAffine(apply_change(image, "rotate5"), back, (256, 256))[centre].astype(float)
    assert np.abs(upright - image[centre]).mean() < apart["rotate2"]


def test_crop_jpeg_caption_is_the_three_in_a_row(image: Image) -> None:
    together = apply_change(image, "crop_jpeg_caption")
    assert together.shape == apply_change(image, "crop10").shape
    bar = together.shape[0] // 14
    np.testing.assert_array_equal(together[-bar:], apply_change(apply_change(image, "crop10"), "caption")[-bar:])
    coarser = np.abs(together[:-bar].astype(float) - apply_change(image, "crop10")[:-bar]).mean()
    assert 0.1 < coarser < 20


def test_jpeg_10_is_coarser_than_jpeg_30(image: Image) -> None:
    errors = {name: np.abs(apply_change(image, name).astype(float) - image).mean() for name in ("jpeg30", "jpeg10")}
    assert errors["jpeg10"] > errors["jpeg30"]


def test_an_unknown_change_names_the_nearest(image: Image) -> None:
    with pytest.raises(ValueError, match="rotate2"):
        apply_change(image, "rotate")


def test_a_misspelt_hard_change_names_it(image: Image) -> None:
    with pytest.raises(ValueError, match="try 'sticker15'"):
        apply_change(image, "sticker")
