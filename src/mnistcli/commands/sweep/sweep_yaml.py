"""A sweep's YAML file becomes a `Sweep`: every key and value is checked before anything runs.

What is wrong with a sweep's file, each with its place, collected until all is known.

Tries every searched value on the config by itself; combinations are the trials' matter.

What stands below `search` becomes dimensions: lists of choices and ranges of numbers.
"""

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
    Choice,
    ChoiceDimension,
    Dimension,
    NumberDimension,
    Range,
    Sweep,
    SweepFile,
)
from mnistcli.config.field_info import Slot, find_slot, split_key, write_out
from mnistcli.config.loading import (
    ConfigSource,
    read_document,
    read_source,
    read_yaml_file,
    resolve_document,
    validate,
    validate_document,
)
from mnistcli.config.messages import explain_errors, list_kinds
from mnistcli.config.overrides import Override, apply_overrides
from mnistcli.config.recipes import list_recipe_names
from mnistcli.config.schema import Config, StrictModel
from mnistcli.config.validation_errors import Fault, KeyPath, is_related, to_problem
from mnistcli.config.yaml_reader import Mark, YamlDocument, parse_yaml
from mnistcli.errors import ConfigError, Problem

SEARCH = "search"
SET = "set"
_START = Mark(1, 1)
_Model = TypeVar("_Model", bound=StrictModel)


@dataclass
class Problems:
    """Collects what is wrong with one file.

    Attributes:
        label: what messages call the file.
        document: what it says.
    """

    label: str
    document: YamlDocument
    _found: list[tuple[Mark, Problem]] = field(default_factory=list)

    def list(self) -> list[Problem]:
        """Return all problems in the order of the file."""
        return [problem for _, problem in sorted(self._found, key=lambda pair: pair[0])]

    def add(self, path: KeyPath, what: str, hint: str = "", *, is_key: bool = False) -> None:
        """Keep a problem.

        Args:
            path: in the file; the message names the config's own key below `search` and `set`.
            what: the mistake.
            hint: the way out.
            is_key: the key itself is the mistake, rather than its value.
        """
        self.add_about(path, _name(path), what, hint, is_key=is_key)

    def add_about(
        self, path: KeyPath, name: KeyPath, what: str, hint: str, *, is_key: bool
    ) -> None:
        """Keep a problem under another name than its path."""
        mark = self.document.find_mark(path, is_key=is_key) or _START
        self._found.append((mark, to_problem(what, hint, f"{self.label}:{mark}", name)))

    def add_all(self, path: KeyPath, problems: Iterable[Problem]) -> None:
        """Keep problems that have places of their own, at a key's place in the order."""
        mark = self.document.find_mark(path, is_key=True) or _START
        self._found += [(mark, problem) for problem in problems]

    def locate(self, path: KeyPath) -> str:
        """Say where a key stands: `sweep.yaml:4:3`."""
        return f"{self.label}:{self.document.find_mark(path, is_key=True) or _START}"

    def validate(self, model: type[_Model], value: object, path: KeyPath) -> _Model | None:
        """Check a mapping; null where it is wrong, and without what is wrong not complete."""
        if not isinstance(value, dict):
            keys = ", ".join(model.model_fields)
            what = f"expected a mapping with keys among {keys}"
            self.add(path, what, "write key: value lines")
            return None
        try:
            return model.model_validate(value)
        except ValidationError as error:
            faults = explain_errors(error, Slot(model))
        told = [fault.path for fault in self.document.faults]
        for fault in faults:
            at = (*path, *fault.path)
            if not is_related(at, told):
                self.add(at, fault.what, fault.hint, is_key=fault.is_key)
        wrong = {fault.path[0] for fault in faults}
        left = {key: entry for key, entry in value.items() if key not in wrong}
        try:
            return model.model_validate(left)
        except ValidationError:
            return None

    def tell_yaml(self) -> None:
        """Keep what is wrong with the YAML itself."""
        self._found += [(f.mark, f.place_in(self.label)) for f in self.document.faults]


