"""Defaults < YAML < overrides: one frozen config, or one error with all that is wrong.

Where a config's text comes from: a file, or a recipe by its name.

Where each value of a config comes from: a line of the file, a flag, or the defaults.

A tree of plain values becomes a valid `Config` and the list of all that is wrong with it.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from mnistcli.config.cross_field_rules import check_rules, list_idle_settings
from mnistcli.config.field_info import find_slot, write_out
from mnistcli.config.messages import explain_errors
from mnistcli.config.overrides import Assignment, Override, apply_overrides, find_flag
from mnistcli.config.recipes import DEFAULT_RECIPE, find_recipe, list_recipe_names
from mnistcli.config.schema import Config
from mnistcli.config.validation_errors import (
    Fault,
    KeyPath,
    find_nearest,
    format_path,
    format_value,
    is_related,
    starts_with,
    to_problem,
)
from mnistcli.config.yaml_reader import MAX_BYTES, YamlDocument, parse_yaml
from mnistcli.errors import ConfigError, Problem

_MAX_NEIGHBOURS = 1000
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class ConfigSource:
    """A config's text before it is read.

    Attributes:
        name: as the user gave it.
        label: what messages call it.
        data: the file's bytes, or a little more of them than a config may have.
    """

    name: str
    label: str
    data: bytes


def read_source(name: str) -> ConfigSource:
    """Read a recipe, or the file of that path where no recipe is called so.

    Raises:
        ConfigError: there is neither, or the file cannot be read.
    """
    if name in list_recipe_names():
        return ConfigSource(name, f"recipe {name}", find_recipe(name).text.encode())
    if not name:
        _refuse("''", "an empty name", _suggest_source(name, list_recipe_names()))
    return read_yaml_file(name, "no such file or recipe", list_recipe_names())


def read_yaml_file(name: str, missing: str, recipes: Sequence[str] = ()) -> ConfigSource:
    """Read the file of that path.

    Args:
        name: the path.
        missing: what is said where there is no such file.
        recipes: names that could have been meant instead.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with Path(name).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        _refuse(name, "is a folder", "give the path of a YAML file in it")
    except (FileNotFoundError, NotADirectoryError):
        _refuse(name, missing, _suggest_source(name, recipes))
    except OSError as error:
        _refuse(
            name,
            f"cannot be read: {error.strerror}",
            "give the path of a YAML file that can be read",
        )
    except ValueError:
        _refuse(format_value(name), "cannot be the name of a file", _suggest_source("", recipes))
    if data.startswith(_HDF5):
        hint = f"go on with it: mnistcli train --resume {shlex.quote(name)}"
        _refuse(name, "is a checkpoint, not a config", hint)
    return ConfigSource(name, name, data)


def _refuse(name: str, what: str, hint: str) -> NoReturn:
    """A source that cannot be read is the only problem there is."""
    raise ConfigError([Problem(name, what, hint)])


def _suggest_source(name: str, recipes: Sequence[str]) -> str:
    """Compare with the recipes, and with the files beside the one that is missing."""
    folder = Path(name).parent
    by_name = {file: str(folder / file) for file in _list_yaml_files(folder)}
    by_name |= {recipe: recipe for recipe in recipes}
    if near := find_nearest(Path(name).name, by_name):
        return f"did you mean {by_name[near]}?"
    return "give a YAML file" + (f", or one of the recipes {', '.join(recipes)}" if recipes else "")


def _list_yaml_files(folder: Path) -> list[str]:
    """A folder that cannot be listed offers nothing."""
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry, _ in zip(entries, range(_MAX_NEIGHBOURS), strict=False):
                if entry.name.endswith((".yaml", ".yml")):
                    names.append(entry.name)
    except OSError:
        return []
    return sorted(names)


DEFAULT = "default"


@dataclass(frozen=True)
class Origins:
    """Tells where the values of one config come from.

    Attributes:
        label: what messages call the file.
        document: what the file says, and where.
        assignments: the flags that were carried out.
        replaced: keys of the file that a flag replaced by defaults.
    """

    label: str
    document: YamlDocument
    assignments: tuple[Assignment, ...]
    replaced: tuple[KeyPath, ...]

    def find(self, path: KeyPath) -> str:
        """Return `--flag`, `file:line` or `default` for one value of the resolved config."""
        for assignment in self.assignments:
            if starts_with(path, [assignment.path]):
                value = YamlDocument(assignment.value, {}, {}, ())
                said = _find_said(value, path, len(assignment.path))
                return DEFAULT if said is None else assignment.flag
        said = _find_said(self.document, path, 0)
        if said is None or starts_with(path, self.replaced):
            return DEFAULT
        mark = self.document.find_mark(said)
        return self.label if mark is None else f"{self.label}:{mark.line}"


def _find_said(document: YamlDocument, path: KeyPath, depth: int) -> KeyPath | None:
    """Return the part of a path below `depth` by which a document says it; null where it doesn't.

    That is another part where the document has a short form: `optimizer` for the name, one list
    or mapping for its numbers.
    """
    written = path[depth:]
    while not document.is_written(written):
        written = written[:-1]
    slot = find_slot((*path[:depth], *written))
    if path[depth:] == written or slot is None or not slot.models:
        return written
    is_named = path[depth:] == (*written, slot.shorthand_key) and document.is_shorthand(written)
    return written if is_named else None


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
