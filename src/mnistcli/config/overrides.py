"""Flags and `--set key=value`: single keys that take precedence over the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnistcli.config.field_info import Slot, find_slot, split_key
from mnistcli.config.schema import Config
from mnistcli.config.validation_errors import (
    KeyPath,
    format_path,
    format_value,
    is_related,
    starts_with,
)
from mnistcli.config.yaml_reader import parse_yaml
from mnistcli.errors import Problem, UsageError

_SET = "--set"
_OPTIMIZER: KeyPath = ("training", "optimizer")


@dataclass(frozen=True)
class Override:
    """One key that the command line sets.

    Attributes:
        key: dotted, `training.optimizer.learning_rate`; numbers count list entries from 0.
        value: a plain Python value; a mapping is merged key by key.
        flag: as it was typed, `--learning-rate` or `--set`.
    """

    key: str
    value: object
    flag: str


@dataclass(frozen=True)
class Assignment:
    """One override, taken apart until its value is no block any more."""

    path: KeyPath
    value: object
    flag: str


@dataclass
class Overridden:
    """What came of the overrides.

    Attributes:
        values: the tree of the config, not validated yet.
        assignments: those that were carried out, in the order they were typed.
        replaced: keys that a new kind of block took from its defaults, whatever the file says.
        notices: what else they changed.
        problems: those that could not be carried out.
    """

    values: dict[str, Any]
    assignments: list[Assignment] = field(default_factory=list)
    replaced: list[KeyPath] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def parse_assignment(text: str) -> Override:
    """Read what follows `--set`: a dotted key, `=`, and a value in YAML.

    Raises:
        UsageError: there is no `=`, no key, or the value is not one YAML value.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        what = f"{format_value(text)} is no key=value"
        raise UsageError(_SET, what, "write --set training.epochs=10 for example")
    document = parse_yaml(value, f"{_SET} {key}")
    if document.faults:
        fault = document.faults[0]
        below = f"{format_path(fault.path)}: " if fault.path else ""
        raise UsageError(f"{_SET} {key}", f"{below}{fault.what}", fault.hint)
    return Override(key, document.value, _SET)


def apply_overrides(base: Config, overrides: Sequence[Override]) -> Overridden:
    """Write overrides over a valid config.

    A new optimizer brings its own defaults; another kind of model or initializer keeps the keys
    that both kinds have. Notices name what is lost.
    """
    result = Overridden(base.model_dump(mode="json"))
    for override in overrides:
        _take_apart(override, result)
    for assignment in sorted(result.assignments, key=lambda a: len(a.path)):
        if _is_tag(assignment.path):
            _change_kind(assignment, base, result)
    for assignment in result.assignments:
        if not _is_tag(assignment.path) and (problem := _assign(result.values, assignment)):
            result.problems.append(problem)
    return result


def _take_apart(override: Override, result: Overridden) -> None:
    """Two routes to one key are a mistake, whatever shorthands they take."""
    earlier = list(result.assignments)
    path = split_key(override.key)
    for leaf in _list_leaves(path, override.value, find_slot(path), override.flag):
        rival = next((a for a in earlier if is_related(leaf.path, [a.path])), None)
        if rival:
            what = f"{format_path(leaf.path)}: {_already(leaf, rival)}"
            result.problems.append(Problem(override.flag, what, "give it once"))
        elif leaf.value == {}:
            what = f"{format_path(leaf.path)}: an empty mapping sets nothing"
            result.problems.append(Problem(override.flag, what, "give it a key"))
        else:
            result.assignments.append(leaf)


def _already(leaf: Assignment, rival: Assignment) -> str:
    """Name the first route, and its key where it is a larger or a smaller one."""
    whose = "" if rival.path == leaf.path else f"{format_path(rival.path)} is "
    return f"{whose}already given by {'another ' if rival.flag == leaf.flag else ''}{rival.flag}"


def _list_leaves(
    path: KeyPath, value: object, slot: Slot | None, flag: str
) -> Iterator[Assignment]:
    """`optimizer=adam` and `optimizer={name: adam}` are the same assignment to `name`."""
    value = slot.expand(value) if slot else value
    if slot and slot.models and isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from _list_leaves((*path, key), entry, slot.find_child(key), flag)
    else:
        yield Assignment(path, value, flag)


