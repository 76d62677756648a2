"""A sweep's YAML file becomes a `Sweep`: every key and value is checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from mnistcli.commands.sweep.definition import MAX_TRIALS, Dimension, Sweep, SweepFile
from mnistcli.commands.sweep.sweep_probe import VALIDATION, Probe
from mnistcli.commands.sweep.sweep_problems import SEARCH, SET, Problems
from mnistcli.commands.sweep.sweep_search import read_search
from mnistcli.config.loading import read_document, resolve_document, validate_document
from mnistcli.config.overrides import Override
from mnistcli.config.recipes import list_recipe_names
from mnistcli.config.schema import Config
from mnistcli.config.sources import ConfigSource, read_source, read_yaml_file
from mnistcli.config.yaml_document import YamlDocument
from mnistcli.config.yaml_reader import parse_yaml
from mnistcli.errors import ConfigError


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
