"""Drawn bedrooms and faces as sources, and as LMDBs with their truth: pictures of which everything is known."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, ClassVar, Literal, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from dedup.changes import CHANGES, apply_change
from pipelines.sources.bedroom import Room, draw_room
from pipelines.sources.face import Face, draw_face
from pipelines.sources.lsun import lsun_key
from pipelines.sources.record import PartRange, Record, SourceSettings

_BOX = pa.struct([(side, pa.int32()) for side in ("left", "top", "width", "height")])
_ORIGIN = [
    pa.field("source_key", pa.string(), nullable=False),
    pa.field("origin_key", pa.string()),  # of the picture that a planted near-duplicate was made of; else null
    pa.field("change", pa.string()),
]

# Beside origin and change all is null on planted ones, whose change may have moved or mirrored it.
TRUTH = pa.schema([*_ORIGIN, pa.field("windows", pa.list_(_BOX)), pa.field("bed", _BOX)])  # pixels
FACE_TRUTH = pa.schema(
    [
        *_ORIGIN,
        *(pa.field(name, pa.bool_()) for name in ("smile", "glasses", "long_hair", "dark_skin", "dark_hair")),
        *(pa.field(name, pa.float32()) for name in ("pose", "mouth_curve")),
    ]
)

_ENCODINGS = {
    "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 90]),
    "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
    "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
}

Drawing = Room | Face


@dataclass(frozen=True)
class Subject:
    """What is drawn: its name in keys and facts, how it is drawn by seed, index and size, and what is known of it."""

    name: str
    draw: Callable[[int, int, int], Any]
    truth: pa.Schema
    row: Callable[[Any], dict[str, Any]]


def _room_row(room: Room) -> dict[str, Any]:
    return {"windows": [_box(window) for window in room.windows], "bed": _box(room.bed)}


def _box(box: tuple[int, int, int, int]) -> dict[str, int]:
    return dict(zip(("left", "top", "width", "height"), box, strict=True))


def _face_row(face: Face) -> dict[str, Any]:
    return asdict(face.truth)


_ROOM = Subject("room", draw_room, TRUTH, _room_row)
_FACE = Subject("face", draw_face, FACE_TRUTH, _face_row)


class DrawnSettings(BaseModel):
    """Which pictures are drawn. The same settings give the same bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: ClassVar[Subject]

    images: int = Field(ge=1, description="How many pictures, planted near-duplicates among them")
    seed: int = Field(0, ge=0, description="Seed of the drawing")
    size_px: int = Field(ge=32, le=512, description="Side of the pictures")
    planted_share: float = Field(0.05, ge=0, le=0.5, description="Share that is a near-duplicate of another picture")
    image_format: Literal["webp", "jpeg", "png"] = Field("webp", description="How they are encoded (LSUN: webp)")

    def ranges(self, part_images: int) -> list[PartRange]:
        """Ranges of at most `part_images` pictures."""
        return [
            PartRange(min(part_images, self.images - start), str(start).encode())
            for start in range(0, self.images, part_images)
        ]

    def read(self, part: PartRange) -> Iterator[Record]:
        """The pictures of a range."""
        start = int(part.start)
        for index in range(start, start + part.records):
            yield Record(drawn_key(self, index), encoded(self, index)[0], facts={self.subject.name: index})


class RoomSettings(DrawnSettings):
    """Which rooms are drawn."""

    subject = _ROOM

    size_px: int = Field(96, ge=96, le=512, description="Side of the pictures")


class DrawnFaceSettings(DrawnSettings):
    """Which faces are drawn."""

    subject = _FACE

    size_px: int = Field(64, ge=32, le=512, description="Side of the pictures")
    # At the size that they are trained on there is nothing to lose.
    image_format: Literal["webp", "jpeg", "png"] = Field("png", description="How they are encoded")


class Planted(NamedTuple):
    """What a planted near-duplicate was made of."""

    origin: int
    change: str


