"""The near-duplicate changes: each does what its name says, the same way every time."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dedup.changes import CHANGES, apply_change
from pipelines.sources.bedroom import draw_room

NAMES = [
    *("jpeg60", "jpeg30", "webp", "png", "scale75", "scale50", "crop2", "crop5", "crop10", "bright_up", "bright_down"),
    *("contrast", "saturation", "blur", "grey", "caption", "rotate2", "letterbox", "mirror"),
]

Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def image() -> Image:
    return draw_room(11, 0, 256).image


def test_the_nineteen_names_stand_in_their_order() -> None:
    assert list(CHANGES) == NAMES


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", [name for name in NAMES if name != "png"])
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


@pytest.mark.parametrize(("name", "share"), [("crop2", 0.02), ("crop5", 0.05), ("crop10", 0.10)])
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


def test_an_unknown_change_names_the_nearest(image: Image) -> None:
    with pytest.raises(ValueError, match="rotate2"):
        apply_change(image, "rotate")
