"""The face detectors of OpenCV behind one function: image -> boxes, scores, landmarks.

A picture is shrunk first, so that the smallest wanted face is just as large as the detector needs: its time goes with
the area. Detectors are opened once a process and kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

import cv2
import numpy as np
import numpy.typing as npt

Detector = Literal["yunet", "haar"]
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces of one picture, the surest first, in its pixels.

    boxes: float32[K, 4], left, top, width, height; scores: float32[K], the detector's own;
    landmarks: float32[K, 10], x and y of both eyes (left in the picture first), nose, mouth's corners; NaN: unknown
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class Traits:
    """What a detector needs, as measured by benchmarks/faces.py."""

    needs_px: int  # shorter side of the smallest face that it finds reliably
    floor: float  # lower scores are no finds at all
    score_min: float  # the score from which on nearly all are faces


TRAITS: Mapping[Detector, Traits] = MappingProxyType(
    {
        "yunet": Traits(needs_px=20, floor=0.6, score_min=0.8),
        "haar": Traits(needs_px=20, floor=3, score_min=5),
    }
)

NO_FACES = Faces(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 10), np.float32))

# YuNet was trained on faces of up to about 300 px: of what is larger than this it takes a second, coarse look.
_FINE_PX, _COARSE_PX = 640, 320
# Of smaller inputs OpenCV's network says now this, now that, after one of another size (4.14, 32 px and less).
_LEAST_PX = 64
_MOST_FACES = 1000
# Boxes are one face where they overlap by this much of their union, or of the smaller one (which lies inside).
_SAME_OF_UNION, _SAME_OF_SMALLER = 0.3, 0.6
# A face is enlarged or shrunk to this size, with a rim, for its landmarks.
_LANDMARK_FACE_PX, _LANDMARK_RIM = 224, 0.25
# Haar's face needs some room around it, which tight crops don't have.
_HAAR_BORDER = 0.1
_HAAR_STEP = 1.1
_HAAR_FACES, _HAAR_EYES = "frontalface_alt2", "eye"
# Eyes are looked for in the upper part of a face of this width, in these shares of it.
_EYE_FACE_PX, _EYE_RIM, _EYE_SHARE, _EYE_SIZES = 96, 0.25, 0.65, (0.15, 0.5)
# Faces in the shade of a hat have no eyes to see, and false alarms seldom so many windows.
_SURE_WINDOWS = 12


def find_faces(image: Pixels, detector: Detector, smallest_px: int, model: bytes | None = None) -> Faces:
    """The faces in `image: uint8[H, W, 3], RGB, 0..255` whose shorter side is about `smallest_px` or more.

    Smaller ones may be among them. Scores: of YuNet its own, 0 to 1; of Haar how many windows said so. `model`: the
    bytes of YuNet's file. Each face is there once.

    Raises:
        ValueError: YuNet without its model.
    """
    scale = min(1.0, TRAITS[detector].needs_px / smallest_px)
    if detector == "haar":
        return merged(_scan_haar(image, scale))
    if model is None:
        raise ValueError("the detector yunet needs the bytes of its model; read them with yunet.load_model")
    finds = [_scan_yunet(image, scale, model)]
    longer = scale * max(image.shape[:2])
    if longer > _FINE_PX:
        finds.append(_scan_yunet(image, scale * _COARSE_PX / longer, model))
    return merged(_joined(finds))


def agreed(image: Pixels, box: Floats, score: float) -> bool:
    """Whether what Haar found has an eye, as a second cascade sees it, or so many windows that none needs to be seen.

    image: uint8[H, W, 3], RGB; box: float32[4], left, top, width, height; score: Haar's own
    """
    if score >= _SURE_WINDOWS:
        return True
    left, top, width, height = (float(side) for side in box)
    rim = _EYE_RIM * width
    rows = slice(max(0, int(top - rim)), max(0, int(top - rim + _EYE_SHARE * (height + 2 * rim))))
    part = image[rows, max(0, int(left - rim)) : max(0, int(left + width + rim))]
    if min(part.shape[:2]) < 2:
        return False
    grey, _ = _bordered(_resized(_grey(part), _EYE_FACE_PX / width))
    least, most = (round(share * _EYE_FACE_PX) for share in _EYE_SIZES)
    return len(_cascade(_HAAR_EYES).detectMultiScale(grey, _HAAR_STEP, 1, 0, (least, least), (most, most))) > 0


def landmarks_near(image: Pixels, box: Floats, model: bytes) -> Floats:
    """YuNet's landmarks of the face in a box, float32[10], from a second look at it; NaN where it finds none.

    Those of the first look are where an upright face would have them: of eyes 20 degrees off level it tells 3 at 100
    px, and 20 at 224 px. image: uint8[H, W, 3], RGB; box: float32[4].
    """
    left, top, width, height = (float(side) for side in box)
    scale = _LANDMARK_FACE_PX / max(width, height)
    side = round(_LANDMARK_FACE_PX * (1 + 2 * _LANDMARK_RIM))
    move = [side / 2 - scale * (left + width / 2), side / 2 - scale * (top + height / 2)]
    place = np.column_stack([np.eye(2) * scale, move])
    near = cv2.warpAffine(image, place, (side, side), flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    found = merged(_scan_yunet(np.asarray(near, np.uint8), 1.0, model))
    # Others may stand in the rim: the one in the middle is meant.
    centres = found.boxes[:, :2] + found.boxes[:, 2:] / 2
    off_px = np.abs(centres - side / 2).max(axis=1)
    if not (off_px < _LANDMARK_FACE_PX / 4).any():
        return np.full(10, np.nan, np.float32)
    near_one = found.landmarks[int(off_px.argmin())]
    return np.asarray((near_one - np.tile(move, 5)) / scale, np.float32)


def merged(faces: Faces) -> Faces:
    """Of faces that overlap, or lie in one another, the surest; sorted from it on."""
    boxes, scores = faces.boxes.astype(np.float64), faces.scores
    # Box sides break ties, so that the order does not hang on the detector's.
    order = np.lexsort((*boxes.T[::-1], -scores))
    right_bottom = boxes[:, :2] + boxes[:, 2:]
    areas = boxes[:, 2] * boxes[:, 3]
    kept: list[int] = []
    for face in order.tolist():
        sides = np.minimum(right_bottom[face], right_bottom[kept]) - np.maximum(boxes[face, :2], boxes[kept, :2])
        shared = np.prod(np.maximum(0, sides), axis=1)
        union = areas[face] + areas[kept] - shared
        smaller = np.minimum(areas[face], areas[kept])
        if not ((shared > _SAME_OF_UNION * union) | (shared > _SAME_OF_SMALLER * smaller)).any():
            kept.append(face)
    return Faces(faces.boxes[kept], faces.scores[kept], faces.landmarks[kept])


def haar_file(name: str = _HAAR_FACES) -> Path:
    """Where the OpenCV wheel keeps a cascade."""
    return Path(cv2.__file__).parent / "data" / f"haarcascade_{name}.xml"  # cv2.data.haarcascades, untyped


def _scan_yunet(image: Pixels, scale: float, model: bytes) -> Faces:
    small = cv2.cvtColor(_resized(image, scale), cv2.COLOR_RGB2BGR)
    height, width = small.shape[:2]
    padded = cv2.copyMakeBorder(
        small, 0, max(0, _LEAST_PX - height), 0, max(0, _LEAST_PX - width), cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )
    network = _yunet(model)
    network.setInputSize((padded.shape[1], padded.shape[0]))
    _, found = network.detect(padded)
    if found is None:
        return NO_FACES
    found = cast(Floats, np.array(found, np.float32))
    # By the true ratio of either side, which rounding made a little different from the scale.
    ratios = np.array([image.shape[1] / width, image.shape[0] / height], np.float32)
    # Its order is the person's own right eye first, which is the left one in the picture.
    return Faces(found[:, :4] * np.tile(ratios, 2), found[:, 14], found[:, 4:14] * np.tile(ratios, 5))


def _scan_haar(image: Pixels, scale: float) -> Faces:
    small = _resized(_grey(image), scale)
    grey, border = _bordered(small)
    needs_px = TRAITS["haar"].needs_px
    boxes, windows = _cascade(_HAAR_FACES).detectMultiScale2(
        grey, _HAAR_STEP, int(TRAITS["haar"].floor), 0, (needs_px, needs_px)
    )
    if not len(boxes):
        return NO_FACES
    ratios = np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]], np.float32)
    inside = np.asarray(boxes, np.float32) - np.array([border, border, 0, 0], np.float32)
    unknown = np.full((len(boxes), 10), np.nan, np.float32)
    return Faces(inside * np.tile(ratios, 2), np.asarray(windows, np.float32).ravel(), unknown)


def _resized(image: npt.NDArray[np.generic] | cv2.typing.MatLike, scale: float) -> Pixels:
    if scale == 1:
        return np.asarray(image, np.uint8)
    size = (max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0])))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.asarray(image, np.uint8), size, interpolation=how), np.uint8)


def _grey(image: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _bordered(grey: Pixels) -> tuple[Pixels, int]:
    border = round(_HAAR_BORDER * min(grey.shape))
    return np.asarray(cv2.copyMakeBorder(grey, border, border, border, border, cv2.BORDER_REPLICATE), np.uint8), border


def _joined(finds: list[Faces]) -> Faces:
    return Faces(
        np.concatenate([faces.boxes for faces in finds]),
        np.concatenate([faces.scores for faces in finds]),
        np.concatenate([faces.landmarks for faces in finds]),
    )


@cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    cv2.setNumThreads(1)
    return cv2.CascadeClassifier(str(haar_file(name)))


@lru_cache(maxsize=1)
def _yunet(model: bytes) -> cv2.FaceDetectorYN:
    cv2.setNumThreads(1)
    return cv2.FaceDetectorYN.create(
        "onnx",
        np.frombuffer(model, np.uint8),
        np.empty(0, np.uint8),
        (32, 32),
        TRAITS["yunet"].floor,
        _SAME_OF_UNION,
        _MOST_FACES,
    )
