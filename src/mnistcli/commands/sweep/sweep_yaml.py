"""Load a sweep's YAML file and report everything that is wrong with it at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mnistcli.commands.sweep.definition import (
    MAX_TRIALS,
    CategoricalDimension,
    ChoiceSpec,
    Dimension,
    NumericDimension,
    RangeSpec,
    Sweep,
    SweepFile,
)
from mnistcli.config.field_info import FieldInfo, find_field, split_key
from mnistcli.config.loading import (
    ConfigSource,
    read_document,
    read_source,
    read_yaml_file,
    resolve_document,
    validate,
    validate_document,
)
from mnistcli.config.messages import explain_errors, list_accepted
from mnistcli.config.overrides import ConfigTree, Override, merge_overrides
from mnistcli.config.recipes import list_recipe_names
from mnistcli.config.schema import Config, StrictModel
from mnistcli.config.validation_errors import ConfigIssue, KeyPath, Mark, is_related
from mnistcli.config.yaml_reader import YamlDocument, parse_yaml
from mnistcli.errors import ConfigError, Problem

SEARCH = "search"
SET = "set"
VALIDATION = "dataset.validation"
_START = Mark(1, 1)
_MAX_COMBINATIONS = 64  # of the searched kinds of blocks, that a value is validated with
_RANGE_SYNONYMS = {
    **dict.fromkeys(("min", "minimum", "from", "start", "lower"), "low"),
    **dict.fromkeys(("max", "maximum", "to", "end", "stop", "upper"), "high"),
}
_SEARCH_HINT = "write [a, b, c] or {low: 0.1, high: 1}"

_Model = TypeVar("_Model", bound=StrictModel)


@dataclass
class SweepIssues:
    """Collect the issues of one sweep file.

    Attributes:
        label: the file's name in messages.
        document: the parsed file.
    """

    label: str
    document: YamlDocument
    _found: list[tuple[Mark, Problem]] = field(default_factory=list)

    def list(self) -> list[Problem]:
        """Return all issues in the order of the file."""
        return [problem for _, problem in sorted(self._found, key=lambda pair: pair[0])]

    def add(self, path: KeyPath, what: str, hint: str = "", *, is_key: bool = False) -> None:
        """Add an issue; below `search` and `set` it is named after the config's own key.

        Args:
            path: in the sweep file.
            what: the mistake.
            hint: what to do about it.
            is_key: the key is wrong rather than its value.
        """
        self.add_for(path, _name_key(path), what, hint, is_key=is_key)

    def add_for(self, path: KeyPath, name: KeyPath, what: str, hint: str, *, is_key: bool) -> None:
        """Add an issue at a path of the file for a key with another name."""
        mark = self.document.find_mark(path, is_key=is_key) or _START
        problem = ConfigIssue(name, what, hint).to_problem(f"{self.label}:{mark}")
        self._found.append((mark, problem))

    def add_located(self, path: KeyPath, problems: Iterable[Problem]) -> None:
        """Add issues of another file, sorted in at a key of this one."""
        mark = self.document.find_mark(path, is_key=True) or _START
        self._found += [(mark, problem) for problem in problems]

    def add_yaml_errors(self) -> None:
        """Add the errors of the YAML itself."""
        for issue in self.document.issues:
            mark = issue.mark or _START
            self._found.append((mark, issue.to_problem(f"{self.label}:{mark}")))

    def locate(self, path: KeyPath) -> str:
        """Return the location of a key: `sweep.yaml:4:3`."""
        return f"{self.label}:{self.document.find_mark(path, is_key=True) or _START}"

    def validate(self, model: type[_Model], value: object, path: KeyPath) -> _Model | None:
        """Validate a mapping and add what is wrong with it.

        Returns:
            The model without its invalid entries; None if these are required.
        """
        if not isinstance(value, dict):
            keys = ", ".join(model.model_fields)
            what = f"expected a mapping with keys among {keys}"
            self.add(path, what, "write key: value lines")
            return None
        try:
            return model.model_validate(value)
        except ValidationError as error:
            issues = explain_errors(error, FieldInfo(model))
        known = [issue.path for issue in self.document.issues]
        for issue in issues:
            at = (*path, *issue.path)
            if not is_related(at, known):
                self.add(at, issue.what, issue.hint, is_key=issue.is_key)
        invalid = {issue.path[0] for issue in issues}
        valid = {key: entry for key, entry in value.items() if key not in invalid}
        try:
            return model.model_validate(valid)
        except ValidationError:
            return None


def load_sweep(path: str) -> Sweep:
    """Load and validate a sweep's YAML file.

    Raises:
        ConfigError: it cannot be read or is invalid; lists all issues in the order of the file.
    """
    source = read_yaml_file(path, "no such file")
    issues = SweepIssues(source.label, parse_yaml(source.data, source.label))
    _refuse_config(source, issues.document)
    issues.add_yaml_errors()
    file = issues.validate(SweepFile, issues.document.value, ())
    sweep = None if file is None else _resolve(file, Path(path).parent, issues)
    if (found := issues.list()) or sweep is None:
        raise ConfigError(found)
    return sweep


def _refuse_config(source: ConfigSource, document: YamlDocument) -> None:
    """Refuse a config in place of a sweep's file; ConfigError."""
    keys = set(document.value) if isinstance(document.value, dict) else set()
    if keys & set(Config.model_fields) and not keys & {SEARCH, "config"}:
        hint = f"name it in a sweep's file: config: {source.name}, and search: …"
        raise ConfigError([Problem(source.label, "is a config, not a sweep", hint)])


