"""What TAB offers for flags' values and arguments, made from the config's models and from files.

Typer asks these functions for all that a word can become; they are named in the declarations of
the commands, beside the help. Nothing heavy is imported unless the word at hand needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

Completion = tuple[str, str]
"""A word, and its meaning, which may be empty."""

_YAML_SUFFIXES = (".yaml", ".yml")
_CHECKPOINT_SUFFIXES = (".h5", ".hdf5", ".keras")


def offer(words: Sequence[str]) -> Callable[[], list[str]]:
    """Return a completion that offers certain words."""
    return lambda: list(words)


def complete_recipe() -> list[Completion]:
    """Offer the recipes' names."""
    from mnistcli.config.recipes import list_recipes

    return [(recipe.name, recipe.about) for recipe in list_recipes()]


def complete_config(incomplete: str) -> list[Completion]:
    """Offer the recipes' names and YAML files."""
    return [*complete_recipe(), *complete_yaml(incomplete)]


def complete_yaml(incomplete: str) -> list[Completion]:
    """Offer YAML files."""
    return _list_paths(incomplete, has_yaml_name)


def complete_checkpoint(incomplete: str) -> list[Completion]:
    """Offer checkpoints."""
    return _list_paths(incomplete, has_checkpoint_name)


def complete_source(incomplete: str) -> list[Completion]:
    """Offer checkpoints, recipes and YAML files."""
    files = _list_paths(incomplete, lambda name: has_checkpoint_name(name) or has_yaml_name(name))
    return [*complete_recipe(), *files]


def complete_reproducible(incomplete: str) -> list[Completion]:
    """Offer checkpoints and recipes."""
    return [*complete_recipe(), *complete_checkpoint(incomplete)]


def complete_image(incomplete: str) -> list[Completion]:
    """Offer images, of the kinds that can be read, and arrays of them."""
    from mnistcli.images.decoding import IMAGE_NAME

    return _list_paths(
        incomplete, lambda name: IMAGE_NAME.search(name) or name.lower().endswith(".npy")
    )


def complete_directory(incomplete: str) -> list[Completion]:
    """Offer folders."""
    return _list_paths(incomplete, lambda _: False)


def complete_own_data(incomplete: str) -> list[Completion]:
    """Offer folders and archives of arrays."""
    return _list_paths(incomplete, lambda name: name.lower().endswith(".npz"))


def complete_column() -> list[str]:
    """Offer the columns that every table of `ls` has."""
    from mnistcli.output.csv_rows import ListRow

    return list(ListRow.list_columns())


def complete_gate() -> list[str]:
    """Offer what `--fail-under` begins with."""
    from mnistcli.commands.fail_under import HIGHEST

    return [f"{metric}=" for metric in HIGHEST]


def complete_assignment(incomplete: str) -> list[Completion]:
    """Offer a config's dotted keys, and behind `=` the words that a key accepts."""
    from mnistcli.config.candidates import list_assignments

    return [(candidate.text, candidate.meaning) for candidate in list_assignments(incomplete)]


def has_checkpoint_name(path: str) -> bool:
    """Tell whether a path is named like a checkpoint, ours or another of Keras'."""
    return Path(path).suffix.lower() in _CHECKPOINT_SUFFIXES


def has_yaml_name(path: str) -> bool:
    """Configs may be called otherwise, but those are not offered."""
    return Path(path).suffix.lower() in _YAML_SUFFIXES


def _list_paths(typed: str, fits: Callable[[str], object]) -> list[Completion]:
    """Return folders, and files of fitting names, as the typed path goes on."""
    beginning, slash, name = typed.rpartition("/")
    folder = beginning + slash
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:  # noqa: PTH111
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError:  # nothing is there to offer
        return []
    return [
        (f"{folder}{entry}/" if is_directory else f"{folder}{entry}", "")
        for entry, is_directory in found
        if (is_directory or fits(entry))
        and entry.startswith(name)
        and (name or not entry.startswith("."))
        and entry.isprintable()
    ]
