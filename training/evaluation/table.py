"""How features are measured."""

from pydantic import BaseModel, ConfigDict


class FeaturesSettings(BaseModel):
    """How features are measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
