"""Load a config: read a file or recipe, merge overrides into it, validate the result.

Defaults < YAML < overrides. What comes out is one frozen `Config`, or one error with everything
that is wrong.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from mnistcli.atomic_files import open_named_file
from mnistcli.config.allowed_values import KEYS_OF_FLAGS
from mnistcli.config.cross_field_rules import check_rules, list_unused_settings
from mnistcli.config.field_info import find_field
from mnistcli.config.messages import explain_errors, find_key, suggest_assignment
from mnistcli.config.overrides import ConfigTree, FileSource, Override, merge_overrides
from mnistcli.config.recipes import DEFAULT_RECIPE, find_recipe, list_recipe_names
from mnistcli.config.schema import Config, FilesConfig
from mnistcli.config.suggestions import find_nearest
from mnistcli.config.validation_errors import (
    ConfigIssue,
    KeyPath,
    format_path,
    format_value,
    is_related,
    starts_with,
)
from mnistcli.config.yaml_reader import MAX_BYTES, YamlDocument, parse_yaml
from mnistcli.errors import ConfigError, Problem, quote_words
from mnistcli.file_kinds import explain_folder, explain_missing, explain_wrong_kind

_MAX_NEIGHBOURS = 1000  # files in a folder that are compared with a misspelt name
_MAX_ROUNDS = 8  # of validation, each without what was wrong in the one before
_AFTER_FILE = sys.maxsize

_SortKey = tuple[int, int]
"""Line and column in the file; the positions of flags come after them."""


@dataclass(frozen=True)
class LoadedConfig:
    """A config, and what there is to tell about it.

    Attributes:
        config: complete and valid.
        notices: what overrides change beyond the keys that they name, and settings without an
            effect; one line each.
        source: the file's path as it was given, or the recipe's name.
        tree: knows where each value comes from.
    """

    config: Config
    notices: tuple[str, ...]
    source: str
    tree: ConfigTree


@dataclass(frozen=True)
class ConfigSource:
    """The text of a config.

    Attributes:
        name: as the user gave it.
        label: the name in messages.
        data: the file's bytes, at most one more than a config may have.
    """

    name: str
    label: str
    data: bytes


@dataclass(frozen=True)
class ValidationResult:
    """The result of validating a tree of values.

    Attributes:
        config: of the values without the invalid ones.
        issues: in the order of the values.
        broken: the paths whose values cannot be relied on.
        removed: the paths that were left out for `config`.
    """

    config: Config
    issues: tuple[ConfigIssue, ...]
    broken: tuple[KeyPath, ...]
    removed: tuple[KeyPath, ...] = ()


def load_config(source: str | None, overrides: Sequence[Override] = ()) -> LoadedConfig:
    """Load a config.

    Args:
        source: the path of a YAML file or the name of a recipe, which wins over a file of the
            same name; None for the default recipe.
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
    """Load a config from a document, as `load_config` does from a file.

    Args:
        name: what the user calls the document.
        label: what messages call it.
        document: the parsed YAML; an empty one means the defaults.
        overrides: keys that take precedence, in the order they were typed.

    Raises:
        ConfigError: something in it or in the overrides is wrong.
    """
    tree = ConfigTree.from_document(document, label)
    locator = _IssueLocator(tree)
    file = final = _validate_file(tree, document)
    located = [locator.locate(issue) for issue in (*document.issues, *file.issues)]
    for path in file.removed:
        tree.remove(path)
    merged = merge_overrides(tree, overrides)
    issues: list[ConfigIssue] = []
    if overrides:
        # The file is validated on its own as well, as a flag that replaces an invalid value
        # must not hide it.
        final = validate(tree.root.to_plain())
        issues = [issue for issue in final.issues if not is_related(issue.path, file.broken)]
    issues += validate_rules(final.config, (*file.broken, *final.broken))
    located += [locator.locate(issue) for issue in locator.join_issues(issues)]
    located.sort(key=lambda pair: pair[0])
    problems = [*(problem for _, problem in located), *merged.problems]
    if problems:
        raise ConfigError(problems)
    nothing = [f"{label} is empty: the defaults are trained"] if document.value is None else []
    unused, beside = list_unused_settings(final.config), _find_data_beside(name, final.config)
    notices = (*nothing, *merged.notices, *unused, *beside)
    return LoadedConfig(final.config, notices, name, tree)


