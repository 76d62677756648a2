"""What stands below `search` becomes dimensions: lists of choices and ranges of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from mnistcli.commands.sweep.definition import (
    Choice,
    ChoiceDimension,
    Dimension,
    NumberDimension,
    Range,
)
from mnistcli.commands.sweep.sweep_problems import SEARCH, Problems
from mnistcli.config.field_info import find_slot, split_key
from mnistcli.config.messages import list_kinds
from mnistcli.config.validation_errors import KeyPath

_HINT = "write [a, b, c] or {low: 0.1, high: 1}"


def read_search(search: dict[str, Any], problems: Problems) -> Iterator[Dimension]:
    """Yield the keys that vary; one that is wrong is left out, and `problems` told."""
    if not search:
        hint = "name keys of the config, training.batch_size: [32, 64] for example"
        problems.add((SEARCH,), "there is nothing to search", hint, is_key=True)
    for key, value in search.items():
        dimension = _read(key, value, (SEARCH, key), problems)
        if dimension is not None:
            yield dimension


def _read(key: str, value: object, path: KeyPath, problems: Problems) -> Dimension | None:
    """A list, a mapping with a list, or a range."""
    if isinstance(value, list):
        return _read_choice(key, value, path, problems)
    if not isinstance(value, dict):
        problems.add(path, "expected a list of choices, or a range", _HINT)
        return None
    if "choice" in value:
        choice = problems.validate(Choice, value, path)
        if choice is None:
            return None
        return _read_choice(key, choice.choice, (*path, "choice"), problems)
    given = problems.validate(Range, value, path)
    return None if given is None else _read_range(key, given, path, problems)


def _read_choice(
    key: str, values: list[Any], path: KeyPath, problems: Problems
) -> Dimension | None:
    """Every value once: the results of two equal ones could not be told apart."""
    if not values:
        problems.add(path, "an empty list", "give it a value")
        return None
    try:
        dimension = ChoiceDimension(key=key, values=tuple(values))
    except ValidationError:
        problems.add(path, "a number that is not finite", "write another")
        return None
    labels = dimension.labels
    for index, label in enumerate(labels):
        if label in labels[:index]:
            what = f"{label} equals an earlier choice"
            hint = "remove one of them"
            problems.add_about((*path, index), split_key(key), what, hint, is_key=False)
            return None
    return dimension


def _read_range(key: str, given: Range, path: KeyPath, problems: Problems) -> Dimension | None:
    """A range is one of numbers, and has its lower end first."""
    slot = find_slot(split_key(key))
    kinds = list_kinds(slot)[0] & {int, float} if slot else {float}
    what, hint = _find_mistake(given)
    if not kinds:
        what, hint = "it takes no numbers", "give a list of choices"
    whole = [given.low, given.high, *([] if given.step is None else [given.step])]
    if kinds == {int} and not what and not all(isinstance(n, int) for n in whole):
        what, hint = "it takes whole numbers", "write low, high and step without a point"
    if what:
        problems.add(path, what, hint, is_key=True)
        return None
    kind = "int" if kinds == {int} else "float"
    return NumberDimension.model_validate({"kind": kind, "key": key, **given.model_dump()})


def _find_mistake(given: Range) -> tuple[str, str]:
    """What the numbers of a range have to do with each other; empty where they fit."""
    if given.low >= given.high:
        return f"low {given.low:g} is not below high {given.high:g}", "exchange them"
    if given.log and given.low <= 0:
        return f"low {given.low:g} has no logarithm", "begin above 0, or leave log out"
    if given.log and given.step is not None:
        return "a logarithmic range has no step", "remove log or step"
    if given.step is not None and given.step > given.high - given.low:
        return f"step {given.step:g} leads beyond high {given.high:g}", "make it smaller"
    return "", ""
