"""What is made of one record while its picture is in hand: its row, those of its faces, planted near-duplicates."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.changes import CHANGES, SMALLEST_PX
from manifests import images, perceptual
from manifests.denied import denied_id, is_flat
from manifests.schema import (
    PLANTS,
    SAMPLES,
    THUMB_PX,
    Reason,
    Status,
    face_record_id,
    record_id,
    sample_id,
    status_of,
)
from pipelines import faces, filters
from pipelines.recipe import IngestSettings
from pipelines.sources import Record

_NO_VALUES: dict[str, Any] = dict.fromkeys(SAMPLES.names)
# What the row of a face has in common with its image's.
_OF_IMAGE = (
    *("source", "source_key", "sha256", "size_bytes", "format", "width", "height"),
    *("facts", "person", "url", "licence"),
)

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Planting:
    """Which samples get planted near-duplicates: those whose hash is below the share."""

    seed: int
    share: float

    def chosen(self, sample: str) -> bool:
        """Whether the sample is one of the few; comes of seed and id alone."""
        digest = hashlib.sha256(f"plant\0{self.seed}\0{sample}".encode()).digest()
        return int.from_bytes(digest[:7], "big") < self.share * (1 << 56)


@dataclass(slots=True)
class Looked:
    """A record that was looked at: its row but for the pHashes, which are made for a whole part at once."""

    row: dict[str, Any]
    plants: list[tuple[str, Rgb, Rgb]]  # change, centre thumb, whole thumb
    faces: tuple["Looked", ...] = ()  # those found in it, each with a row of its own


def bare_row(source: str, record: Record, reason: Reason | None, detail: str | None) -> dict[str, Any]:
    """The row of a record of which no more is known than what its source says."""
    row: dict[str, Any] = _NO_VALUES | {
        "record_id": denied_id(record.key) or record_id(source, record.key),
        "source": source,
        "source_key": record.key,
        "status": status_of(reason).value,
        "reason": reason.value if reason else None,
        "detail": detail,
        "facts": json.dumps(record.facts, sort_keys=True) if record.facts else None,
        "person": record.person,
        "person_certain": None if record.person is None else True,
        "url": record.url,
        "licence": record.licence,
    }
    if record.data is not None:
        digest = hashlib.sha256(record.data).hexdigest()
        row |= {"sha256": digest, "sample_id": sample_id(digest), "size_bytes": len(record.data)}
    return row


def look(
    source: str, record: Record, settings: IngestSettings, planting: Planting, model: bytes | None = None
) -> Looked:
    """Everything that is made of one record. Whatever its bytes are, it is a row; a bad image is one with a reason."""
    if record.data is None:
        return Looked(bare_row(source, record, record.reason, record.problem), [])
    row = bare_row(source, record, None, None)
    try:
        header = images.read_header(record.data, settings.limits)
        row |= {"format": header.format, "width": header.width, "height": header.height}
        refused = filters.refuse(header, settings.filters)
        if refused is not None:
            return Looked(row | _refusal(*refused), [])
        side_px = settings.image_px
        if settings.faces is not None:
            side_px = faces.decoded_side_px(header, settings.faces, settings.image_px)
        image = images.decode_rgb(record.data, header, side_px)
    except images.ImageError as error:
        return Looked(row | _refusal(error.reason, str(error)), [])
    if settings.faces is not None:
        return _with_faces(row, image, round(header.width / image.shape[1]), settings, planting, model)
    square = images.Halvings(images.centre_square(image))
    return _sample(row, image, square, images.resize_area(square, settings.image_px), settings, planting)


def _sample(
    row: dict[str, Any],
    picture: Rgb,
    square: images.Halvings,
    crop: Rgb,
    settings: IngestSettings,
    planting: Planting,
) -> Looked:
    """The row of a kept sample: `crop` is the training image, the reduced `square` of the picture that it shows."""
    centre, whole = perceptual.thumbs(picture, square)
    mean, deviation = images.mean_deviation(crop)
    row |= {
        "mean": mean,
        "deviation": deviation,
        "sharpness": images.sharpness(crop),
        "centre_thumb": centre,
        "whole_thumb": whole,
        "image": images.encode_image(crop, settings.image_format, settings.jpeg_quality),
    }
    plants = []
    if planting.chosen(row["sample_id"]) and min(picture.shape[:2]) >= SMALLEST_PX:
        plants = [(name, *perceptual.thumbs(change(picture))) for name, change in CHANGES.items()]
    return Looked(row, plants)


def _with_faces(
    row: dict[str, Any],
    picture: Rgb,
    reduction: int,
    settings: IngestSettings,
    planting: Planting,
    model: bytes | None,
) -> Looked:
    """The image's own row, and one for every face in it. `picture`: the image at 1/reduction of its size."""
    assert settings.faces is not None
    cuts = faces.cut_faces(picture, settings.faces, settings.image_px, model, reduction)
    # Whose face it is, is known only where there is no other.
    certain = None if row["person"] is None else len(cuts) <= 1
    row["person_certain"] = certain
    if not cuts:
        return Looked(row | _refusal(Reason.NO_FACE, f"{settings.faces.detector} finds none"), [])
    row["status"] = Status.USED.value
    row |= _hashed(picture)
    found = []
    for cut in cuts:
        own = _NO_VALUES | {name: row[name] for name in _OF_IMAGE}
        own |= {
            "record_id": face_record_id(row["record_id"], cut.crop_px),
            "sample_id": sample_id(row["sha256"], cut.crop_px),
            "parent_id": row["record_id"],
            "status": status_of(cut.reason).value,
            "reason": cut.reason.value if cut.reason else None,
            "detail": cut.detail,
            "person_certain": certain,
            "box_px": cut.box_px,
            "crop_px": cut.crop_px,
            "roll_degrees": cut.roll_degrees,
            "face_score": cut.score,
            "landmarks_px": cut.landmarks_px,
        }
        if cut.square is None or cut.image is None:
            found.append(Looked(own, []))
        else:
            found.append(_sample(own, cut.square.reduced(0), cut.square, cut.image, settings, planting))
    return Looked(row, [], tuple(found))