def _resolve(file: SweepFile, folder: Path, issues: SweepIssues) -> Sweep | None:
    """Validate the parts of a file against each other and against the config."""
    locations = {key: issues.locate((SET, key)) for key in file.set}
    fixed = [Override(key, value, locations[key]) for key, value in file.set.items()]
    try:
        source, document = _read_config(file, folder, issues)
    except ConfigError as error:
        issues.add_located(("config",), error.problems)
        return None
    base = validate_document(document).config
    try:
        config = resolve_document(source.name, source.label, document, fixed).config
    except ConfigError as error:
        issues.add_located(("config",), error.problems)
        fixed = []  # their issues have been added
    else:
        if VALIDATION not in file.search:
            _check_objective(file, config, issues)
    search = tuple(_parse_search(file.search, issues))
    _ValueValidator(base, fixed, search, issues).run()
    trials = _count_trials(file, search, issues)
    if issues.list():
        return None
    return Sweep(
        base=base,
        fixed=file.set,
        search=search,
        sampler=file.sampler,
        pruner=file.pruner,
        trials=trials,
        objective=file.objective,
        seed=file.seed,
    )


def _read_config(
    file: SweepFile, folder: Path, issues: SweepIssues
) -> tuple[ConfigSource, YamlDocument]:
    """Read the config from the sweep file itself, a recipe, or a file in the same folder."""
    if isinstance(file.config, dict):
        label = issues.label
        return ConfigSource(label, label, b""), issues.document.cut(("config",))
    is_recipe = file.config in list_recipe_names()
    source = read_source(file.config if is_recipe else str(folder / file.config))
    return source, read_document(source)


def _check_objective(file: SweepFile, config: Config, issues: SweepIssues) -> None:
    """Require a validation set: the test set must not choose the best trial."""
    held_out = config.dataset.validation
    if held_out not in (0.0, "test"):
        return
    why = "is 0" if held_out == 0 else "is the test set, which must not choose"
    what = f"{file.objective} needs a validation set of its own, {VALIDATION} {why}"
    hint = f"add it: set: {{{VALIDATION}: 0.1}}"
    key = "objective" if issues.document.is_written(("objective",)) else "config"
    issues.add_for((key,), ("objective",), what, hint, is_key=True)


