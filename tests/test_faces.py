"""Drawn faces are found where they were drawn; which are kept, how they are cut out, and what is merged."""

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from drawn_faces import BACKGROUND, blank, draw_face
from hypothesis import given
from hypothesis import strategies as st
from odd_images import file_of
from PIL import Image
from pydantic import ValidationError

from manifests import images
from manifests.schema import Reason
from pipelines import yunet
from pipelines.detectors import NO_FACES, TRAITS, Detector, Faces, agreed, find_faces, landmarks_near, merged
from pipelines.faces import Cut, FaceSettings, check_ready, cut_faces, decoded_side_px, identity, load_model

DETECTORS = [pytest.param("haar"), pytest.param("yunet", marks=pytest.mark.data)]
Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def model(request: pytest.FixtureRequest) -> bytes | None:
    """What the test's detector needs: the model of yunet, which the photos' folder holds."""
    if "yunet" not in request.node.callspec.params.values():
        return None
    file: Path = request.getfixturevalue("data") / yunet.FILE_NAME
    return yunet.load_model(str(file), yunet.SHA256)


def middle(box: Any) -> tuple[float, float]:
    left, top, width, height = (float(side) for side in box)
    return left + width / 2, top + height / 2


def of(boxes: Any, scores: Any) -> Faces:
    unknown = np.full((len(scores), 10), np.nan, np.float32)
    return Faces(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), unknown)


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_drawn_face_is_found_once_and_in_its_place(detector: Detector, model: bytes | None) -> None:
    image = blank(800, 320)
    drawn = [(110, 160, 100), (290, 140, 50), (440, 170, 75), (640, 160, 140)]
    for x, y, width in drawn:
        draw_face(image, x, y, width)
    found = find_faces(image, detector, 32, model)
    assert len(found) == len(drawn)
    assert found.boxes.dtype == found.scores.dtype == found.landmarks.dtype == np.float32
    assert found.landmarks.shape == (4, 10)
    assert (np.diff(found.scores) <= 0).all()
    for x, y, width in drawn:
        (one,) = [i for i, box in enumerate(found.boxes) if np.hypot(*np.subtract(middle(box), (x, y))) < 0.2 * width]
        assert 0.8 * width < found.boxes[one, 2] < 1.6 * width
        if detector == "yunet":
            left_eye, right_eye = found.landmarks[one, :2], found.landmarks[one, 2:4]
            assert np.abs(left_eye - (x - 0.21 * width, y - 0.1 * width)).max() < 0.1 * width
            assert np.abs(right_eye - (x + 0.21 * width, y - 0.1 * width)).max() < 0.1 * width
        else:
            assert np.isnan(found.landmarks[one]).all()


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (17, 9), (64, 64), (300, 200)])
def test_where_nothing_is_drawn_nothing_is_found(
    detector: Detector, size: tuple[int, int], model: bytes | None
) -> None:
    assert len(find_faces(blank(*size), detector, 32, model)) == 0


