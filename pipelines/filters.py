"""What is kept of the images that could be read."""

from pydantic import BaseModel, ConfigDict, Field

from manifests.images import Header
from manifests.schema import Reason


class FilterSettings(BaseModel):
    """Limits on the shape of a source image; what they refuse is dropped with a reason, never lost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    smallest_side_px: int = Field(64, ge=1, description="Shorter sides below this are dropped, source pixels")
    largest_aspect: float = Field(3.0, ge=1.0, description="Longer sides over this many shorter ones are dropped")
    animated: bool = Field(False, description="Keep the first frame of animated images; otherwise drop them")


def refuse(header: Header, settings: FilterSettings) -> tuple[Reason, str] | None:
    """Why an image of this header is not wanted, as (reason, detail); None if it is wanted."""
    if header.animated and not settings.animated:
        return Reason.ANIMATED, f"animated {header.format}; filters.animated keeps first frames"
    shorter, longer = sorted((header.width, header.height))
    if shorter < settings.smallest_side_px:
        return Reason.TOO_SMALL, f"{header.width}x{header.height}: a side is under {settings.smallest_side_px} px"
    if longer > settings.largest_aspect * shorter:
        return Reason.ASPECT, f"{header.width}x{header.height}: sides differ more than {settings.largest_aspect:g}:1"
    return None
