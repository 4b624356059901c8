"""How filters are shown."""

from pydantic import BaseModel, ConfigDict


class FiltersSettings(BaseModel):
    """How filters are shown."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
