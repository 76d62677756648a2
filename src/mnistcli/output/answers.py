"""What all JSON answers have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AnswerPart(BaseModel):
    """A frozen part of a command's answer."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")


class CsvRow(AnswerPart):
    """A line of CSV: its columns in order."""

    @classmethod
    def list_columns(cls) -> tuple[str, ...]:
        """Name the columns that are always there."""
        return tuple(field.alias or name for name, field in cls.model_fields.items())


class Answer(AnswerPart):
    """A command's whole answer."""

    version: Literal[1] = Field(1, description="Version of this shape.")