@pytest.mark.parametrize("detector", DETECTORS)
def test_faces_are_found_from_the_smallest_wanted_to_those_that_fill_a_large_picture(
    detector: Detector, model: bytes | None
) -> None:
    for smallest_px, width, side in ((32, 40, 200), (80, 100, 500), (32, 900, 1500), (400, 900, 1500)):
        image = blank(side, side)
        draw_face(image, side // 2, side // 2, width)
        found = find_faces(image, detector, smallest_px, model)
        assert len(found) == 1
        assert 0.8 * width < found.boxes[0, 2] < 1.6 * width


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_is_found_hangs_on_the_picture_alone(detector: Detector, model: bytes | None) -> None:
    # Also where one side is so small that OpenCV's network would give what another picture left in its memory.
    pictures = [blank(width, height) for width in (30, 60, 200, 300) for height in (30, 60, 160, 220)]
    for image in pictures:
        draw_face(image, image.shape[1] // 2, image.shape[0] // 2, max(24, min(image.shape[:2]) // 2))
    first = [find_faces(image, detector, 32, model) for image in pictures]
    assert sum(len(found) for found in first) >= 4
    order = np.random.default_rng(3)
    for number in order.integers(0, len(pictures), 200):
        again = find_faces(pictures[number], detector, 32, model)
        np.testing.assert_array_equal(again.boxes, first[number].boxes)
        np.testing.assert_array_equal(again.scores, first[number].scores)


def test_yunet_without_its_model_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"needs the bytes of its model; read them with yunet\.load_model"):
        find_faces(blank(64, 64), "yunet", 32)


def test_the_second_check_asks_for_an_eye_unless_windows_are_many() -> None:
    image = blank(200, 200)
    draw_face(image, 100, 100, 80)
    assert agreed(image, np.array([50, 45, 100, 100], np.float32), 5)
    eyeless = image.copy()
    eyeless[60:100, 40:160] = BACKGROUND
    assert not agreed(eyeless, np.array([50, 45, 100, 100], np.float32), 5)
    assert agreed(eyeless, np.array([50, 45, 100, 100], np.float32), 30)
    for outside in ((-90, -90, 60, 60), (300, 10, 50, 50), (10, 300, 50, 50), (199, 199, 40, 40)):
        assert not agreed(image, np.array(outside, np.float32), 5)


def test_overlapping_and_nested_boxes_are_one_face() -> None:
    side_by_side = [[0, 0, 10, 10], [10, 0, 10, 10], [0, 12, 10, 10]]
    assert len(merged(of(side_by_side, [1, 2, 3]))) == 3
    shifted = merged(of([[0, 0, 10, 10], [2, 0, 10, 10]], [0.7, 0.9]))
    assert (shifted.boxes.tolist(), shifted.scores.tolist()) == ([[2, 0, 10, 10]], [np.float32(0.9)])
    # Of which the union is large, but the smaller one is nearly all inside.
    nested = merged(of([[0, 0, 100, 100], [30, 30, 20, 20], [90, 90, 20, 20]], [0.8, 0.9, 0.7]))
    assert nested.boxes.tolist() == [[30, 30, 20, 20], [90, 90, 20, 20]]
    assert len(merged(NO_FACES)) == 0


@given(
    st.lists(st.tuples(*(st.integers(0, 30),) * 2, *(st.integers(1, 20),) * 2, st.integers(1, 5)), max_size=12).flatmap(
        lambda faces: st.tuples(st.just(faces), st.permutations(faces))
    )
)
def test_merging_is_as_its_rule_says_in_any_order(pair: Any) -> None:
    def brute(faces: list[tuple[int, ...]]) -> list[list[int]]:
        kept: list[list[int]] = []
        for *box, _ in sorted(faces, key=lambda f: (-f[4], f[:4])):
            pixels = {(x, y) for x in range(box[0], box[0] + box[2]) for y in range(box[1], box[1] + box[3])}
            for a, b, w, h in kept:
                other = {(x, y) for x in range(a, a + w) for y in range(b, b + h)}
                shared = len(pixels & other)
                # Compared as whole numbers: 0.3 and 0.6.
                if 10 * shared > 3 * len(pixels | other) or 10 * shared > 6 * min(len(pixels), len(other)):
                    break
            else:
                kept.append(box)
        return kept

    for faces in pair:
        result = merged(of([f[:4] for f in faces], [f[4] for f in faces]))
        assert result.boxes.astype(int).tolist() == brute(faces)


def cut(image: Pixels, **settings: Any) -> list[Cut]:
    return cut_faces(image, FaceSettings(**{"detector": "haar", "sharpness_min": 0, **settings}), 64)


def one_face(width: int = 80, side: int = 300, at: tuple[int, int] | None = None) -> Pixels:
    image = blank(side, side)
    draw_face(image, *(at or (side // 2, side // 2)), width)
    return image


def test_the_square_has_the_box_in_its_middle_and_the_margin_around_it() -> None:
    for margin in (0.0, 0.1, 0.4):
        (face,) = cut(one_face(), margin=margin)
        assert face.reason is None
        left, top, side, height = face.crop_px
        assert side == height
        assert abs(side - max(face.box_px[2:]) * (1 + 2 * margin)) <= 1 + margin
        assert np.abs(np.subtract(middle(face.crop_px), middle(face.box_px))).max() <= 1
        assert face.square is not None
        assert face.image is not None
        np.testing.assert_array_equal(face.square.reduced(0), one_face()[top : top + side, left : left + side])
        np.testing.assert_array_equal(face.image, images.resize_area(face.square, 64))


def test_limits_hold_at_the_limit() -> None:
    image = one_face()
    (face,) = cut(image)
    assert face.image is not None
    sharp = images.sharpness(face.image)
    for settings, reason in (
        ({"score_min": face.score}, None),
        ({"score_min": face.score + 1}, Reason.FACE_UNSURE),
        ({"sharpness_min": sharp * 0.999}, None),
        ({"sharpness_min": sharp * 1.001}, Reason.FACE_BLURRED),
    ):
        (judged,) = cut(image, **settings)
        assert judged.reason == reason
        assert (judged.image is not None) == (judged.square is not None) == (reason is None)
        assert bool(judged.detail) == (reason is not None)


@pytest.mark.data
def test_the_smallest_wanted_face_is_one_of_boxes(data: Path) -> None:
    model = yunet.load_model(str(data / yunet.FILE_NAME), yunet.SHA256)
    settings = FaceSettings(smallest_px=80, score_min=0.6)
    judged = [face for width in range(60, 100) for face in cut_faces(one_face(width), settings, 64, model)]
    assert {face.reason for face in judged} == {None, Reason.FACE_TOO_SMALL}
    for face in judged:
        assert (face.reason is None) == (min(face.box_px[2:]) >= 80)


def test_a_blurred_face_is_known_by_its_training_image() -> None:
    sharp = one_face(160)
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 8), np.uint8)
    least = 40.0
    assert [face.reason for face in cut(sharp, sharpness_min=least)] == [None]
    assert [face.reason for face in cut(blurred, sharpness_min=least)] == [Reason.FACE_BLURRED]


def test_an_eyeless_face_is_false_only_where_it_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    image = one_face()
    monkeypatch.setattr("pipelines.detectors._SURE_WINDOWS", 10_000)
    assert [face.reason for face in cut(image)] == [None]
    monkeypatch.setattr("pipelines.detectors._HAAR_EYES", "russian_plate_number")
    assert [face.reason for face in cut(image)] == [Reason.FACE_FALSE]
    assert [face.reason for face in cut(image, second_check=False)] == [None]


def test_a_square_that_leaves_the_image_is_moved_or_dropped() -> None:
    inside, margin = one_face(at=(150, 150)), 0.2
    (free,) = cut(inside, margin=margin)
    over = free.crop_px[0]  # so far it may go left before its square leaves the image
    for step, dropped, shifted in ((0, None, None), (8, Reason.FACE_AT_EDGE, None)):
        image = np.ascontiguousarray(inside[:, over + step - 2 * (step == 0) :])
        (strict,) = cut(image, margin=margin, edge="drop")
        (moved,) = cut(image, margin=margin, edge="shift")
        assert (strict.reason, moved.reason) == (dropped, shifted)
        if step:
            assert strict.crop_px[0] < 0
            assert moved.crop_px[0] == 0
            left, top, side, _ = moved.crop_px
            box_left, box_top, width, height = moved.box_px
            assert left <= box_left
            assert box_left + width <= left + side
            assert top <= box_top
            assert box_top + height <= top + side
    # A square that is larger than the image has no place in it.
    tight = np.ascontiguousarray(inside[80:220, 80:220])
    assert {face.reason for face in cut(tight, margin=0.5)} == {Reason.FACE_AT_EDGE}


def test_boxes_are_in_source_pixels_however_the_picture_was_decoded() -> None:
    source = one_face(400, 1203)
    data = file_of(Image.fromarray(source), "JPEG")
    header = images.read_header(data, images.Limits())
    settings = FaceSettings(detector="haar", smallest_px=200)
    whole = images.decode_rgb(data, header)
    reduced = images.decode_rgb(data, header, decoded_side_px(header, settings, 64))
    reduction = round(header.width / reduced.shape[1])
    assert reduction == 2  # 4 would leave crops of 60 px
    (full,), (small,) = cut_faces(whole, settings, 64), cut_faces(reduced, settings, 64, None, reduction)
    assert full.reason is small.reason is None
    assert np.abs(np.subtract(full.box_px, small.box_px)).max() <= 0.05 * full.box_px[2]
    assert np.abs(np.subtract(full.crop_px, small.crop_px)).max() <= 0.05 * full.box_px[2]
    assert small.image is not None
    assert full.image is not None
    assert np.abs(small.image.astype(int) - full.image.astype(int)).mean() < 8


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(8, 600), st.floats(0, 2), st.sampled_from((16, 64, 256)))
def test_decoding_leaves_enough_for_detector_and_crop(
    width: int, height: int, smallest_px: int, margin: float, image_px: int
) -> None:
    settings = FaceSettings(detector="haar", smallest_px=smallest_px, margin=margin)
    header = images.Header("jpeg", width, height, animated=False, plain=True)
    side_px = decoded_side_px(header, settings, image_px)
    by = next((by for by in (8, 4, 2) if min(width, height) // by >= 2 * side_px), 1)
    enough = smallest_px / by >= TRAITS["haar"].needs_px and smallest_px * (1 + 2 * margin) / by >= image_px
    assert by == 1 or enough
    assert (
        min(width, height) < 16
        or by == 8
        or smallest_px / (2 * by) < 20
        or smallest_px * (1 + 2 * margin) / (2 * by) < image_px
    )


@pytest.mark.data
@pytest.mark.parametrize("degrees", [-30.0, 20.0])
def test_roll_makes_the_eyes_level(data: Path, degrees: float) -> None:
    model = yunet.load_model(str(data / yunet.FILE_NAME), yunet.SHA256)
    image = blank(400, 400)
    draw_face(image, 200, 200, 120, degrees)
    (straight,) = cut_faces(image, FaceSettings(), 64, model)
    (turned,) = cut_faces(image, FaceSettings(roll=True), 64, model)
    assert straight.roll_degrees == 0
    assert turned.roll_degrees == pytest.approx(degrees, abs=8)
    assert turned.square is not None
    side = turned.crop_px[2]
    level = landmarks_near(turned.square.reduced(0), np.array([0, 0, side, side], np.float32), model)
    assert abs(np.degrees(np.arctan2(level[3] - level[1], level[2] - level[0]))) < 8
    # The face stays in the middle, and the same size.
    eyes = np.hypot(level[2] - level[0], level[3] - level[1])
    assert eyes == pytest.approx(0.42 * 120, rel=0.15)
    # At the image's edge the turned square's corners count.
    near = np.ascontiguousarray(image[:, 200 - 75 :])
    assert [face.reason for face in cut_faces(near, FaceSettings(roll=True), 64, model)] == [Reason.FACE_AT_EDGE]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"detector": "haar", "score_min": 2}, "haar gives no score below 3; try 5"),
        ({"score_min": 0.3}, "yunet gives no score below 0.6; try 0.8"),
        ({"score_min": 5}, "yunet's scores end at 1; try 0.8"),
        ({"detector": "haar", "roll": True}, "roll=true needs the eyes, which haar does not give"),
        ({"model_sha256": "abc"}, "String should match pattern"),
        ({"detector": "dlib"}, "'yunet' or 'haar'"),
    ],
)
def test_settings_that_can_not_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        FaceSettings(**settings)


