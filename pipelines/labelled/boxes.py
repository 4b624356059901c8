"""Pictures with boxes around the objects of one kind: drawn rooms and their windows, or a JSON of one's own."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from manifests import images
from pipelines.labelled.there import check_there, not_default
from pipelines.sources.bedroom import draw_room
from training.evaluation.measured import Unmeasurable

_ROOM_PX = 96  # as the rooms that a training draws
_LEAST_SHARE = 0.25  # a box of which the crop shows less is left out, as drawn rooms leave out hidden windows
_LEAST_PX = 1.0

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]


class BoxesSettings(BaseModel):
    """Where pictures with boxes are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["drawn_rooms", "json"] = Field(
        description="drawn_rooms: drawn as they are needed, with their windows; json: files, and boxes in a JSON"
    )
    images: int = Field(4000, ge=20, description="How many rooms are drawn; drawn_rooms only")
    seed: int = Field(1009, ge=0, description="Seed of the rooms, another than the training's; drawn_rooms only")
    path: str | None = Field(None, description="The folder that the files' names begin from; json only")
    boxes: str | None = Field(
        None,
        description="JSON of {file: [[left, top, width, height], ...]}, pixels of the upright file; [] where there is "
        "none; json only",
    )

    @model_validator(mode="after")
    def _json_is_whole(self) -> "BoxesSettings":
        if self.kind == "json" and (self.path is None or self.boxes is None):
            raise ValueError("kind json reads files and boxes: set both path (a folder) and boxes (a JSON)")
        if self.kind == "json" and (unused := not_default(self, ("images", "seed"))):
            raise ValueError(f"kind json draws nothing: leave out {' and '.join(unused)}, or set kind to drawn_rooms")
        if self.kind == "drawn_rooms" and (self.path is not None or self.boxes is not None):
            raise ValueError("kind drawn_rooms reads no files: leave out path and boxes, or set kind to json")
        return self


@dataclass(frozen=True)
class Boxed:
    """Pictures and where the objects are in them.

    images: uint8[N, size_px, size_px, C], RGB or grey
    boxes: for each picture, float32[K, 4]: left, top, width, height in pixels of `images`
    """

    images: npt.NDArray[np.uint8]
    boxes: tuple[npt.NDArray[np.float32], ...]


def check_boxed(settings: BoxesSettings) -> None:
    """Raise Unmeasurable where what the settings name is not there."""
    check_there({"evaluate.boxes.path": settings.path, "evaluate.boxes.boxes": settings.boxes})


def read_boxed(settings: BoxesSettings, size_px: int, channels: int) -> Boxed:
    """Pictures with boxes, cut to the middle square and reduced as ingest does it, the boxes moved along.

    Boxes are cut off where the square ends; one of which less than a quarter is left, or less than a pixel, is dropped.

    Raises:
        Unmeasurable: a file or a box can't be used; the message names it.
    """
    pairs = _rooms(settings, size_px) if settings.kind == "drawn_rooms" else _files(settings, size_px)
    pictures = np.stack([picture for picture, _ in pairs])
    if channels == 1:
        pictures = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])[..., None]
    return Boxed(pictures, tuple(boxes for _, boxes in pairs))


def read_json(path: str) -> dict[str, Boxes]:
    """The boxes of a JSON of {name: [[left, top, width, height], ...]}: float32[K, 4] for each name.

    Raises:
        Unmeasurable: it can't be read, or holds something else; the message says where.
    """
    try:
        told: Any = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise Unmeasurable(f"{path} can't be read as JSON ({reason}); give a file of {_FORM}") from error
    if not isinstance(told, dict) or not told:
        raise Unmeasurable(f"{path} holds {_kind_of(told)}; it must be {_FORM}")
    return {name: _checked(path, name, rows) for name, rows in told.items()}


_FORM = "{name: [[left, top, width, height], ...]}"