def _count_trials(file: SweepFile, search: Sequence[Dimension], issues: SweepIssues) -> int:
    """Return the number of trials: the file's, for a grid the number of combinations."""
    if file.sampler != "grid":
        value = issues.document.value
        if isinstance(value, dict) and value.get("trials") is None:  # or wrong, with an issue
            what, hint = f"missing: {file.sampler} does not end by itself", "add trials: 20"
            issues.add_for(("sampler",), ("trials",), what, hint, is_key=True)
        return file.trials or 1
    points = [dimension.list_points() for dimension in search]
    for dimension, values in zip(search, points, strict=True):
        if values is None:
            what, hint = "a grid cannot count this range", "give it a step, or a list of choices"
            issues.add((SEARCH, dimension.key), what, hint, is_key=True)
    count = math.prod(len(values) for values in points if values is not None)
    if count > MAX_TRIALS:
        what = f"a grid of {count} combinations, more than {MAX_TRIALS}"
        issues.add(("sampler",), what, "use random or tpe")
    if file.trials is not None:
        hint = f"remove it: grid tries every combination, and these are {count}"
        issues.add(("trials",), "grid has a number of its own", hint, is_key=True)
    return min(max(count, 1), MAX_TRIALS)


def _parse_search(search: dict[str, Any], issues: SweepIssues) -> Iterator[Dimension]:
    """Yield the searched keys without the invalid ones."""
    if not search:
        hint = "name keys of the config, for example training.batch_size: [32, 64]"
        issues.add((SEARCH,), "there is nothing to search", hint, is_key=True)
    for key, value in search.items():
        dimension = _parse_dimension(key, value, (SEARCH, key), issues)
        if dimension is not None:
            yield dimension


def _parse_dimension(
    key: str, value: object, path: KeyPath, issues: SweepIssues
) -> Dimension | None:
    """Parse a list of choices, a mapping with such a list, or a range."""
    if isinstance(value, list):
        return _parse_choices(key, value, path, issues)
    if not isinstance(value, dict):
        issues.add(path, "expected a list of choices, or a range", _SEARCH_HINT)
        return None
    if "choice" in value:
        spec = issues.validate(ChoiceSpec, value, path)
        if spec is None:
            return None
        return _parse_choices(key, spec.choice, (*path, "choice"), issues)
    synonyms = [(word, _RANGE_SYNONYMS[word]) for word in value if word in _RANGE_SYNONYMS]
    for word, name in synonyms:
        issues.add((*path, word), "unknown key", f"did you mean {name}?", is_key=True)
    if synonyms:
        return None
    given = issues.validate(RangeSpec, value, path)
    return None if given is None else _parse_range(key, given, path, issues)


def _parse_choices(
    key: str, values: list[Any], path: KeyPath, issues: SweepIssues
) -> CategoricalDimension | None:
    if not values:
        issues.add(path, "an empty list", "give it a value")
        return None
    try:
        dimension = CategoricalDimension(key=key, values=tuple(values))
    except ValidationError:
        issues.add(path, "a number that is not finite", "write another")
        return None
    choices = dimension.choices
    for index, choice in enumerate(choices):
        if choice in choices[:index]:  # Optuna could not tell their trials apart
            what = f"{choice} equals an earlier choice"
            hint = "remove one of them"
            issues.add_for((*path, index), split_key(key), what, hint, is_key=False)
            return None
    return dimension


def _parse_range(
    key: str, given: RangeSpec, path: KeyPath, issues: SweepIssues
) -> NumericDimension | None:
    info = find_field(split_key(key))
    kinds = list_accepted(info)[0] & {int, float} if info else {float}
    what, hint = _find_range_mistake(given)
    if not kinds:
        what, hint = "it takes no numbers", "give a list of choices"
    numbers = [given.low, given.high, *([] if given.step is None else [given.step])]
    if kinds == {int} and not what and not all(isinstance(n, int) for n in numbers):
        what, hint = "it takes whole numbers", "write low, high and step without a point"
    if what:
        issues.add(path, what, hint, is_key=True)
        return None
    kind = "int" if kinds == {int} else "float"
    return NumericDimension.model_validate({"kind": kind, "key": key, **given.model_dump()})


def _find_range_mistake(given: RangeSpec) -> tuple[str, str]:
    """Return what is wrong with a range and the hint, two empty strings if it is valid."""
    if given.low >= given.high:
        return f"low {given.low:g} is not below high {given.high:g}", "exchange them"
    if given.log and given.low <= 0:
        return f"low {given.low:g} has no logarithm", "begin above 0, or leave log out"
    if given.log and given.step is not None:
        return "a logarithmic range has no step", "remove log or step"
    if given.step is not None and given.step > given.high - given.low:
        return f"step {given.step:g} leads beyond high {given.high:g}", "make it smaller"
    return "", ""