def test_the_models_place_is_no_part_of_what_is_made() -> None:
    assert identity(FaceSettings(model="/a")) == identity(FaceSettings(model="/b"))
    assert identity(FaceSettings(model_sha256="0" * 64)) != identity(FaceSettings())


def test_a_missing_or_foreign_model_is_an_error_that_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(yunet.ModelError, match=r"No such file.*dcgan faces --get-model"):
        check_ready(FaceSettings())
    assert list(tmp_path.iterdir()) == [], "nothing is made, and nothing downloaded"
    with pytest.raises(yunet.ModelError, match=r"No such file.*mend ingest\.faces\.model"):
        check_ready(FaceSettings(model=str(tmp_path / "none.onnx")))
    check_ready(FaceSettings(detector="haar"))
    assert load_model(FaceSettings(detector="haar")) is None
    own = tmp_path / "own.onnx"
    own.write_bytes(b"a network")
    with pytest.raises(yunet.ModelError, match=f"expected {yunet.SHA256}"):
        check_ready(FaceSettings(model=str(own)))
    digest = hashlib.sha256(b"a network").hexdigest()
    assert load_model(FaceSettings(model=str(own), model_sha256=digest)) == b"a network"


def test_a_relative_cache_folder_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert yunet.cached_path() == Path.home() / ".cache" / "dcgan" / yunet.FILE_NAME
