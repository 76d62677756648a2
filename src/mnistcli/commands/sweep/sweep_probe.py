"""Tries every searched value on the config by itself; combinations are the trials' matter."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mnistcli.commands.sweep.definition import ChoiceDimension, Dimension, NumberDimension
from mnistcli.commands.sweep.sweep_problems import SEARCH, Problems
from mnistcli.config.field_info import find_slot, split_key, write_out
from mnistcli.config.overrides import Override, apply_overrides
from mnistcli.config.schema import Config
from mnistcli.config.validation import validate
from mnistcli.config.validation_errors import Fault, KeyPath, is_related

VALIDATION = "dataset.validation"
_MAX_KINDS = 64  # combinations of blocks' kinds that a value is tried with


@dataclass(frozen=True)
class Probe:
    """Knows the config that values are tried on.

    Attributes:
        base: valid by itself.
        fixed: what is the same in all trials.
        search: the keys that vary.
        problems: is told of every key that does not exist and every value that it cannot have.
    """

    base: Config
    fixed: Sequence[Override]
    search: Sequence[Dimension]
    problems: Problems

    def check(self) -> None:
        """Try every value."""
        for dimension in self.search:
            told: list[str] = []
            for path, value in _list_ends(dimension, self.problems):
                for fault in self._find_faults(dimension.key, value):
                    if fault.what not in told:  # an unknown key is so for all of its values
                        told.append(fault.what)
                        self._tell(fault, path)
                if dimension.key == VALIDATION and value in (0, "test"):
                    what = "the objective needs a validation set of its own"
                    hint, name = "give fractions above 0", split_key(VALIDATION)
                    self.problems.add_about(path, name, what, hint, is_key=False)

    def _tell(self, fault: Fault, path: KeyPath) -> None:
        """Name the config's key, and the way out as for a dotted one."""
        hint = fault.hint if fault.flag_hint is None else fault.flag_hint
        at = path[:2] if fault.is_key else path
        self.problems.add_about(at, fault.path, fault.what, hint, is_key=fault.is_key)

    def _find_faults(self, key: str, value: object) -> list[Fault]:
        """Say what is wrong with a value; nothing where it fits any of the searched kinds."""
        own = Override(key, value, self.problems.locate((SEARCH, key)))
        first: list[Fault] | None = None
        for others in itertools.islice(self._list_kinds(key), _MAX_KINDS):
            overridden = apply_overrides(self.base, [*self.fixed, *others, own])
            faults = [
                Fault((), problem.what, problem.hint, is_key=True)
                for problem in overridden.problems
            ]
            if not faults:
                final = validate(write_out(overridden.values))
                faults = [f for f in final.faults if is_related(f.path, [split_key(key)])]
            if not faults:
                return []
            first = faults if first is None else first
        return first or []

    def _list_kinds(self, key: str) -> Iterator[list[Override]]:
        """Yield what the search makes of blocks that have several kinds, optimizers for example."""
        varied = [
            [Override(d.key, value, d.key) for value in d.values if _is_kind(d.key, value)]
            for d in self.search
            if isinstance(d, ChoiceDimension) and d.key != key
        ]
        yield from map(list, itertools.product(*filter(None, varied)))


def _is_kind(key: str, value: object) -> bool:
    """Tell what chooses a model of a union: `training.optimizer: adam`, `model.type: mlp`."""
    path = split_key(key)
    slot, parent = find_slot(path), find_slot(path[:-1])
    if slot is not None and slot.tag_key:
        block = slot.expand(value)
        return isinstance(block, dict) and block.get(slot.tag_key) in slot.tags
    return parent is not None and parent.tag_key == path[-1] and value in parent.tags


def _list_ends(dimension: Dimension, problems: Problems) -> Iterator[tuple[KeyPath, object]]:
    """Yield the values to try, each with its place: choices, or a range's ends."""
    path: KeyPath = (SEARCH, dimension.key)
    if isinstance(dimension, NumberDimension):
        for key in ("low", "high"):
            number = getattr(dimension, key)
            yield (*path, key), number if dimension.kind == "int" else float(number)
        return
    at = (*path, "choice") if problems.document.is_written((*path, "choice")) else path
    yield from (((*at, index), value) for index, value in enumerate(dimension.values))
