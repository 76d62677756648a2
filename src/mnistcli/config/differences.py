"""What tells configs apart, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, JsonValue

from mnistcli.config.schema import Config, HiddenLayer

_TAGS = ("name", "type")  # they say of what kind a block is, and come first
_ALWAYS_TOLD = ("hidden",)  # beside a network without hidden layers the usual ones matter too


@dataclass(frozen=True)
class Difference:
    """A key that has not the same value everywhere.

    Attributes:
        key: dotted, `training.optimizer.name` for example.
        values: one a config, as JSON has them; null where a config has no such key.
    """

    key: str
    values: tuple[JsonValue, ...]


def list_config_differences(configs: Sequence[Config]) -> tuple[Difference, ...]:
    """Return the keys in which configs differ, block by block.

    A key that only some configs have, as each optimizer has its own, counts where its value is
    not the default. A part that can be left out, a schedule for example, is one value.
    """
    found = [{key: (value, usual) for key, value, usual in _walk(c, "")} for c in configs]
    blocks = list(Config.model_fields)
    keys = dict.fromkeys(key for values in found for key in values)
    return tuple(
        Difference(key, tuple(values.get(key, (None, True))[0] for values in found))
        for key in sorted(keys, key=lambda key: blocks.index(key.partition(".")[0]))
        if _differs([values.get(key) for values in found])
    )


def _walk(part: BaseModel, prefix: str) -> Iterator[tuple[str, JsonValue, bool]]:
    """Name a block's values, and tell whether each is the default."""
    fields = type(part).model_fields
    for name in sorted(fields, key=lambda name: name not in _TAGS):
        value, field = getattr(part, name), fields[name]
        if isinstance(value, BaseModel) and field.default is not None:
            yield from _walk(value, f"{prefix}{name}.")
        else:
            usual = value == field.default and name not in _ALWAYS_TOLD
            yield f"{prefix}{name}", _simplify(value), usual


def _simplify(value: object) -> JsonValue:
    """Write a value as JSON has it, a hidden layer that is only units as their number."""
    if isinstance(value, HiddenLayer):
        said: dict[str, JsonValue] = value.model_dump(mode="json", exclude_none=True)
        return said["units"] if said.keys() == {"units"} else said
    if isinstance(value, BaseModel):
        dumped: dict[str, JsonValue] = value.model_dump(mode="json")
        return dumped
    if isinstance(value, dict):
        return {str(key): _simplify(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_simplify(item) for item in value]
    assert value is None or isinstance(value, str | int | float)
    return value


def _differs(values: Sequence[tuple[JsonValue, bool] | None]) -> bool:
    """Compare what there is; what some lack is a difference where the others chose it."""
    there = [value for value in values if value is not None]
    if any(value != there[0][0] for value, _ in there):
        return True
    return len(there) < len(values) and not all(usual for _, usual in there)
