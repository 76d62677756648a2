"""The choices and defaults that help texts show, read from the config's own models."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel


def list_choices(model: type[BaseModel], field: str) -> str:
    """Return the names that a field accepts as help shows them: `[a|b|c]`."""
    return f"[{'|'.join(get_args(model.model_fields[field].annotation))}]"


def list_members(union: object, tag: str) -> str:
    """Return the values of the tag that tells a union's members apart, as help shows them."""
    while get_args(union) and not isinstance(get_args(union)[0], type):
        union = get_args(union)[0]
    members = get_args(get_args(union)[0]) or get_args(union)
    names = [name for m in members for name in get_args(m.model_fields[tag].annotation)]
    return f"[{'|'.join(names)}]"


def describe(model: type[BaseModel], field: str) -> str:
    """Return a field's meaning, as its model says it."""
    return model.model_fields[field].description or ""
