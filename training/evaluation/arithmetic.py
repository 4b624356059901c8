"""How sums of concepts are made."""

from pydantic import BaseModel, ConfigDict


class ArithmeticSettings(BaseModel):
    """How sums of concepts are made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