def _is_tag(path: KeyPath) -> bool:
    """Tell the keys that choose a model of a union, like `training.optimizer.name`."""
    parent = find_slot(path[:-1])
    return parent is not None and path[-1] == parent.tag_key


def _change_kind(assignment: Assignment, base: Config, result: Overridden) -> None:
    """Replace a block by one of another kind, unless it is of that kind already."""
    path, tag = assignment.path[:-1], assignment.value
    *blocks, key = path
    outer: Any = result.values
    for part in blocks:
        outer = outer[part]
    old, slot = outer[key] or {}, find_slot(path)
    assert slot is not None
    assert slot.tag_key is not None
    if tag == old.get(slot.tag_key):
        return
    model = slot.find_model(tag)
    if model is None:
        outer[key] = {**old, slot.tag_key: tag}
        return
    fresh = model.model_construct(None, **{slot.tag_key: tag}).model_dump(mode="json")
    kept = {} if path == _OPTIMIZER else {key: old[key] for key in old if key in fresh}
    outer[key] = {**fresh, **kept, slot.tag_key: tag}
    result.replaced += [(*path, name) for name in fresh if name not in kept]
    if not old:
        return
    written = _list_written(base, path)
    lost = [key for key in old if key in written and key not in (*kept, slot.tag_key)]
    result.notices += _describe_change(path, str(tag), old[slot.tag_key], lost, fresh, result)


def _list_written(base: Config, path: KeyPath) -> set[str]:
    """The keys of a block that the file names itself."""
    block: Any = base
    for part in path:
        block = getattr(block, str(part))
    return set(block.model_fields_set)


def _describe_change(
    path: KeyPath,
    new: str,
    old: str,
    lost: list[str],
    fresh: dict[str, Any],
    result: Overridden,
) -> Iterator[str]:
    """Say what a change of kind did to keys that nobody named."""
    given = [a.path for a in result.assignments]
    rate = "learning_rate"
    if path == _OPTIMIZER and not starts_with((*path, rate), given):
        yield f"{path[-1]} {new} takes its default learning rate {fresh[rate]}"
    dropped = [key for key in lost if key != rate and not starts_with((*path, key), given)]
    if dropped:
        yield f"{path[-1]} {new} drops {old}'s {', '.join(dropped)}"


def _assign(values: dict[str, Any], assignment: Assignment) -> Problem | None:
    """Set one key; unknown keys are made, for validation to find."""
    *blocks, last = assignment.path
    here: Any = values
    for depth, part in enumerate(assignment.path):
        if not _has_place(here, part):
            return _misplaced(here, assignment, depth)
        if depth < len(blocks):
            here = _enter(here, assignment.path[: depth + 1])
    here[last] = assignment.value
    return None


def _enter(here: Any, path: KeyPath) -> Any:
    """Go into a block, making one that is not there yet or switched off by null."""
    part, slot = path[-1], find_slot(path)
    if isinstance(here, dict) and here.get(part) is None and (slot is None or slot.models):
        here[part] = {}
    return here[part]


def _has_place(here: object, part: str | int) -> bool:
    """Mappings take any key for now, lists only the indices they have."""
    if isinstance(here, list):
        return isinstance(part, int) and part < len(here)
    return isinstance(here, dict)


def _misplaced(here: object, assignment: Assignment, depth: int) -> Problem:
    """A key below a plain value, or an entry that a list does not have."""
    block, part = assignment.path[:depth], assignment.path[depth]
    if isinstance(here, list):
        last = len(here) - 1
        numbers = "only 0" if last == 0 else f"0 to {last}"
        what = f"{format_path(block)} has no entry {part}"
        return Problem(assignment.flag, what, f"its entries are {numbers}")
    what = f"{format_path(assignment.path)}: {format_path(block)} is no block of keys"
    return Problem(assignment.flag, what, f"set {format_path(block)} itself")


def find_flag(path: KeyPath, assignments: Iterable[Assignment]) -> int | None:
    """Return the position of the assignment that is responsible for a key, null where none is."""
    return next((i for i, a in enumerate(assignments) if is_related(path, [a.path])), None)
