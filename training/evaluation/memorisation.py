"""How memorisation is tested."""

from pydantic import BaseModel, ConfigDict


class MemorisationSettings(BaseModel):
    """How memorisation is tested."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
