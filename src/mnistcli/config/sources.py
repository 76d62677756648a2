"""Where a config's text comes from: a file, or a recipe by its name."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mnistcli.config.recipes import find_recipe, list_recipe_names
from mnistcli.config.validation_errors import find_nearest, format_value
from mnistcli.config.yaml_document import MAX_BYTES
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
