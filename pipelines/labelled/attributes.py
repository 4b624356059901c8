"""Pictures with attributes: drawn faces, folders, or a table."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field


class AttributesSettings(BaseModel):
    """Where pictures with attributes are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["drawn_faces", "folders", "table"] = Field(description="How they are stored")


@dataclass(frozen=True)
class Attributed:
    """Pictures and what is known of them.

    images: uint8[N, size_px, size_px, C], RGB or grey
    values: float32[N, len(names)], 0 or 1, or a measure in -1..1 such as pose; nan: unknown
    """

    images: npt.NDArray[np.uint8]
    values: npt.NDArray[np.float32]
    names: tuple[str, ...]