def _find_data_beside(name: str, config: Config) -> list[str]:
    """Return a notice where images are not in the working directory, but beside the file."""
    if not isinstance(config.dataset, FilesConfig):
        return []
    path = config.dataset.path
    beside = os.path.join(os.path.dirname(name), path)  # noqa: PTH118, PTH120 (as it was typed)
    if os.path.exists(path) or not os.path.exists(beside):  # noqa: PTH110 (raises nothing)
        return []
    given = f"to use {beside} beside {name}, give --data {shlex.quote(beside)}"
    return [f"dataset.path {path} begins in the working directory: {given}"]


def vary_config(base: Config, overrides: Sequence[Override]) -> Config:
    """Return a config with other values.

    Args:
        base: each value is valid; rules over several keys may be broken.
        overrides: keys that take precedence.

    Raises:
        ConfigError: a value or the combination of values is invalid; all problems at once.
    """
    tree = ConfigTree.from_config(base)
    merged = merge_overrides(tree, overrides)
    final = validate(tree.root.to_plain())
    issues = [*final.issues, *validate_rules(final.config, final.broken)]
    if problems := [*(issue.to_problem("") for issue in issues), *merged.problems]:
        raise ConfigError(problems)
    return final.config


def validate(values: object, broken: tuple[KeyPath, ...] = ()) -> ValidationResult:
    """Validate every key for itself.

    All issues are found at once: what is invalid is left out, so that what depends on the rest
    can be validated too.

    Args:
        values: plain dicts, lists and values.
        broken: paths whose issues are known; they are not reported again.
    """
    issues: tuple[ConfigIssue, ...] = ()
    removed: tuple[KeyPath, ...] = ()
    for attempt in range(_MAX_ROUNDS):
        try:
            return ValidationResult(Config.model_validate(values), issues, broken, removed)
        except ValidationError as error:
            found = explain_errors(error)
        if attempt == 0:  # later ones come of leaving things out
            issues = tuple(issue for issue in found if not starts_with(issue.path, broken))
        broken = (*broken, *(issue.path for issue in found))
        removed = tuple(_widen(path) for path in broken)
        values = _leave_out(values, removed)
    return ValidationResult(Config(), issues, broken, ((),))


def validate_rules(config: Config, broken: tuple[KeyPath, ...] = ()) -> list[ConfigIssue]:
    """Check the rules over several keys, except those that involve a broken one."""
    return [
        issue
        for issue in check_rules(config)
        if not any(is_related(path, broken) for path in (issue.path, *issue.depends_on))
    ]


def validate_document(document: YamlDocument) -> ValidationResult:
    """Validate a document without overrides, key by key."""
    return _validate_file(ConfigTree.from_document(document, ""), document)


def read_source(name: str) -> ConfigSource:
    """Read the recipe of a name, or the file of a path if there is no such recipe.

    Raises:
        ConfigError: there is neither, or the file cannot be read.
    """
    is_path = name.endswith((".yaml", ".yml"))  # no recipe is called so
    if not is_path and name in list_recipe_names():
        return ConfigSource(name, f"recipe {name}", find_recipe(name).text.encode())
    if not name:
        _refuse("''", "an empty name", _suggest_source(name, list_recipe_names()))
    return read_yaml_file(name, "no such file or recipe", list_recipe_names)


