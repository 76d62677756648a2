"""What tells configs apart, key by key.

A config as text: YAML for people, JSON for the checkpoint's record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, JsonValue

from mnistcli.config.loading import validate, validate_rules
from mnistcli.config.schema import Config, HiddenLayer
from mnistcli.config.validation_errors import KeyPath, format_path, format_value
from mnistcli.config.yaml_reader import MAX_BYTES
from mnistcli.errors import ConfigError, Problem, make_printable

if TYPE_CHECKING:
    from mnistcli.config.overrides import ConfigTree


_BY_TOOL = "the file was not written by this tool, or changed since"


def dump_config(config: Config) -> str:
    """Write every key of a config as YAML, in the order of the models; loading gives it back."""
    import yaml  # reading a checkpoint's record should not wait for it

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def annotate_config(config: Config, tree: ConfigTree) -> str:
    """Write a config as `dump_config` does, each value with a comment on where it comes from."""
    from mnistcli.config.yaml_reader import parse_yaml

    text = dump_config(config)
    marks = parse_yaml(text, "config").value_marks
    comments = {
        marks[path].line: make_printable(tree.describe_source(path))
        for path in list_value_paths(config)
    }
    lines = text.splitlines()
    width = max(map(len, lines))
    return "".join(
        f"{line:<{width}}  # {comments[number]}\n" if number in comments else f"{line}\n"
        for number, line in enumerate(lines, 1)
    )


def list_value_paths(config: Config) -> list[KeyPath]:
    """Return the path of every value that is no block and no list, in the order of the models."""
    return list(_walk(config.model_dump(mode="json"), ()))


def _walk(value: object, path: KeyPath) -> Iterator[KeyPath]:
    """Blocks and lists are entered."""
    if not isinstance(value, dict | list):
        yield path
        return
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for part, entry in entries:
        yield from _walk(entry, (*path, part))


def config_to_json(config: Config) -> str:
    """Write every key of a config as one line of JSON."""
    return json.dumps(config.model_dump(mode="json"), allow_nan=False)


def config_from_json(text: str, where: str) -> Config:
    """Read what `config_to_json` wrote; keys that it lacks take their defaults.

    Args:
        text: JSON from a file that may come from anybody; it is validated, never executed.
        where: what messages call the place.

    Raises:
        ConfigError: it is no JSON object, or not a valid config; all problems at once.
    """
    validated = validate(_parse_json(text, where))
    issues = [*validated.issues, *validate_rules(validated.config, validated.broken)]
    if issues:
        raise ConfigError([issue.to_problem(where) for issue in issues])
    return validated.config


def _parse_json(text: str, where: str) -> dict[str, Any]:
    """Strict JSON: no NaN, no key twice, nothing huge."""
    if len(text) > MAX_BYTES:
        _refuse(where, f"a config of {len(text)} characters")
    try:
        values = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_join_pairs)
    except (ValueError, RecursionError) as error:
        _refuse(where, f"its config is not valid JSON: {error}")
    if not isinstance(values, dict):
        _refuse(where, f"its config is {format_value(values)}, not an object")
    return values


def _refuse(where: str, what: str) -> NoReturn:
    """The record is not meant to be mended by hand."""
    raise ConfigError([Problem(where, what, _BY_TOOL)])


def _refuse_constant(name: str) -> NoReturn:
    """Python's JSON knows NaN and Infinity, JSON does not."""
    raise ValueError(f"{name} is not a JSON number")


def _join_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Python's JSON lets the last of two equal keys win."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"key {format_path((twice,))} given twice")
    return values


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
    found = [{key: (value, usual) for key, value, usual in _walk_leaves(c, "")} for c in configs]
    blocks = list(Config.model_fields)
    keys = dict.fromkeys(key for values in found for key in values)
    return tuple(
        Difference(key, tuple(values.get(key, (None, True))[0] for values in found))
        for key in sorted(keys, key=lambda key: blocks.index(key.partition(".")[0]))
        if _differs([values.get(key) for values in found])
    )


def _walk_leaves(part: BaseModel, prefix: str) -> Iterator[tuple[str, JsonValue, bool]]:
    """Name a block's values, and tell whether each is the default."""
    fields = type(part).model_fields
    for name in sorted(fields, key=lambda name: name not in _TAGS):
        value, field = getattr(part, name), fields[name]
        if isinstance(value, BaseModel) and field.default is not None:
            yield from _walk_leaves(value, f"{prefix}{name}.")
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