def _hashed(picture: Rgb) -> dict[str, Any]:
    """The pHashes of an image that faces are cut out of, by which copies of it are found; none of a flat one."""
    _, whole = perceptual.thumbs(picture)
    if is_flat(whole):
        return {}
    straight, mirrored = perceptual.phashes(perceptual.luma(whole[None]))
    return {"phash": int(straight[0]), "phash_mirror": int(mirrored[0])}


def _refusal(reason: Reason, detail: str) -> dict[str, Any]:
    # Whatever a decoder says, the ledger stays readable.
    return {"status": status_of(reason).value, "reason": reason.value, "detail": detail[:300]}


def tables(looked: list[Looked]) -> tuple[pa.Table, pa.Table]:
    """The part's table and its plants' table."""
    looked = [one for entry in looked for one in (entry, *entry.faces)]
    rows = [entry.row for entry in looked]
    plants = [
        {"sample_id": entry.row["sample_id"], "change": change, "centre_thumb": centre, "whole_thumb": whole}
        for entry in looked
        for change, centre, whole in entry.plants
    ]
    for of in (rows, plants):
        _add_phashes([row for row in of if row["whole_thumb"] is not None])
    plants = [dict.fromkeys(PLANTS.names) | row for row in plants]
    return pa.Table.from_pylist(rows, schema=SAMPLES), pa.Table.from_pylist(plants, schema=PLANTS)


def _add_phashes(rows: list[dict[str, Any]]) -> None:
    """Fill in the pHashes of rows with thumbs, and turn the thumbs into bytes."""
    if not rows:
        return
    thumbs = np.stack([row["whole_thumb"] for row in rows]).reshape(-1, THUMB_PX, THUMB_PX, 3)
    straight, mirrored = perceptual.phashes(perceptual.luma(thumbs))
    for row, one, other in zip(rows, straight.tolist(), mirrored.tolist(), strict=True):
        row |= {
            "phash": one,
            "phash_mirror": other,
            "centre_thumb": row["centre_thumb"].tobytes(),
            "whole_thumb": row["whole_thumb"].tobytes(),
        }
