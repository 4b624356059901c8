"""Boxes: which places they cover, which are the same, and how those of files move along with the crop."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.labelled.boxes import BoxesSettings, in_square, read_boxed, read_json
from pipelines.sources.bedroom import draw_room
from training.evaluation.boxes import covered, matches, mirrored, overlaps
from training.evaluation.measured import Unmeasurable

Boxes = npt.NDArray[np.float32]
_RED = (250, 10, 10)


def _boxes(*rows: tuple[float, ...]) -> Boxes:
    return np.array(rows, np.float32).reshape(-1, 4)


_EDGES = st.lists(st.floats(0, 32, width=32), min_size=2, max_size=2, unique=True).map(sorted)


@given(st.lists(st.tuples(_EDGES, _EDGES), max_size=3), st.sampled_from([8, 16]), st.sampled_from([0.5, 1.0]))
def test_a_cell_is_covered_where_its_middle_is_in_a_box(
    edges: list[tuple[list[float], list[float]]], cells: int, share: float
) -> None:
    rows = [(x0, y0, x1 - x0, y1 - y0) for (x0, x1), (y0, y1) in edges]
    mask, cell = covered(_boxes(*rows), 32, cells, share), 32 / cells
    y, x = (np.indices((cells, cells)) + 0.5) * cell
    inside = np.zeros_like(mask)
    for left, top, width, height in _boxes(*rows).tolist():
        middle = abs(x - left - width / 2) <= width * share / 2
        inside |= middle & (abs(y - top - height / 2) <= height * share / 2)
    assert mask[inside].all()
    # What is covered beside that is of boxes too small to hold the middle of a cell.
    assert (mask == inside).all() or any(min(row[2:]) * share < cell for row in rows)


def test_a_tiny_box_covers_the_cell_that_it_lies_in() -> None:
    mask = covered(_boxes((13, 21, 1, 1)), 32, 8)
    assert np.argwhere(mask).tolist() == [[5, 3]]
    assert covered(_boxes((31.5, 31.5, 1, 1)), 32, 8)[7, 7]


def test_mirrored_boxes_are_those_of_the_mirrored_picture() -> None:
    boxes = _boxes((3, 4, 5, 6), (20, 1, 12, 9))
    np.testing.assert_array_equal(covered(mirrored(boxes, 32), 32, 32), covered(boxes, 32, 32)[:, ::-1])


def test_overlap_is_the_shared_area_over_the_area_of_both() -> None:
    one = _boxes((0, 0, 10, 10))
    assert overlaps(one, _boxes((0, 0, 10, 10), (5, 0, 10, 10), (10, 0, 3, 3)))[0].tolist() == pytest.approx(
        [1, 1 / 3, 0]
    )


def test_each_box_matches_one_at_most() -> None:
    true = _boxes((0, 0, 10, 10), (20, 0, 10, 10))
    assert matches(_boxes((0, 0, 10, 10), (1, 0, 10, 10), (2, 0, 10, 10)), true, 0.3) == 1
    assert matches(_boxes((20, 0, 10, 9), (1, 0, 10, 10)), true, 0.3) == 2
    assert matches(_boxes(), true, 0.3) == 0
    # The best pair comes first, and leaves nothing near enough for the other two.
    assert matches(_boxes((4, 0, 10, 10), (0, 0, 10, 10)), _boxes((3, 0, 10, 10), (8, 0, 10, 10)), 0.3) == 1


def _write(folder: Path, pictures: dict[str, npt.NDArray[np.uint8]], boxes: Any) -> BoxesSettings:
    for name, picture in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), picture[..., ::-1])
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return BoxesSettings(kind="json", path=str(folder), boxes=str(folder / "boxes.json"))


def _picture(height: int, width: int, box: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Dark, red inside of the box."""
    picture = np.full((height, width, 3), 20, np.uint8)
    left, top, box_width, box_height = box
    picture[top : top + box_height, left : left + box_width] = _RED
    return picture


