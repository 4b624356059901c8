"""What is kept of the faces in a picture, and how they are cut out of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from manifests import images
from manifests.schema import Reason
from pipelines import yunet
from pipelines.detectors import TRAITS, Detector, Faces, agreed, find_faces, haar_file, landmarks_near

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]


class FaceSettings(BaseModel):
    """How faces are found and which are kept. Sizes are in pixels of the source image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: Detector = Field(
        "yunet", description="yunet: a small network, needs its model once; haar: the paper's time, comes with OpenCV"
    )
    model: str | None = Field(None, description="YuNet's file; none: the one that dcgan faces --get-model got")
    model_sha256: str = Field(
        yunet.SHA256, pattern="^[0-9a-f]{64}$", description="Which model it must be; decides the result, not the path"
    )
    smallest_px: int = Field(32, ge=8, description="Faces whose box has a shorter side are dropped")
    score_min: float | None = Field(
        None, ge=0, description="Least score: yunet 0.6 to 1, haar whole numbers from 3; none: the detector's own"
    )
    second_check: bool = Field(True, description="Drop what haar found where a second cascade sees no eye")
    margin: float = Field(0.1, ge=0, le=2, description="Share of the box's longer side that is added on each side")
    edge: Literal["drop", "shift"] = Field(
        "shift", description="Where the square leaves the image: drop it, or move it inside while it holds the box"
    )
    sharpness_min: float = Field(0.0, ge=0, description="Least variance of the training image's Laplacian")
    roll: bool = Field(
        False, description="Turn faces until the eyes are level (the paper does not); takes a second look at each"
    )

    @property
    def score_least(self) -> float:
        """The score from which on a face is kept."""
        return TRAITS[self.detector].score_min if self.score_min is None else self.score_min

    @model_validator(mode="after")
    def _consistent(self) -> "FaceSettings":
        floor = TRAITS[self.detector].floor
        if self.score_least < floor:
            raise ValueError(
                f"score_min={self.score_min:g}: {self.detector} gives no score below {floor:g}; "
                f"try {TRAITS[self.detector].score_min:g}"
            )
        if self.detector == "yunet" and self.score_least > 1:
            raise ValueError(f"score_min={self.score_min:g}: yunet's scores end at 1; try 0.8, or set detector=haar")
        if self.roll and self.detector == "haar":
            raise ValueError("roll=true needs the eyes, which haar does not give; set detector=yunet or roll=false")
        return self


@dataclass(frozen=True, slots=True)
class Cut:
    """One face that was found: where, what was cut out, and why it is not kept (reason None: it is).

    Boxes are left, top, width, height in source pixels; `square` is the cut-out of a kept face at the picture's own
    resolution, `image: uint8[image_px, image_px, 3]` the same at the training images' size.
    """

    box_px: Box
    crop_px: Box
    score: float
    landmarks_px: tuple[float, ...] | None
    roll_degrees: float
    reason: Reason | None
    detail: str | None
    square: images.Halvings | None
    image: Pixels | None


def check_ready(settings: FaceSettings) -> None:
    """Return where the detector can be used.

    Raises:
        ModelError: its file is missing, or another one; the message names the command that mends it.
    """
    load_model(settings)


def load_model(settings: FaceSettings) -> bytes | None:
    """The bytes of the detector's model; None for haar, which has none.

    Raises:
        ModelError: as `check_ready` says.
    """
    if settings.detector == "yunet":
        return yunet.load_model(settings.model, settings.model_sha256)
    if not hasattr(cv2, "CascadeClassifier") or not haar_file().exists():
        raise yunet.ModelError(
            f"OpenCV {cv2.__version__} comes without Haar cascades, as 5.0 and later do; "
            'install "opencv-python-headless>=4.12,<5", or set ingest.faces.detector=yunet'
        )
    return None


def identity(settings: FaceSettings) -> dict[str, Any]:
    """What of the settings decides the result: all but where the model lies."""
    return settings.model_dump(mode="json", exclude={"model"})


