"""YAML, flags and defaults become one frozen `Config`.

The names below are imported when they are first used: `--help` must not wait for pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistcli.config.loading import LoadedConfig, load_config
    from mnistcli.config.overrides import Override, parse_assignment
    from mnistcli.config.recipes import DEFAULT_RECIPE, Recipe, find_recipe, list_recipes
    from mnistcli.config.schema import Config
    from mnistcli.config.serialization import config_from_json, config_to_json, dump_config

__all__ = [
    "DEFAULT_RECIPE",
    "Config",
    "LoadedConfig",
    "Override",
    "Recipe",
    "config_from_json",
    "config_to_json",
    "dump_config",
    "find_recipe",
    "list_recipes",
    "load_config",
    "parse_assignment",
]

_ROOMS = {
    "DEFAULT_RECIPE": "recipes",
    "Config": "schema",
    "LoadedConfig": "loading",
    "Override": "overrides",
    "Recipe": "recipes",
    "config_from_json": "serialization",
    "config_to_json": "serialization",
    "dump_config": "serialization",
    "find_recipe": "recipes",
    "list_recipes": "recipes",
    "load_config": "loading",
    "parse_assignment": "overrides",
}


def __getattr__(name: str) -> object:
    """Import the module that defines a public name, once it is asked for."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value