def planted(settings: DrawnSettings, index: int) -> Planted | None:
    """The origin and change of picture `index` if it is a planted near-duplicate; comes of seed and index alone."""
    number = _draw(settings.seed, index)
    if index == 0 or number % 1_000_000 >= settings.planted_share * 1_000_000:
        return None
    origin = (number >> 20) % index
    while _draw(settings.seed, origin) % 1_000_000 < settings.planted_share * 1_000_000 and origin > 0:
        origin -= 1
    return Planted(origin, list(CHANGES)[(number >> 84) % len(CHANGES)])


def _draw(seed: int, index: int) -> int:
    return int.from_bytes(hashlib.sha256(f"planted\0{seed}\0{index}".encode()).digest()[:16], "big")


def drawn_key(settings: DrawnSettings, index: int) -> str:
    """The key of picture `index`: 40 hex digits, as LSUN's."""
    return lsun_key(f"{settings.subject.name}/{settings.seed}/{index}")


def encoded(settings: DrawnSettings, index: int) -> tuple[bytes, Drawing]:
    """Picture `index` encoded, and the drawing that it shows (for a planted one: the drawing it was made of)."""
    plant = planted(settings, index)
    drawing: Drawing = settings.subject.draw(settings.seed, plant.origin if plant else index, settings.size_px)
    image = apply_change(drawing.image, plant.change) if plant else drawing.image
    extension, options = _ENCODINGS[settings.image_format]
    ok, data = cv2.imencode(extension, np.ascontiguousarray(image[..., ::-1]), options)
    if not ok:
        raise ValueError(f"OpenCV could not encode a {image.shape} picture as {settings.image_format}")
    return data.tobytes(), drawing


class DrawnSource(SourceSettings, RoomSettings):
    """Drawn bedrooms, drawn as they are read: no file is needed."""

    kind: Literal["drawn"]


class DrawnFacesSource(SourceSettings, DrawnFaceSettings):
    """Drawn faces, drawn as they are read: no file is needed."""

    kind: Literal["drawn_faces"]


def truth_table(settings: DrawnSettings, drawings: Iterable[Drawing] | None = None) -> pa.Table:
    """What is known of every picture, as TRUTH or FACE_TRUTH says; without `drawings` only what was planted."""
    given = iter(drawings) if drawings is not None else None
    rows = []
    for index in range(settings.images):
        plant = planted(settings, index)
        drawing = next(given) if given is not None else None
        known = settings.subject.row(drawing) if drawing is not None and plant is None else {}
        rows.append(
            {
                "source_key": drawn_key(settings, index),
                "origin_key": drawn_key(settings, plant.origin) if plant else None,
                "change": plant.change if plant else None,
                **known,
            }
        )
    return pa.Table.from_pylist(rows, schema=settings.subject.truth)


def planted_table(settings: DrawnSettings) -> pa.Table:
    """source_key and origin_key of the planted near-duplicates alone; nothing is drawn."""
    plants = ((index, planted(settings, index)) for index in range(settings.images))
    found = [(drawn_key(settings, index), drawn_key(settings, plant.origin)) for index, plant in plants if plant]
    keys, origins = zip(*found, strict=True) if found else ((), ())
    return pa.table({"source_key": pa.array(keys, pa.string()), "origin_key": pa.array(origins, pa.string())})


def draw_all(settings: DrawnSettings, workers: int) -> Iterator[tuple[str, bytes, Drawing]]:
    """(key, encoded picture, drawing without its pixels) of every picture, in order, drawn by `workers` processes."""
    draw = partial(_drawn, settings)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(draw, range(settings.images), chunksize=64)


def _drawn(settings: DrawnSettings, index: int) -> tuple[str, bytes, Drawing]:
    cv2.setNumThreads(1)
    data, drawing = encoded(settings, index)
    blank = np.zeros((0, 0, 3), np.uint8)  # the pixels are in `data`; don't send them twice
    return drawn_key(settings, index), data, replace(drawing, image=blank)
