"""The detector finds what it was trained on, says truly how well, and is the same each time."""

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.labelled.boxes import BoxesSettings, read_boxed
from training.evaluation.boxes import matches
from training.evaluation.detector import Detector, DetectorSettings, fit_detector

_SMALL = DetectorSettings(epochs=12, width=6, batch_images=8)

Boxes = npt.NDArray[np.float32]


def _signs(images: int, seed: int, channels: int = 3) -> tuple[npt.NDArray[np.uint8], list[Boxes]]:
    """Signs on a dark wall, none to two, bright above and half as bright below, and plates that are bright all over."""
    random = np.random.default_rng(seed)
    pictures = random.integers(20, 60, (images, 32, 32, channels)).astype(np.uint8)
    boxes: list[Boxes] = []
    for picture in pictures:
        own = []
        for half in range(2):
            kind = random.integers(3)
            left, top = 1 + 16 * half + int(random.integers(4)), int(random.integers(2, 18))
            width, height = (int(side) for side in random.integers(8, 11, 2))
            if kind:
                picture[top : top + height, left : left + width] = 200
            if kind == 1:
                picture[top + height // 2 : top + height, left : left + width] = 110
                own.append((left, top, width, height))
        boxes.append(np.array(own, np.float32).reshape(-1, 4))
    return pictures, boxes


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fit_detector(*_signs(240, 1), _SMALL, seed=3)


def test_signs_are_found_where_they_are_and_plates_are_none(detector: Detector) -> None:
    images, boxes = _signs(60, 2)
    found = detector.find(images)
    true = sum(map(len, boxes))
    hits = sum(matches(one, other, 0.3) for one, other in zip(found, boxes, strict=True))
    assert hits >= 0.85 * true
    assert hits >= 0.85 * sum(map(len, found))
    for own in found:
        assert (own[:, :2] >= 0).all()
        assert (own[:, :2] + own[:, 2:] <= 32).all()


def test_its_figures_are_of_pictures_that_it_never_saw(detector: Detector) -> None:
    held = detector.figures["held_out"]
    assert detector.figures["trained_on"] == 192
    assert held["pictures"] == 24
    assert held["recall"] >= 0.8
    assert held["precision"] >= 0.8
    assert 0 <= held["count_error"] <= 0.5
    assert detector.figures["held_out_degraded"]["recall"] >= 0.6


def test_noise_alone_holds_no_signs(detector: Detector) -> None:
    noise = np.random.default_rng(0).integers(20, 60, (30, 32, 32, 3)).astype(np.uint8)
    assert sum(map(len, detector.find(noise))) <= 1


def test_the_same_seed_trains_the_same_detector() -> None:
    images, boxes = _signs(60, 4, channels=1)
    few = DetectorSettings(epochs=2, width=4)
    one, same, other = (fit_detector(images, boxes, few, seed=seed) for seed in (1, 1, 2))
    assert one.threshold == same.threshold
    assert one.figures == same.figures
    for name, weights in one.net.state_dict().items():
        np.testing.assert_array_equal(weights.numpy(), same.net.state_dict()[name].numpy())
    assert one.threshold != other.threshold


@pytest.mark.parametrize("size_px", [28, 32])
def test_a_threshold_is_found_where_hardly_anything_was_learned(size_px: int) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (20, size_px, size_px, 3)).astype(np.uint8)
    boxes = [np.array([[3, 4, 9, 8]], np.float32)] * 20
    detector = fit_detector(images, boxes, DetectorSettings(epochs=1, width=2))
    assert len(detector.find(images)) == 20
    assert detector.figures["held_out"]["objects"] == 2


def test_pictures_without_boxes_are_refused() -> None:
    images = np.zeros((20, 32, 32, 3), np.uint8)
    nothing = [np.zeros((0, 4), np.float32)] * 20
    with pytest.raises(ValueError, match="20 pictures with 0 boxes"):
        fit_detector(images, nothing, _SMALL)
    with pytest.raises(ValueError, match="19 pictures"):
        fit_detector(images[:19], [np.ones((1, 4), np.float32)] * 19, _SMALL)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_windows_of_drawn_rooms_are_counted() -> None:
    boxed = read_boxed(BoxesSettings(kind="drawn_rooms", images=800), 64, 3)
    detector = fit_detector(boxed.images, boxed.boxes, DetectorSettings(epochs=20))
    rooms = read_boxed(BoxesSettings(kind="drawn_rooms", images=200, seed=5), 64, 3)
    found = [len(own) for own in detector.find(rooms.images)]
    true = [len(own) for own in rooms.boxes]
    assert np.mean(found) == pytest.approx(np.mean(true), rel=0.2)
    assert np.mean(np.array(found) == true) >= 0.65


def test_parts_without_boxes_are_told_of_before_any_training() -> None:
    images, boxes = _signs(40, 5)
    said: list[str] = []
    messages, some = [], next(own for own in boxes if len(own))
    for number in range(40):  # one picture alone has boxes: it can't be in both parts
        alone = [own if place == number else own[:0] for place, own in enumerate([some] * 40)]
        with pytest.raises(ValueError, match="1 of 40 pictures have boxes, and none of the") as raised:
            fit_detector(images, alone, seed=3, say=said.append)
        messages.append(str(raised.value))
    assert sum("none of the 4 that choose its threshold" in message for message in messages) == 32
    assert sum("none of the 32 that train the detector" in message for message in messages) == 8
    assert said == []
