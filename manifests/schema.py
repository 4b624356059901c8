"""The ledger: its columns, ids, statuses and reasons.

A *record* is one item of a source, good or bad. A *sample* is one training candidate made of it: the image, or one
face in it. Every record has exactly one ledger row, and every face one more, whose `parent_id` is its image's record.
So images reconcile, read = kept + used + dropped + failed, and so do faces, found = kept + dropped.
"""

import hashlib
from enum import StrEnum

import pyarrow as pa

THUMB_PX = 32
THUMB_BYTES = THUMB_PX * THUMB_PX * 3
CODE_BITS = 128


class Status(StrEnum):
    """What became of a record."""

    KEPT = "kept"
    USED = "used"  # an image that faces were found in: what became of them stands in their own rows
    DROPPED = "dropped"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a record is not kept. A failed record could not be read; a dropped one could, and was not wanted."""

    EMPTY = "empty"
    UNREADABLE = "unreadable"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    NOT_AN_IMAGE = "not_an_image"
    CORRUPT = "corrupt"
    CRASHED = "crashed"
    NOT_FETCHED = "not_fetched"
    REFUSED_ADDRESS = "refused_address"

    OPTED_OUT = "opted_out"
    DENIED = "denied"
    ANIMATED = "animated"
    TOO_SMALL = "too_small"
    ASPECT = "aspect"
    NO_FACE = "no_face"
    FACE_TOO_SMALL = "face_too_small"
    FACE_UNSURE = "face_unsure"
    FACE_FALSE = "face_false"
    FACE_AT_EDGE = "face_at_edge"
    FACE_BLURRED = "face_blurred"
    EXACT_REPEAT = "exact_repeat"
    NEAR_DUPLICATE = "near_duplicate"


FAILED_REASONS = frozenset(
    {
        Reason.EMPTY,
        Reason.UNREADABLE,
        Reason.TOO_MANY_BYTES,
        Reason.TOO_MANY_PIXELS,
        Reason.NOT_AN_IMAGE,
        Reason.CORRUPT,
        Reason.CRASHED,
        Reason.NOT_FETCHED,
        Reason.REFUSED_ADDRESS,
    }
)


def status_of(reason: Reason | None) -> Status:
    """The status that a reason stands for; no reason means kept."""
    if reason is None:
        return Status.KEPT
    return Status.FAILED if reason in FAILED_REASONS else Status.DROPPED


def record_id(source: str, source_key: str) -> str:
    """sha256 of source name and source key, as 64 hex digits."""
    return hashlib.sha256(f"{source}\0{source_key}".encode("utf-8", "surrogateescape")).hexdigest()


def face_record_id(parent_id: str, crop_px: tuple[int, int, int, int]) -> str:
    """The id of the row of a face: sha256 of its image's record id and its crop, as 64 hex digits."""
    return hashlib.sha256(f"{parent_id}\0{','.join(map(str, crop_px))}".encode()).hexdigest()


def sample_id(image_sha256: str, box_px: tuple[int, int, int, int] | None = None) -> str:
    """sha256 of the image's bytes (given by their own sha256, hex) and the box taken of it, as 64 hex digits.

    `box_px` is (left, top, width, height) in source pixels; None is the whole image.
    """
    box = "whole" if box_px is None else ",".join(map(str, box_px))
    return hashlib.sha256(f"{image_sha256}\0{box}".encode()).hexdigest()


# Named as Parquet names it.
_BOX = pa.list_(pa.field("element", pa.int32()), 4)
TEXTS = pa.list_(pa.field("element", pa.string()))

