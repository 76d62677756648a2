"""Write configs as YAML and JSON, read them back from JSON, and list their differences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel, JsonValue

from mnistcli.config.loading import validate, validate_rules
from mnistcli.config.overrides import ConfigTree
from mnistcli.config.schema import Config, HiddenLayer
from mnistcli.config.validation_errors import KeyPath, format_path, format_value
from mnistcli.config.yaml_reader import MAX_BYTES, parse_yaml
from mnistcli.errors import ConfigError, Problem, make_printable

_TAGS = ("name", "type")  # of blocks of several kinds; they come first
_ALWAYS_LISTED = ("hidden",)  # also with default values, if another network has none
_BY_TOOL = "the file was not written by this tool, or changed since"


def dump_config(config: Config) -> str:
    """Return every key of a config as YAML, in the order of the schema."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def annotate_config(config: Config, tree: ConfigTree) -> str:
    """Return a config as `dump_config` does, with a comment after each value: its source."""
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
    """Return the path of every value except blocks and lists, in the order of the schema."""
    return list(_walk(config.model_dump(mode="json"), ()))


def _walk(value: object, path: KeyPath) -> Iterator[KeyPath]:
    if not isinstance(value, dict | list):
        yield path
        return
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for part, entry in entries:
        yield from _walk(entry, (*path, part))


def config_to_json(config: Config) -> str:
    """Return every key of a config as one line of JSON."""
    return json.dumps(config.model_dump(mode="json"), allow_nan=False)


def config_from_json(text: str, where: str) -> Config:
    """Read a config from the JSON that `config_to_json` wrote; missing keys have their defaults.

    Args:
        text: untrusted JSON.
        where: the file's name in messages.

    Raises:
        ConfigError: it is no JSON object, or not a valid config; all problems at once.
    """
    validated = validate(_parse_json(text, where))
    issues = [*validated.issues, *validate_rules(validated.config, validated.broken)]
    if issues:
        raise ConfigError([issue.to_problem(where) for issue in issues])
    return validated.config


def _parse_json(text: str, where: str) -> dict[str, Any]:
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
    raise ConfigError([Problem(where, what, _BY_TOOL)])


def _refuse_constant(name: str) -> NoReturn:
    # Python's json accepts NaN and Infinity, which JSON does not have.
    raise ValueError(f"{name} is not a JSON number")


def _join_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python's json takes the last of two equal keys.
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"key {format_path((twice,))} given twice")
    return values


@dataclass(frozen=True)
class ConfigDifference:
    """A key whose value differs between configs.

    Attributes:
        key: dotted, `training.optimizer.name`.
        values: of each config, as in JSON; None where a config has no such key.
    """

    key: str
    values: tuple[JsonValue, ...]


def diff_configs(configs: Sequence[Config]) -> tuple[ConfigDifference, ...]:
    """Return the keys in which configs differ, in the order of the schema's blocks.

    A key that only some configs have, as each optimizer has its own, counts if its value is not
    the default. A block that may be None, a schedule for example, is one value.
    """
    found = [{key: (value, usual) for key, value, usual in _walk_leaves(c, "")} for c in configs]
    blocks = list(Config.model_fields)
    keys = dict.fromkeys(key for values in found for key in values)
    return tuple(
        ConfigDifference(key, tuple(values.get(key, (None, True))[0] for values in found))
        for key in sorted(keys, key=lambda key: blocks.index(key.partition(".")[0]))
        if _differs([values.get(key) for values in found])
    )


def _walk_leaves(part: BaseModel, prefix: str) -> Iterator[tuple[str, JsonValue, bool]]:
    """Yield the dotted key of each value, the value, and whether it is the default."""
    fields = type(part).model_fields
    for name in sorted(fields, key=lambda name: name not in _TAGS):
        value, field = getattr(part, name), fields[name]
        if isinstance(value, BaseModel) and field.default is not None:
            yield from _walk_leaves(value, f"{prefix}{name}.")
        else:
            usual = value == field.default and name not in _ALWAYS_LISTED
            yield f"{prefix}{name}", _simplify(value), usual


def _simplify(value: object) -> JsonValue:
    """Return a value as in JSON; a hidden layer of which only the units are given as a number."""
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
    there = [value for value in values if value is not None]
    if any(value != there[0][0] for value, _ in there):
        return True
    return len(there) < len(values) and not all(usual for _, usual in there)
