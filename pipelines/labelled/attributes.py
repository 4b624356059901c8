"""Pictures with attributes: drawn faces, two folders of which one shows the attribute, or files and a table."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines import faces
from pipelines.faces import FaceSettings
from pipelines.labelled.known import folders_say, table_says
from pipelines.labelled.pictures import fitted, warn_of_left_out
from pipelines.labelled.stored import Stored
from pipelines.labelled.there import check_there, not_default
from pipelines.sources.face import FaceTruth, draw_face
from pipelines.sources.record import SourceError

DRAWN_NAMES = (
    *("smile", "glasses", "long_hair", "dark_skin", "dark_hair"),
    *("turned_left", "turned_right", "pose"),
)
"""What is known of drawn faces, in this order; all but pose are 0 or 1."""

_TURNED = 1 / 3  # a pose beyond which a head is turned: none is drawn near it
_OF_KIND = {"drawn_faces": (), "folders": ("path", "positive"), "table": ("path", "table")}


class AttributesSettings(BaseModel):
    """Where pictures with attributes are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["drawn_faces", "folders", "table"] = Field(
        description="drawn_faces: drawn as they are needed; folders: two folders of pictures, of which one shows the "
        "attribute; table: pictures, and a list of what they show"
    )
    images: int = Field(4000, ge=20, description="How many faces are drawn; drawn_faces only")
    seed: int = Field(1009, ge=0, description="Seed of the faces, another than the training's; drawn_faces only")
    path: str | None = Field(
        None, description="The folder that holds the pictures, or a tar of it; local or mounted; folders and table"
    )
    positive: str | None = Field(
        None, description="The folder below path whose pictures show the attribute, such as Smile; folders only"
    )
    attribute: str | None = Field(
        None, description="Name of the attribute; none: that of the folder, in small letters; folders only"
    )
    table: str | None = Field(
        None,
        description="CSV or Parquet with the column file, the path below path, and a column for each attribute: 0, 1, "
        "or empty where unknown; table only",
    )
    faces: FaceSettings | None = Field(
        None,
        description="Cut the face out of each picture, as ingest does: true, or settings as ingest.faces has them; "
        "folders and table",
    )

    @field_validator("faces", mode="before")
    @classmethod
    def _true_or_false(cls, given: Any) -> Any:
        return ({} if given else None) if isinstance(given, bool) else given

    @model_validator(mode="after")
    def _of_one_kind(self) -> "AttributesSettings":
        needed = _OF_KIND[self.kind]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"kind={self.kind} needs {' and '.join(missing)}; set {'both' if missing[1:] else 'it'}")
        allowed = {*needed, *(("faces",) if needed else ()), *(("attribute",) if self.kind == "folders" else ())}
        strange = [
            name
            for name in ("path", "positive", "attribute", "table", "faces")
            if getattr(self, name) is not None and name not in allowed
        ]
        if needed:
            strange += not_default(self, ("images", "seed"))
        if strange:
            raise ValueError(f"kind={self.kind} does not use {' and '.join(strange)}; leave out what it does not use")
        return self


@dataclass(frozen=True)
class Attributed:
    """Pictures and what is known of them.

    images: uint8[N, size_px, size_px, C], RGB or grey
    values: float32[N, len(names)], 0 or 1, or a measure in -1..1 such as pose; nan: unknown
    left_out: the files that gave no picture, each with why
    """

    images: npt.NDArray[np.uint8]
    values: npt.NDArray[np.float32]
    names: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def check_attributed(settings: AttributesSettings) -> None:
    """Check what the settings name, before any picture is read.

    Raises:
        Unmeasurable: the pictures or the table are not there.
        ModelError: the face detector's model is missing.
    """
    check_there({"evaluate.attributes.path": settings.path, "evaluate.attributes.table": settings.table})
    if settings.faces is not None:
        faces.check_ready(settings.faces)


def read_attributed(settings: AttributesSettings, size_px: int, channels: int) -> Attributed:
    """The pictures: drawn at size_px, or the largest centred squares, or faces, reduced to it by area; RGB or grey.

    Files that give no picture are left out, and told of in the log; so are those with no face to cut out, or with
    several, of which the attribute could be any's.

    Raises:
        SourceError: there are no pictures, or what is said of them can't be used.
        ModelError: the face detector's model is missing.
    """
    if settings.kind == "drawn_faces":
        return _drawn(settings, size_px, channels)
    assert settings.path is not None
    stored = Stored.listed(settings.path)
    if settings.kind == "folders":
        assert settings.positive is not None
        named = settings.attribute or settings.positive.lower()
        names: tuple[str, ...] = (named,)
        said = folders_say(settings.path, stored.keys, settings.positive)
    else:
        assert settings.table is not None
        names, said = table_says(settings.table, settings.path, stored.keys)
    kept, images, left_out = stored.pictures(set(said), size_px, channels, settings.faces)
    warn_of_left_out(settings.path, left_out, len(kept))
    if not kept:
        raise SourceError(
            f"{settings.path}: none of {len(left_out)} files gave a picture (such as {left_out[0]}); check the path"
            f"{', or set faces to other settings' if settings.faces else ''}"
        )
    return Attributed(images, np.array([said[key] for key in kept], np.float32), names, tuple(left_out))


def _drawn(settings: AttributesSettings, size_px: int, channels: int) -> Attributed:
    shown = np.empty((settings.images, size_px, size_px, 3), np.uint8)
    values = np.empty((settings.images, len(DRAWN_NAMES)), np.float32)
    for index in range(settings.images):
        face = draw_face(settings.seed, index, size_px)
        shown[index] = face.image
        values[index] = _row(face.truth)
    return Attributed(fitted(shown, size_px, channels), values, DRAWN_NAMES)


def _row(truth: FaceTruth) -> list[float]:
    turned = {"turned_left": truth.pose < -_TURNED, "turned_right": truth.pose > _TURNED}
    return [float(turned[name] if name in turned else getattr(truth, name)) for name in DRAWN_NAMES]
