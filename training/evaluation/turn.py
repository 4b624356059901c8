"""How the axis between two concepts is taken."""

from pydantic import BaseModel, ConfigDict


class TurnSettings(BaseModel):
    """How the axis between two concepts is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
