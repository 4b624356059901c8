"""How objects are removed."""

from pydantic import BaseModel, ConfigDict


class RemovalSettings(BaseModel):
    """How objects are removed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
