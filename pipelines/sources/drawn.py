"""Drawn bedrooms as a source, and as an LMDB with its truth: pictures of which everything is known."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Literal, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from dedup.changes import CHANGES, apply_change
from pipelines.sources.bedroom import Room, draw_room
from pipelines.sources.lsun import lsun_key
from pipelines.sources.record import PartRange, Record, SourceSettings

_BOX = pa.struct([(side, pa.int32()) for side in ("left", "top", "width", "height")])

TRUTH = pa.schema(
    [
        pa.field("source_key", pa.string(), nullable=False),
        pa.field("origin_key", pa.string()),  # of the picture that a planted near-duplicate was made of; else null
        pa.field("change", pa.string()),
        pa.field("windows", pa.list_(_BOX)),  # pixels; null on planted ones, whose change may have moved them
        pa.field("bed", _BOX),
    ]
)

_ENCODINGS = {
    "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 90]),
    "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
    "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
}


class RoomSettings(BaseModel):
    """Which rooms are drawn. The same settings give the same bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(ge=1, description="How many pictures, planted near-duplicates among them")
    seed: int = Field(0, ge=0, description="Seed of the drawing")
    size_px: int = Field(96, ge=96, le=512, description="Side of the pictures")
    planted_share: float = Field(0.05, ge=0, le=0.5, description="Share that is a near-duplicate of another picture")
    image_format: Literal["webp", "jpeg", "png"] = Field("webp", description="How they are encoded (LSUN: webp)")


class Planted(NamedTuple):
    """What a planted near-duplicate was made of."""

    origin: int
    change: str


def planted(settings: RoomSettings, index: int) -> Planted | None:
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


def room_key(settings: RoomSettings, index: int) -> str:
    """The key of picture `index`: 40 hex digits, as LSUN's."""
    return lsun_key(f"room/{settings.seed}/{index}")


def encoded_room(settings: RoomSettings, index: int) -> tuple[bytes, Room]:
    """Picture `index` encoded, and the room that it shows (for a planted one: the room it was made of)."""
    plant = planted(settings, index)
    room = draw_room(settings.seed, plant.origin if plant else index, settings.size_px)
    image = apply_change(room.image, plant.change) if plant else room.image
    extension, options = _ENCODINGS[settings.image_format]
    ok, data = cv2.imencode(extension, np.ascontiguousarray(image[..., ::-1]), options)
    if not ok:
        raise ValueError(f"OpenCV could not encode a {image.shape} picture as {settings.image_format}")
    return data.tobytes(), room


class DrawnSource(SourceSettings, RoomSettings):
    """Drawn bedrooms, drawn as they are read: no file is needed."""

    kind: Literal["drawn"]

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
            yield Record(room_key(self, index), encoded_room(self, index)[0], facts={"room": index})


def truth_table(settings: RoomSettings, rooms: Iterable[Room] | None = None) -> pa.Table:
    """What is known of every picture, as a TRUTH table; without `rooms` the boxes are null."""
    given = iter(rooms) if rooms is not None else None
    rows = []
    for index in range(settings.images):
        plant = planted(settings, index)
        room = next(given) if given is not None else None
        shows_boxes = room is not None and plant is None
        rows.append(
            {
                "source_key": room_key(settings, index),
                "origin_key": room_key(settings, plant.origin) if plant else None,
                "change": plant.change if plant else None,
                "windows": [_box(w) for w in room.windows] if room is not None and shows_boxes else None,
                "bed": _box(room.bed) if room is not None and shows_boxes else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=TRUTH)


def planted_table(settings: RoomSettings) -> pa.Table:
    """source_key and origin_key of the planted near-duplicates alone; nothing is drawn."""
    plants = ((index, planted(settings, index)) for index in range(settings.images))
    found = [(room_key(settings, index), room_key(settings, plant.origin)) for index, plant in plants if plant]
    keys, origins = zip(*found, strict=True) if found else ((), ())
    return pa.table({"source_key": pa.array(keys, pa.string()), "origin_key": pa.array(origins, pa.string())})


def _box(box: tuple[int, int, int, int]) -> dict[str, int]:
    return dict(zip(("left", "top", "width", "height"), box, strict=True))


def draw_all(settings: RoomSettings, workers: int) -> Iterator[tuple[str, bytes, Room]]:
    """(key, encoded picture, room) of every picture, in order, drawn by `workers` processes."""
    draw = partial(_drawn, settings)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(draw, range(settings.images), chunksize=64)


def _drawn(settings: RoomSettings, index: int) -> tuple[str, bytes, Room]:
    cv2.setNumThreads(1)
    data, room = encoded_room(settings, index)
    blank = np.zeros((0, 0, 3), np.uint8)  # the pixels are in `data`; don't send them twice
    return room_key(settings, index), data, Room(image=blank, windows=room.windows, bed=room.bed)