LEDGER = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("sample_id", pa.string()),  # null where there were no bytes
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_key", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),  # of the source's bytes
        pa.field("size_bytes", pa.int64()),  # of the source's bytes
        pa.field("format", pa.string()),  # by content: jpeg, png, webp ...
        pa.field("width", pa.int32()),  # source pixels, after EXIF rotation
        pa.field("height", pa.int32()),
        pa.field("mean", pa.float32()),  # of the training crop's luma, 0..255
        pa.field("deviation", pa.float32()),  # of the training crop's luma
        pa.field("sharpness", pa.float32()),  # variance of the training crop's Laplacian
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),  # null where kept
        pa.field("detail", pa.string()),  # the decoder's own words, the limit that was passed ...
        pa.field("facts", pa.string()),  # what else the source says of the record, as JSON; null where nothing
        pa.field("person", pa.string()),  # whom the source says that the image shows
        pa.field("person_certain", pa.bool_()),  # false: of several faces, whose is not known; null without a person
        pa.field("url", pa.string()),  # where the source got it
        pa.field("licence", pa.string()),
        # Of a face. Boxes are left, top, width, height in source pixels, after EXIF rotation.
        pa.field("parent_id", pa.string()),  # record id of its image; null in the image's own row
        pa.field("box_px", _BOX),  # as the detector found it
        pa.field("crop_px", _BOX),  # the square that was cut out, with its margin
        pa.field("roll_degrees", pa.float32()),  # by which the crop was turned; 0 where it was not
        pa.field("face_score", pa.float32()),  # the detector's own
        pa.field("landmarks_px", pa.list_(pa.field("element", pa.float32()), 10)),  # x, y: eyes, nose, mouth
    ]
)

_LOOKS = [
    pa.field("centre_thumb", pa.binary()),  # uint8[32, 32, 3] RGB of the centre square
    pa.field("whole_thumb", pa.binary()),  # uint8[32, 32, 3] RGB of the whole image, squeezed
    pa.field("phash", pa.uint64()),  # of the whole thumb
    pa.field("phash_mirror", pa.uint64()),  # of the whole thumb, mirrored left to right
]

SAMPLES = pa.schema([*LEDGER, *_LOOKS, pa.field("image", pa.binary())])
"""An ingested part: the ledger, what de-duplication looks at, and the encoded training image."""

PLANTS = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),  # of the image that was changed
        pa.field("change", pa.string(), nullable=False),
        *_LOOKS,
    ]
)
"""Planted near-duplicates of a hash-chosen few samples, to measure the hash with."""

CODES = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("code", pa.binary(CODE_BITS // 8), nullable=False),
        pa.field("mirror_code", pa.binary(CODE_BITS // 8), nullable=False),  # of the mirrored thumb
        pa.field("flat", pa.bool_(), nullable=False),  # too flat for its code to mean anything
    ]
)

GROUPS = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("group_id", pa.string(), nullable=False),  # the smallest sample id of the group
        pa.field("keeper_id", pa.string(), nullable=False),
        pa.field("distance", pa.int16(), nullable=False),  # to the keeper's hashes, in bits of a code
        pa.field(
            "score", pa.float32()
        ),  # how sure it is that the keeper shows the same; the border is at 0, null: kept
        pa.field("reason", pa.string()),  # null for the keeper
    ]
)
"""Members of every group of two or more samples."""

MANIFEST = pa.schema(
    [
        *LEDGER,
        pa.field("group_id", pa.string()),
        pa.field("keeper_id", pa.string()),
        pa.field("distance", pa.int16()),
        pa.field("score", pa.float32()),
        # Of a kept row: those of all records that it stands for, which are its own, exact repeats and near-duplicates.
        # Sorted, each once; null where there are none. A person who is not certain is one of them.
        pa.field("persons", TEXTS),
        pa.field("urls", TEXTS),
    ]
)
"""The whole ledger after de-duplication, without pixels. Sorted by record id."""

SHARD_INDEX = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train or heldout
        pa.field("shard", pa.string(), nullable=False),  # file name of the tar
        pa.field("offset", pa.int64(), nullable=False),  # of the image's bytes in the tar
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),  # of the image's bytes in the tar
    ]
)

LABEL = pa.field("label", pa.int32())
"""The column that an index has more where sources say which class their images are of; null where one doesn't."""
