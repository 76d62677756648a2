"""What all JSON answers have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class AnswerPart(BaseModel):
    """A frozen part of a command's answer."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")


class Answer(AnswerPart):
    """A command's whole answer."""

    version: int = Field(1, description="Version of this shape.")