def decoded_side_px(header: images.Header, settings: FaceSettings, image_px: int) -> int:
    """What `images.decode_rgb` is told of how far a picture may be reduced while it is decoded.

    The smallest wanted face stays as large as the detector needs, and its crop as large as the training image.
    """
    smallest_crop_px = settings.smallest_px * (1 + 2 * settings.margin)
    most = min(settings.smallest_px / TRAITS[settings.detector].needs_px, smallest_crop_px / image_px)
    shorter = min(header.width, header.height)
    return next((max(1, shorter // by // 2) for by in (8, 4, 2) if by <= most), shorter)


def cut_faces(
    picture: Pixels, settings: FaceSettings, image_px: int, model: bytes | None = None, reduction: int = 1
) -> list[Cut]:
    """Every face in `picture: uint8[H, W, 3], RGB, 0..255`, kept or not, the surest first.

    `reduction`: the picture is the source at 1/reduction of its size. `model`: as `load_model` gives it.

    Radford et al. 2016, section 4.3 (boxes of sufficiently high resolution).
    """
    smallest_px = max(1, round(settings.smallest_px / reduction))
    found = find_faces(picture, settings.detector, smallest_px, model)
    cuts: dict[Box, Cut] = {}
    for cut in _cuts(picture, found, settings, image_px, model, reduction):
        # Two faces of one crop would be one sample: the surer one stays.
        cuts.setdefault(cut.crop_px, cut)
    return list(cuts.values())


def _cuts(
    picture: Pixels, found: Faces, settings: FaceSettings, image_px: int, model: bytes | None, reduction: int
) -> Iterator[Cut]:
    for box, score, landmarks in zip(found.boxes, found.scores.tolist(), found.landmarks, strict=True):
        refused, roll = _refused(picture, box, score, settings, reduction), 0.0
        if settings.roll and refused is None and model is not None:
            landmarks = landmarks_near(picture, box, model)
            roll = _roll_degrees(landmarks)
        crop, leaves = _square(box, picture.shape, settings, roll)
        refused = refused or leaves
        square = image = None
        if refused is None:
            square = images.Halvings(np.ascontiguousarray(_cut_out(picture, crop, roll)))
            image = images.resize_area(square, image_px)
            refused = _blurred(image, settings)
        reason, detail = refused or (None, None)
        yield Cut(
            box_px=_whole(box * reduction),
            crop_px=_whole(np.array(crop) * reduction),
            score=score,
            landmarks_px=None if np.isnan(landmarks).any() else tuple((landmarks * reduction).tolist()),
            roll_degrees=roll,
            reason=reason,
            detail=detail,
            square=None if refused else square,
            image=None if refused else image,
        )


def _refused(
    picture: Pixels, box: npt.NDArray[np.float32], score: float, settings: FaceSettings, reduction: int
) -> tuple[Reason, str] | None:
    if score < settings.score_least:
        return Reason.FACE_UNSURE, f"score {score:.3g}, score_min is {settings.score_least:g}"
    width, height = _whole(box * reduction)[2:]
    if min(width, height) < settings.smallest_px:
        return Reason.FACE_TOO_SMALL, f"{width}x{height}: a side is under smallest_px={settings.smallest_px}"
    if settings.detector == "haar" and settings.second_check and not agreed(picture, box, score):
        return Reason.FACE_FALSE, "a second cascade sees no eye in it"
    return None


def _blurred(image: Pixels, settings: FaceSettings) -> tuple[Reason, str] | None:
    if settings.sharpness_min == 0:
        return None
    sharpness = images.sharpness(image)
    if sharpness < settings.sharpness_min:
        return Reason.FACE_BLURRED, f"sharpness {sharpness:.3g}, sharpness_min is {settings.sharpness_min:g}"
    return None


def _square(
    box: npt.NDArray[np.float32], shape: tuple[int, ...], settings: FaceSettings, roll: float
) -> tuple[Box, tuple[Reason, str] | None]:
    """The square with margin around a box, and why it can't be cut out of a picture of this shape."""
    left, top, width, height = (float(side) for side in box)
    side = max(1, round(max(width, height) * (1 + 2 * settings.margin)))
    corner = np.rint([left + (width - side) / 2, top + (height - side) / 2]).astype(int)
    # Of a turned square all four corners have to lie inside; it is not moved.
    if roll:
        corners = _turn(corner, side, roll) @ np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]).T
        inside = (corners >= 0).all() and (corners <= [[shape[1]], [shape[0]]]).all()
        place = corner
    else:
        room = np.array([shape[1] - side, shape[0] - side])
        place = np.clip(corner, 0, np.maximum(0, room))
        moved = np.abs(place - corner).max()
        most = np.ceil(settings.margin * max(width, height)) if settings.edge == "shift" else 0
        inside = (room >= 0).all() and moved <= most
    crop = (int(place[0]), int(place[1]), side, side) if inside else (int(corner[0]), int(corner[1]), side, side)
    return crop, None if inside else (Reason.FACE_AT_EDGE, f"its square of {side} px leaves the image")


def _cut_out(picture: Pixels, crop: Box, roll: float) -> Pixels:
    left, top, side, _ = crop
    if not roll:
        return picture[top : top + side, left : left + side]
    turn = _turn(np.array([left, top]), side, roll)
    # Pixel centres lie at halves, OpenCV's at whole numbers.
    turn[:, 2] += turn[:, :2] @ [0.5, 0.5] - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(picture, turn, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _turn(corner: npt.NDArray[np.int_], side: int, degrees: float) -> npt.NDArray[np.float64]:
    """float64[2, 3]: where a place in the upright square lies in the picture."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    middle = corner + side / 2
    return np.column_stack([turn, middle - turn @ [side / 2, side / 2]])


def _roll_degrees(landmarks: npt.NDArray[np.float32]) -> float:
    """By how much the line of the eyes falls to the right, -180 to 180; 0 where they are unknown."""
    if np.isnan(landmarks[:4]).any():
        return 0.0
    across, down = (landmarks[2:4] - landmarks[:2]).tolist()
    return float(np.float32(np.degrees(np.arctan2(down, across))))


def _whole(box: npt.NDArray[np.generic]) -> Box:
    left, top, width, height = np.rint(np.asarray(box, np.float64)).astype(int).tolist()
    return left, top, width, height
