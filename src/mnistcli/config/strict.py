"""What every block of the config is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A frozen record that knows no other keys and converts nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def name_to_mapping(value: Any) -> Any:
    """Let `adam` stand for `{name: adam}`."""
    return {"name": value} if isinstance(value, str) else value
