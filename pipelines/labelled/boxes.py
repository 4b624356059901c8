"""Pictures with boxes around the objects of one kind: drawn rooms and their windows, or a JSON of one's own."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field


class BoxesSettings(BaseModel):
    """Where pictures with boxes are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["drawn_rooms", "json"] = Field(description="How they are stored")


@dataclass(frozen=True)
class Boxed:
    """Pictures and where the objects are in them.

    images: uint8[N, size_px, size_px, C], RGB or grey
    boxes: for each picture, float32[K, 4]: left, top, width, height in pixels of `images`
    """

    images: npt.NDArray[np.uint8]
    boxes: tuple[npt.NDArray[np.float32], ...]
