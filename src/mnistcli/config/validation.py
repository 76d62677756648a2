"""A tree of plain values becomes a valid `Config` and the list of all that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from mnistcli.config.cross_field_rules import check_rules
from mnistcli.config.field_info import find_slot
from mnistcli.config.messages import explain_errors
from mnistcli.config.schema import Config
from mnistcli.config.validation_errors import Fault, KeyPath, is_related, starts_with

_MAX_ROUNDS = 8


@dataclass(frozen=True)
class Validated:
    """What validation found.

    Attributes:
        config: the values with what is wrong left out; the values themselves where nothing is.
        faults: the mistakes, in the order of the values.
        broken: the paths that cannot be relied on.
    """

    config: Config
    faults: tuple[Fault, ...]
    broken: tuple[KeyPath, ...]


def validate(values: object, broken: tuple[KeyPath, ...] = ()) -> Validated:
    """Check every key by itself.

    Args:
        values: a tree with its shorthands written out.
        broken: paths whose mistakes were reported before; they are not reported again.

    Returns:
        All mistakes, and a config without them, so that what comes later can be checked too.
    """
    faults: tuple[Fault, ...] = ()
    for attempt in range(_MAX_ROUNDS):
        try:
            return Validated(Config.model_validate(values), faults, broken)
        except ValidationError as error:
            found = explain_errors(error)
        if attempt == 0:  # later ones come of leaving things out
            faults = tuple(fault for fault in found if not starts_with(fault.path, broken))
        broken = (*broken, *(fault.path for fault in found))
        for path in broken:
            values = _leave_out(values, _choose_cut(path))
    return Validated(Config(), faults, broken)


def validate_rules(config: Config, broken: tuple[KeyPath, ...] = ()) -> list[Fault]:
    """Check the rules over several keys, except those that join a broken one."""
    return [
        fault
        for fault in check_rules(config)
        if not any(is_related(path, broken) for path in (fault.path, *fault.involves))
    ]


def _choose_cut(path: KeyPath) -> KeyPath:
    """A list goes as a whole, and so does a block whose kind is unknown."""
    for depth, part in enumerate(path):
        if isinstance(part, int):
            return path[:depth]
    parent = find_slot(path[:-1])
    return path[:-1] if parent and parent.tag_key == path[-1] else path


def _leave_out(values: object, path: KeyPath) -> object:
    """Copy a tree without one of its keys."""
    if not path:
        return {}
    if not isinstance(values, dict):
        return values
    first, rest = path[0], path[1:]
    return {
        key: _leave_out(entry, rest) if key == first else entry
        for key, entry in values.items()
        if rest or key != first
    }
