"""How the nearest neighbour classifies."""

from pydantic import BaseModel, ConfigDict


class NearestSettings(BaseModel):
    """How the nearest neighbour classifies."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
