"""The choices and defaults that help texts show, read from the config's own models."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel

from mnistcli.config.models import Optimizer


def list_choices(model: type[BaseModel], field: str) -> str:
    """Return the names that a field accepts as help shows them: `[a|b|c]`."""
    return f"[{'|'.join(get_args(model.model_fields[field].annotation))}]"


def list_optimizers() -> str:
    """Return the optimizers' names as help shows them."""
    union = get_args(get_args(Optimizer)[0])[0]
    members: tuple[Any, ...] = get_args(union)
    return f"[{'|'.join(get_args(m.model_fields['name'].annotation)[0] for m in members)}]"


def describe(model: type[BaseModel], field: str) -> str:
    """Return a field's meaning, as its model says it."""
    return model.model_fields[field].description or ""
