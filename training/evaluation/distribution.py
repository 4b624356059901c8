"""How distributions are compared."""

from pydantic import BaseModel, ConfigDict


class DistributionSettings(BaseModel):
    """How distributions are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
