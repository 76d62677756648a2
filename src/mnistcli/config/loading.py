"""Defaults < YAML < overrides: one frozen config, or one error with all that is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from mnistcli.config.cross_field_rules import list_idle_settings
from mnistcli.config.field_info import write_out
from mnistcli.config.origins import Origins
from mnistcli.config.overrides import Assignment, Override, apply_overrides, find_flag
from mnistcli.config.recipes import DEFAULT_RECIPE
from mnistcli.config.schema import Config
from mnistcli.config.sources import ConfigSource, read_source
from mnistcli.config.validation import Validated, validate, validate_rules
from mnistcli.config.validation_errors import Fault, format_path, is_related, to_problem
from mnistcli.config.yaml_document import YamlDocument
from mnistcli.config.yaml_reader import parse_yaml
from mnistcli.errors import ConfigError, Problem

_AFTER_THE_FILE = sys.maxsize
_Order = tuple[int, int]


@dataclass(frozen=True)
class LoadedConfig:
    """A config, and what the user should hear about it.

    Attributes:
        config: complete and valid.
        notices: what the overrides changed beyond the keys they name, and what changes nothing;
            one line each.
        source: the file's path as it was given, or the recipe's name.
        origins: tells where each value comes from.
    """

    config: Config
    notices: tuple[str, ...]
    source: str
    origins: Origins


def load_config(source: str | None, overrides: Sequence[Override] = ()) -> LoadedConfig:
    """Load a config.

    Args:
        source: the path of a YAML file or the name of a recipe, which wins over a file of the
            same name; null for the default recipe.
        overrides: keys that take precedence, in the order they were typed.

    Raises:
        ConfigError: the source cannot be read, or something in it or in the overrides is wrong;
            all problems at once, in the order of the file, then of the flags.
    """
    text = read_source(DEFAULT_RECIPE if source is None else source)
    return resolve_document(text.name, text.label, read_document(text), overrides)


def resolve_document(
    name: str, label: str, document: YamlDocument, overrides: Sequence[Override] = ()
) -> LoadedConfig:
    """Make a config of a document, as `load_config` does.

    Args:
        name: where it comes from, as the user says it.
        label: what messages call it.
        document: what it says; nothing means the defaults.
        overrides: keys that take precedence, in the order they were typed.

    Raises:
        ConfigError: something in it or in the overrides is wrong.
    """
    file = validate_document(document)
    overridden = apply_overrides(file.config, overrides)
    final = validate(write_out(overridden.values))
    faults = [fault for fault in final.faults if not is_related(fault.path, file.broken)]
    faults += validate_rules(final.config, (*file.broken, *final.broken))
    places = _Places(label, document, tuple(overridden.assignments))
    problems = places.sort_problems(file.faults, faults, overridden.problems)
    if problems:
        raise ConfigError(problems)
    origins = Origins(label, document, tuple(overridden.assignments), tuple(overridden.replaced))
    notices = (*overridden.notices, *list_idle_settings(final.config))
    return LoadedConfig(final.config, notices, name, origins)


def vary_config(base: Config, overrides: Sequence[Override]) -> Config:
    """Return a config with other values.

    Args:
        base: valid but for rules over several keys.
        overrides: keys that take precedence.

    Raises:
        ConfigError: a value, or their combination, is refused; all problems at once.
    """
    overridden = apply_overrides(base, overrides)
    final = validate(write_out(overridden.values))
    faults = [*final.faults, *validate_rules(final.config, final.broken)]
    problems = [to_problem(f.what, f.hint, "", f.path) for f in faults]
    if problems or overridden.problems:
        raise ConfigError([*problems, *overridden.problems])
    return final.config


def read_document(source: ConfigSource) -> YamlDocument:
    """Read a config's YAML; an empty file is legal: it means the defaults.

    Raises:
        ConfigError: it is not YAML, or no mapping.
    """
    document = parse_yaml(source.data, source.label)
    if document.value is not None and not isinstance(document.value, dict):
        _refuse_top_level(document, source.label)
    return document


def _refuse_top_level(document: YamlDocument, label: str) -> NoReturn:
    """A list or a word at the top is not a config at all."""
    place = f"{label}:{document.value_marks[()]}"
    what = "expected the blocks dataset, model and training at the top level"
    faults = [fault.place_in(label) for fault in document.faults]
    raise ConfigError([*faults, Problem(place, what, "write key: value lines")])


def validate_document(document: YamlDocument) -> Validated:
    """Check a file by itself: a flag over a wrong key does not make it right."""
    values = write_out({} if document.value is None else document.value)
    return validate(values, tuple(fault.path for fault in document.faults))


@dataclass(frozen=True)
class _Places:
    """Knows where each key was written: in the file, or in a flag."""

    label: str
    document: YamlDocument
    assignments: tuple[Assignment, ...]

    def sort_problems(
        self, in_file: Iterable[Fault], in_all: Iterable[Fault], refused: Iterable[Problem]
    ) -> list[Problem]:
        """Put mistakes in the file's order; those of flags come after, in theirs."""
        placed = [
            ((fault.mark.line, fault.mark.column), fault.place_in(self.label))
            for fault in self.document.faults
        ]
        placed += [self.place_in_file(fault) for fault in in_file]
        placed += [self.place(fault) for fault in self.join_faults(in_all)]
        placed.sort(key=lambda pair: pair[0])
        return [*(problem for _, problem in placed), *refused]

    def join_faults(self, faults: Iterable[Fault]) -> Iterator[Fault]:
        """One flag that does not go with several keys is one mistake, with one way out."""
        groups: dict[object, list[Fault]] = {}
        for fault in faults:
            culprit = self.find_culprit(fault)
            group = id(fault) if culprit is None else (culprit.path, fault.remedy)
            groups.setdefault(group, []).append(fault)
        for group_faults in groups.values():
            first, culprit = group_faults[0], self.find_culprit(group_faults[0])
            if len(group_faults) == 1 or culprit is None:
                yield first
                continue
            others = ", ".join(format_path(fault.path) for fault in group_faults)
            yield Fault(
                culprit.path, f"{culprit.value} does not go with {others}", first.remedy or ""
            )

    def find_culprit(self, fault: Fault) -> Assignment | None:
        """Return the flag that broke other keys, where changing all of them has another name."""
        if fault.remedy is None or find_flag(fault.path, self.assignments) is not None:
            return None
        index = find_flag(fault.involves[0], self.assignments)
        return None if index is None else self.assignments[index]

    def place(self, fault: Fault) -> tuple[_Order, Problem]:
        """A flag that takes part is to blame, since it was typed last."""
        for path in (fault.path, *fault.involves):
            index = find_flag(path, self.assignments)
            if index is not None:
                flag = self.assignments[index].flag
                hint = fault.hint if fault.flag_hint is None else fault.flag_hint
                return (_AFTER_THE_FILE, index), to_problem(fault.what, hint, flag, fault.path)
        return self.place_in_file(fault)

    def place_in_file(self, fault: Fault) -> tuple[_Order, Problem]:
        """The first of a fault's keys that the file has tells the line."""
        paths = (fault.path, *fault.involves)
        written = next((path for path in paths if self.document.is_written(path)), fault.path)
        mark = self.document.find_mark(written, is_key=fault.is_key)
        where = f"{self.label}:{mark}" if mark else self.label
        order = (mark.line, mark.column) if mark else (_AFTER_THE_FILE, -1)
        shown = fault.path if fault.is_key else self.document.shorten(fault.path)
        return order, to_problem(fault.what, fault.hint, where, shown)
