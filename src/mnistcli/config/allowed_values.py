"""The choices and defaults that help texts show, read from the config's own models."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import BaseModel

from mnistcli.config.schema import AnyDatasetName
from mnistcli.errors import UsageError

AUTO = "auto"
SPLITS = ("train", "validation", "test")
BaselineName = Literal["logistic-regression", "random-forest"]
BASELINES: tuple[str, ...] = get_args(BaselineName)
BASELINE_FLAG = "--baseline"


def get_choices(model: type[BaseModel], field: str) -> tuple[str, ...]:
    """Return the names that a field accepts."""
    return get_args(model.model_fields[field].annotation)


def list_choices(model: type[BaseModel], field: str) -> str:
    """Return the names that a field accepts as help shows them: `[a|b|c]`."""
    return join_choices(get_choices(model, field))


def join_choices(names: Sequence[str]) -> str:
    """Write names as help shows them: `[a|b|c]`."""
    return f"[{'|'.join(names)}]"


def list_data_sets() -> tuple[str, ...]:
    """Return the data sets that a checkpoint can be used on; `auto` is a way to choose one."""
    return tuple(name for name in get_args(AnyDatasetName) if name != AUTO)


def check_choice(value: str, choices: Sequence[str], flag: str) -> None:
    """Refuse a name that a flag does not know, with the nearest one that it does; UsageError."""
    if value in choices:
        return
    near = difflib.get_close_matches(value, choices, 1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(choices)}"
    raise UsageError(flag, f"unknown name {value!r}", hint)


def get_members(union: object, tag: str) -> tuple[str, ...]:
    """Return the values of the tag that tells a union's members apart."""
    while get_args(union) and not isinstance(get_args(union)[0], type):
        union = get_args(union)[0]
    members = get_args(get_args(union)[0]) or get_args(union)
    return tuple(name for m in members for name in get_args(m.model_fields[tag].annotation))


def describe(model: type[BaseModel], field: str) -> str:
    """Return a field's meaning, as its model says it."""
    return model.model_fields[field].description or ""