def read_yaml_file(
    name: str, missing: str, list_names: Callable[[], Sequence[str]] = tuple
) -> ConfigSource:
    """Read a YAML file.

    Args:
        name: its path.
        missing: what the error says if there is no such file.
        list_names: returns the names that could have been meant instead.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with os.fdopen(open_named_file(Path(name), os.O_RDONLY), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        if _list_yaml_files(Path(name)):
            _refuse(name, "is a folder", "give the path of a YAML file in it")
        _refuse(name, *explain_folder(Path(name), "config"))
    except (FileNotFoundError, NotADirectoryError):
        key, is_assignment, value = name.partition("=")
        if is_assignment and (found := find_key(key.rpartition(".")[2])):
            _refuse(
                name, "keys of the config are given with --set", suggest_assignment(found, value)
            )
        _refuse(name, *explain_missing(name, missing, _suggest_source(name, list_names())))
    except OSError as error:
        _refuse(
            name,
            f"cannot be read: {error.strerror}",
            "give the path of a YAML file that can be read",
        )
    except ValueError:
        _refuse(
            format_value(name), "cannot be the name of a file", _suggest_source("", list_names())
        )
    if kind := explain_wrong_kind(data, "config", name):
        _refuse(name, *kind)
    return ConfigSource(name, name, data)


def read_document(source: ConfigSource) -> YamlDocument:
    """Parse the YAML of a config; an empty file means the defaults.

    Raises:
        ConfigError: it is not YAML, or no mapping.
    """
    document = parse_yaml(source.data, source.label)
    if document.value is not None and not isinstance(document.value, dict):
        _refuse_top_level(document, source.label)
    return document


@dataclass(frozen=True)
class _IssueLocator:
    """Finds the places of issues: where the file or a flag gives the keys that are invalid."""

    tree: ConfigTree

    def locate(self, issue: ConfigIssue) -> tuple[_SortKey, Problem]:
        """Return an issue with its place, and what it is sorted by.

        If a flag set one of the keys that an issue depends on, the flag is the place, since it was
        typed last. Otherwise it is the first of the keys that the file has.
        """
        if issue.mark is not None:
            key = (issue.mark.line, issue.mark.column)
            return key, issue.to_problem(f"{self.tree.label}:{issue.mark}")
        paths = (issue.path, *issue.depends_on)
        flag = next((flag for path in paths if (flag := self.tree.find_flag(path))), None)
        if flag is not None:
            hint = issue.hint if issue.flag_hint is None else issue.flag_hint
            if issue.literal:
                hint = self._write_flag(flag.flag, issue) or hint
            problem = replace(issue, hint=hint).to_problem(flag.flag)
            return (_AFTER_FILE, flag.position), problem
        return self._locate_in_file(issue)

    def _write_flag(self, flag: str, issue: ConfigIssue) -> str:
        """Return how to type a flag so that it sets what was probably meant; empty if unknown."""
        *path, last = issue.path
        key, literal, own = format_path(issue.path), issue.literal, KEYS_OF_FLAGS.get(flag)
        if flag == "--set" and isinstance(last, int):  # an entry is set with the whole list
            entries = self.tree.follow(tuple(path))[-1].to_plain()
            is_text = literal.startswith('"')
            texts = [entry if isinstance(entry, str) else format_value(entry) for entry in entries]
            shown = [f'"{text}"' if is_text else text for text in texts]
            shown[last] = literal
            key, literal = format_path(tuple(path)), f"[{', '.join(shown)}]"
        if flag == "--set":
            return f"write {quote_words(flag, f'{key}={literal}')}"
        if own is not None and key.startswith(f"{own}."):  # --hidden takes a list's entries
            return f"write {flag} {literal.replace(' ', '')}"
        return f"write {quote_words(flag, literal)}" if key == own else ""

    def join_issues(self, issues: Iterable[ConfigIssue]) -> Iterator[ConfigIssue]:
        """Join the issues of several keys that one flag causes."""
        groups: dict[object, list[ConfigIssue]] = {}
        for issue in issues:
            cause = self._find_cause(issue)
            group = id(issue) if cause is None else (cause, issue.joint_hint)
            groups.setdefault(group, []).append(issue)
        for group_issues in groups.values():
            first, cause = group_issues[0], self._find_cause(group_issues[0])
            if len(group_issues) == 1 or cause is None:
                yield first
                continue
            value = self.tree.follow(cause)[-1].value
            others = ", ".join(format_path(issue.path) for issue in group_issues)
            yield ConfigIssue(cause, f"{value} does not go with {others}", first.joint_hint or "")

    def _find_cause(self, issue: ConfigIssue) -> KeyPath | None:
        """Return the key, set by a flag, that breaks another key which no flag set."""
        if issue.joint_hint is None or self.tree.find_flag(issue.path) is not None:
            return None
        cause = issue.depends_on[0]
        return None if self.tree.find_flag(cause) is None else cause

    def _locate_in_file(self, issue: ConfigIssue) -> tuple[_SortKey, Problem]:
        source = self._find_file_source(issue)
        mark = None if source is None else source.key_mark if issue.is_key else source.mark
        where = f"{self.tree.label}:{mark}" if mark else self.tree.label
        key = (mark.line, mark.column) if mark else (_AFTER_FILE, -1)
        if not issue.is_key:
            issue = replace(issue, path=self._shorten(issue.path))
        return key, issue.to_problem(where)

    def _find_file_source(self, issue: ConfigIssue) -> FileSource | None:
        """Return the source of the first key that the file has, else that of a block around it."""
        for path in (issue.path, *issue.depends_on):
            source = self.tree.follow(path)[-1].source
            if isinstance(source, FileSource) and source.path == path:
                return source
        around = (node.source for node in reversed(self.tree.follow(issue.path)[1:]))
        return next((source for source in around if isinstance(source, FileSource)), None)

    def _shorten(self, path: KeyPath) -> KeyPath:
        """Name a key as the file does, which may have a short form for the block around it."""
        for node in self.tree.follow(path[:-1])[1:]:
            if isinstance(node.source, FileSource) and node.source.is_short:
                return node.source.path
        return path


def _validate_file(tree: ConfigTree, document: YamlDocument) -> ValidationResult:
    return validate(tree.root.to_plain(), tuple(issue.path for issue in document.issues))


def _widen(path: KeyPath) -> KeyPath:
    """Return the path to leave out for an invalid one: the whole list, or block of unknown kind."""
    for depth, part in enumerate(path):
        if isinstance(part, int):
            return path[:depth]
    parent = find_field(path[:-1])
    return path[:-1] if parent and parent.tag_key == path[-1] else path


def _leave_out(values: object, paths: Iterable[KeyPath]) -> object:
    """Return a copy of the values without some of the keys."""
    by_key: dict[str | int, list[KeyPath]] = {}
    for path in paths:
        if not path:
            return {}
        by_key.setdefault(path[0], []).append(path[1:])
    if not isinstance(values, dict):
        return values
    return {
        key: _leave_out(entry, by_key.get(key, ()))
        for key, entry in values.items()
        if () not in by_key.get(key, ())
    }


def _refuse_top_level(document: YamlDocument, label: str) -> NoReturn:
    place = f"{label}:{document.value_marks[()]}"
    what = "expected the blocks dataset, model and training at the top level"
    problems = [issue.to_problem(f"{label}:{issue.mark}") for issue in document.issues]
    raise ConfigError([*problems, Problem(place, what, "write key: value lines")])


def _refuse(name: str, what: str, hint: str) -> NoReturn:
    raise ConfigError([Problem(name, what, hint)])


def _suggest_source(name: str, recipes: Sequence[str]) -> str:
    """Suggest the recipe, or the file in the same folder, whose name is nearest."""
    folder = Path(name).parent
    by_name = {file: str(folder / file) for file in _list_yaml_files(folder)}
    by_name |= {recipe: recipe for recipe in recipes}
    if near := find_nearest(Path(name).name, by_name):
        return f"did you mean {by_name[near]}?"
    return "give a YAML file" + (f", or one of the recipes {', '.join(recipes)}" if recipes else "")


def _list_yaml_files(folder: Path) -> list[str]:
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry, _ in zip(entries, range(_MAX_NEIGHBOURS), strict=False):
                if entry.name.endswith((".yaml", ".yml")):
                    names.append(entry.name)
    except OSError:
        return []
    return sorted(names)