@given(
    st.integers(64, 130),
    st.integers(64, 130),
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(24, 60), st.integers(24, 60)),
)
def test_boxes_move_with_what_they_are_around(height: int, width: int, box: tuple[int, int, int, int]) -> None:
    side = min(height, width)
    picture = _picture(height, width, box)
    left, top, box_width, box_height = (*box[:2], min(box[2], width - box[0]), min(box[3], height - box[1]))
    moved = in_square(_boxes((left, top, box_width, box_height)), width, height, side)
    square = picture[(height - side) // 2 :, (width - side) // 2 :][:side, :side]
    if len(moved):
        np.testing.assert_array_equal(covered(moved, side, side), (square == _RED).all(axis=2))
    else:
        assert (square == _RED).all(axis=2).sum() < box_width * box_height / 4


def test_files_are_cropped_and_reduced_and_their_boxes_too(tmp_path: Path) -> None:
    wide, box = _picture(64, 128, (80, 16, 32, 8)), [80, 16, 32, 8]
    settings = _write(tmp_path, {"a/wide.png": wide, "b.png": wide}, {"b.png": [], "a/wide.png": [box, [0, 0, 20, 20]]})
    boxed = read_boxed(settings, 32, 3)
    assert boxed.images.shape == (2, 32, 32, 3)
    # 32 px of each side are cut off, and half of the box with them; the second box lies in what is cut off.
    np.testing.assert_array_equal(boxed.boxes[0], _boxes((24, 8, 8, 4)))
    assert (boxed.images[0][covered(boxed.boxes[0], 32, 32)] == _RED).all()
    assert boxed.boxes[1].shape == (0, 4)
    grey = read_boxed(settings, 32, 1).images
    assert grey.shape == (2, 32, 32, 1)
    assert int(grey[0, 9, 25, 0]) == round(0.299 * 250 + 0.701 * 10)


def test_boxes_are_of_the_upright_picture(tmp_path: Path) -> None:
    from PIL import Image

    turned = Image.fromarray(_picture(64, 96, (0, 0, 48, 16)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned to the right
    turned.save(tmp_path / "turned.png", exif=exif)
    # Upright it is 64 wide and 96 high, the red at its right border, from the top.
    settings = _write(tmp_path, {}, {"turned.png": [[48, 0, 16, 48]]})
    boxed = read_boxed(settings, 64, 3)
    np.testing.assert_array_equal(boxed.boxes[0], _boxes((48, 0, 16, 32)))
    np.testing.assert_array_equal(covered(boxed.boxes[0], 64, 64), (boxed.images[0] == _RED).all(axis=2))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([], "holds nothing"),
        ([[1, 2, 3, 4]], "holds a list"),
        ({"a.png": 3}, r"a\.png has 3; a list of boxes"),
        ({"a.png": [[1, 2, 3]]}, r"the box \[1, 2, 3\]; write it as"),
        ({"a.png": [[1, 2, 3, "4"]]}, "write it as"),
        ({"a.png": [[1, 2, 3, True]]}, "write it as"),
        ({"a.png": [[1, 2, 0, 4]]}, "must be over 0"),
        ({"a.png": [[1, float("nan"), 3, 4]]}, "must be over 0"),
        ({"a.png": [[200, 2, 3, 4]]}, "outside of its 64x64 pixels"),
        ({"../a.png": [[1, 2, 3, 4]]}, "does not lie below"),
        ({"missing.png": [[1, 2, 3, 4]]}, "can't be read"),
        ({"boxes.json": [[1, 2, 3, 4]]}, "can't be decoded"),
    ],
)
def test_bad_boxes_are_named(tmp_path: Path, told: Any, said: str) -> None:
    settings = _write(tmp_path, {"a.png": _picture(64, 64, (0, 0, 9, 9))}, told)
    with pytest.raises(Unmeasurable, match=said):
        read_boxed(settings, 32, 3)


def test_a_json_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"a": ')
    for name in ("half.json", "absent.json"):
        with pytest.raises(Unmeasurable, match=name):
            read_json(str(tmp_path / name))


def test_settings_that_do_not_fit_their_kind_are_refused() -> None:
    with pytest.raises(ValidationError, match="set both path"):
        BoxesSettings(kind="json", path="/photos")
    with pytest.raises(ValidationError, match="leave out path"):
        BoxesSettings(kind="drawn_rooms", path="/photos")


def test_drawn_rooms_come_with_their_windows() -> None:
    boxed = read_boxed(BoxesSettings(kind="drawn_rooms", images=20, seed=4), 64, 3)
    assert boxed.images.shape == (20, 64, 64, 3)
    for index in (0, 7, 19):
        room = draw_room(4, index)
        np.testing.assert_allclose(boxed.boxes[index], np.array(room.windows).reshape(-1, 4) * 64 / 96, rtol=1e-6)
        np.testing.assert_array_equal(
            boxed.images[index], cv2.resize(room.image, (64, 64), interpolation=cv2.INTER_AREA)
        )
    assert sum(map(len, boxed.boxes)) > 10
    other = read_boxed(BoxesSettings(kind="drawn_rooms", images=20, seed=5), 64, 3)
    assert not np.array_equal(boxed.images, other.images)