def _kind_of(told: Any) -> str:
    return "nothing" if told in ({}, [], None) else f"a {type(told).__name__}"


def _checked(path: str, name: str, rows: Any) -> Boxes:
    if not isinstance(rows, list):
        raise Unmeasurable(f"{path}: {name} has {rows!r}; a list of boxes is needed, [] where there is none")
    for box in rows:
        plain = isinstance(box, list) and len(box) == 4
        if not plain or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in box):
            raise Unmeasurable(f"{path}: {name} has the box {box!r}; write it as [left, top, width, height]")
        if not all(math.isfinite(v) for v in box) or box[2] <= 0 or box[3] <= 0:
            raise Unmeasurable(f"{path}: {name} has the box {box!r}; width and height must be over 0: mend it")
    return np.array(rows, np.float32).reshape(-1, 4)


def _rooms(settings: BoxesSettings, size_px: int) -> list[tuple[Pixels, Boxes]]:
    drawn_px = max(_ROOM_PX, size_px)
    pairs = []
    for index in range(settings.images):
        room = draw_room(settings.seed, index, drawn_px)
        boxes = np.array(room.windows, np.float32).reshape(-1, 4)
        pairs.append((images.resize_area(images.Halvings(room.image), size_px), boxes * (size_px / drawn_px)))
    return pairs


def _files(settings: BoxesSettings, size_px: int) -> list[tuple[Pixels, Boxes]]:
    assert settings.path is not None
    assert settings.boxes is not None
    root, told, pairs = Path(settings.path), read_json(settings.boxes), []
    for name in sorted(told):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise Unmeasurable(f"{settings.boxes}: {name} does not lie below {root}; name files as they lie below it")
        picture = _decoded(root / name)
        height, width = picture.shape[:2]
        outside = [box for box in told[name].tolist() if not _touches(box, width, height)]
        if outside:
            raise Unmeasurable(
                f"{settings.boxes}: {name} has the box {outside[0]}, outside of its {width}x{height} pixels; boxes are "
                "in pixels of the upright file: mend it"
            )
        square = images.resize_area(images.Halvings(images.centre_square(picture)), size_px)
        pairs.append((square, in_square(told[name], width, height, size_px)))
    return pairs


def _decoded(path: Path) -> Pixels:
    """The whole upright picture: boxes are in its pixels, so nothing is reduced while it is decoded."""
    try:
        data = path.read_bytes()
        return images.decode_rgb(data, images.read_header(data, images.Limits()))
    except OSError as error:
        raise Unmeasurable(f"{path} can't be read ({error.strerror}); check the path and the JSON") from error
    except images.ImageError as error:
        raise Unmeasurable(f"{path} can't be decoded ({error}); replace it, or take it out of the JSON") from error


def _touches(box: list[float], width: int, height: int) -> bool:
    left, top, box_width, box_height = box
    return left < width and top < height and left + box_width > 0 and top + box_height > 0


def in_square(boxes: Boxes, width: int, height: int, size_px: int) -> Boxes:
    """Boxes of a picture, in the pixels of its middle square reduced to size_px, cut off where that ends.

    Too little of a box left, and it is dropped: see `read_boxed`.

    boxes: float32[K, 4], left, top, width, height -> float32[up to K, 4].
    """
    side = min(width, height)
    origin = np.array([(width - side) // 2, (height - side) // 2], np.float64)  # as images.centre_square cuts
    scale = size_px / side
    starts = (boxes[:, :2] - origin) * scale
    ends = starts + boxes[:, 2:] * scale
    cut_starts, cut_ends = starts.clip(0, size_px), ends.clip(0, size_px)
    left = cut_ends - cut_starts
    share = left.prod(axis=1) / (ends - starts).prod(axis=1)
    kept = (share >= _LEAST_SHARE) & (left >= _LEAST_PX).all(axis=1)
    return np.asarray(np.concatenate([cut_starts, left], axis=1)[kept], np.float32)