def _name(path: KeyPath) -> KeyPath:
    """Below `search` and `set` the config's key says it all."""
    if len(path) > 1 and path[0] in (SEARCH, SET):
        return (*split_key(str(path[1])), *path[2:])
    return path


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


def load_sweep(path: str) -> Sweep:
    """Load a sweep's file.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; all problems at once, in the
            order of the file.
    """
    source = read_yaml_file(path, "no such file")
    problems = Problems(source.label, parse_yaml(source.data, source.label))
    problems.tell_yaml()
    file = problems.validate(SweepFile, problems.document.value, ())
    sweep = None if file is None else _resolve(file, Path(path).parent, problems)
    if (found := problems.list()) or sweep is None:
        raise ConfigError(found)
    return sweep


def _resolve(file: SweepFile, folder: Path, problems: Problems) -> Sweep | None:
    """Check what the parts of a file have to do with each other and with the config."""
    places = {key: problems.locate((SET, key)) for key in file.set}
    fixed = [Override(key, value, places[key]) for key, value in file.set.items()]
    try:
        source, document = _read_config(file, folder, problems)
    except ConfigError as error:
        problems.add_all(("config",), error.problems)
        return None
    base = validate_document(document).config
    try:
        config = resolve_document(source.name, source.label, document, fixed).config
    except ConfigError as error:
        problems.add_all(("config",), error.problems)
        fixed = []  # what is wrong with them is known
    else:
        if VALIDATION not in file.search:
            _check_objective(file, config, problems)
    search = tuple(read_search(file.search, problems))
    Probe(base, fixed, search, problems).check()
    trials = _count_trials(file, search, problems)
    if problems.list():
        return None
    parts = {name: getattr(file, name) for name in ("sampler", "pruner", "objective", "seed")}
    return Sweep(base=base, fixed=file.set, search=search, trials=trials, **parts)


def _read_config(
    file: SweepFile, folder: Path, problems: Problems
) -> tuple[ConfigSource, YamlDocument]:
    """Find the config: in the file itself, a recipe, or a file that lies beside the sweep's."""
    if isinstance(file.config, dict):
        label = problems.label
        return ConfigSource(label, label, b""), problems.document.cut(("config",))
    is_recipe = file.config in list_recipe_names()
    source = read_source(file.config if is_recipe else str(folder / file.config))
    return source, read_document(source)


def _check_objective(file: SweepFile, config: Config, problems: Problems) -> None:
    """What chooses must not be what is reported at the end."""
    held_out = config.dataset.validation
    if held_out not in (0.0, "test"):
        return
    why = "is 0" if held_out == 0 else "is the test set, which must not choose"
    what = f"{file.objective} needs a validation set of its own, {VALIDATION} {why}"
    hint = f"add it: set: {{{VALIDATION}: 0.1}}"
    key = "objective" if problems.document.is_written(("objective",)) else "config"
    problems.add_about((key,), ("objective",), what, hint, is_key=True)


def _count_trials(file: SweepFile, search: Sequence[Dimension], problems: Problems) -> int:
    """Return how many trials there are; a grid has a number of its own."""
    if file.sampler != "grid":
        if file.trials is None:
            what, hint = f"missing: {file.sampler} does not end by itself", "add trials: 20, say"
            problems.add_about(("sampler",), ("trials",), what, hint, is_key=True)
        return file.trials or 1
    points = [dimension.list_points() for dimension in search]
    for dimension, values in zip(search, points, strict=True):
        if values is None:
            what, hint = "a grid cannot count this range", "give it a step, or a list of choices"
            problems.add((SEARCH, dimension.key), what, hint, is_key=True)
    count = math.prod(len(values) for values in points if values is not None)
    if count > MAX_TRIALS:
        what = f"a grid of {count} combinations, more than {MAX_TRIALS}"
        problems.add(("sampler",), what, "use random or tpe")
    if file.trials is not None:
        hint = f"remove it: grid tries every combination, and these are {count}"
        problems.add(("trials",), "grid has a number of its own", hint, is_key=True)
    return min(max(count, 1), MAX_TRIALS)