@dataclass(frozen=True)
class _ValueValidator:
    """Validate every searched value in the base config, one key at a time.

    Combinations of values are validated trial by trial.

    Attributes:
        base: a valid config.
        fixed: what is the same in all trials.
        search: the searched keys.
        issues: receives unknown keys and invalid values.
    """

    base: Config
    fixed: Sequence[Override]
    search: Sequence[Dimension]
    issues: SweepIssues

    def run(self) -> None:
        """Validate all values."""
        for dimension in self.search:
            known: list[str] = []
            for path, value in _list_values(dimension, self.issues):
                for issue in self._find_issues(dimension.key, value):
                    if issue.what not in known:  # an unknown key is one for all of its values
                        known.append(issue.what)
                        self._add(issue, path)
                if dimension.key == VALIDATION and value in (0, "test"):
                    what = "the objective needs a validation set of its own"
                    hint, name = "give fractions above 0", split_key(VALIDATION)
                    self.issues.add_for(path, name, what, hint, is_key=False)

    def _add(self, issue: ConfigIssue, path: KeyPath) -> None:
        """Add an issue with the hint for a dotted key."""
        hint = issue.hint if issue.flag_hint is None else issue.flag_hint
        at = path[:2] if issue.is_key else path
        self.issues.add_for(at, issue.path, issue.what, hint, is_key=issue.is_key)

    def _find_issues(self, key: str, value: object) -> list[ConfigIssue]:
        """Return what is wrong with a value, nothing if it fits any of the searched kinds."""
        own = Override(key, value, self.issues.locate((SEARCH, key)))
        first: list[ConfigIssue] | None = None
        for others in itertools.islice(self._combine_kinds(key), _MAX_COMBINATIONS):
            tree = ConfigTree.from_config(self.base)
            merged = merge_overrides(tree, [*self.fixed, *others, own])
            issues = [
                ConfigIssue((), problem.what, problem.hint, is_key=True)
                for problem in merged.problems
            ]
            if not issues:
                final = validate(tree.root.to_plain())
                issues = [i for i in final.issues if is_related(i.path, [split_key(key)])]
            if not issues:
                return []
            first = issues if first is None else first
        return first or []

    def _combine_kinds(self, key: str) -> Iterator[list[Override]]:
        """Yield the combinations of the other searched kinds: optimizers, models."""
        varied = [
            [Override(d.key, value, d.key) for value in d.values if _is_kind(d.key, value)]
            for d in self.search
            if isinstance(d, CategoricalDimension) and d.key != key
        ]
        yield from map(list, itertools.product(*filter(None, varied)))


def _is_kind(key: str, value: object) -> bool:
    """Return whether a value selects a union's model: `optimizer: adam`, `model.type: mlp`."""
    path = split_key(key)
    info, parent = find_field(path), find_field(path[:-1])
    if info is not None and info.tag_key:
        block = info.expand_shorthand(value)
        return isinstance(block, dict) and block.get(info.tag_key) in info.tags
    return parent is not None and parent.tag_key == path[-1] and value in parent.tags


def _list_values(dimension: Dimension, issues: SweepIssues) -> Iterator[tuple[KeyPath, object]]:
    """Yield the values to validate with their paths in the file: choices, or a range's ends."""
    path: KeyPath = (SEARCH, dimension.key)
    if isinstance(dimension, NumericDimension):
        for key in ("low", "high"):
            number = getattr(dimension, key)
            yield (*path, key), number if dimension.kind == "int" else float(number)
        return
    at = (*path, "choice") if issues.document.is_written((*path, "choice")) else path
    yield from (((*at, index), value) for index, value in enumerate(dimension.values))


def _name_key(path: KeyPath) -> KeyPath:
    """Drop `search` and `set` from the name of a config's key."""
    if len(path) > 1 and path[0] in (SEARCH, SET):
        return (*split_key(str(path[1])), *path[2:])
    return path
