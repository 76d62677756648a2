"""The recipes that come with the tool: published experiments, one YAML file each.

A recipe's figures stand in its header and nowhere else, in lines that begin alike:

    # Published: test accuracy 0.9027, loss 0.3645; …         (or: no figure)
    # Measured:  test accuracy 0.9013, 0.9015 (seeds 0, 1), …
    # Time:      0.031 s a warm epoch …
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnistcli.config.faults import find_nearest
from mnistcli.errors import UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEFAULT_RECIPE = "mnist-softmax"
_SUFFIX = ".yaml"
_PUBLISHED = re.compile(r"Published: test accuracy ([\d.]+)")
_MEASURED = re.compile(r"Measured:  test accuracy ([\d., ]+) \(seeds ([\d, ]+)\)")
_TIME = re.compile(r"Time:      ([\d.]+) s a warm epoch")


@dataclass(frozen=True)
class Figures:
    """What a recipe's header says of its results.

    Attributes:
        published: the test accuracy that its author printed; null for none.
        measured: the test accuracy here, by seed.
        epoch_s: seconds that a warm epoch took here.
    """

    published: float | None
    measured: dict[int, float]
    epoch_s: float


@dataclass(frozen=True)
class Recipe:
    """A config that is shipped with the tool.

    Attributes:
        name: what `mnistcli train` takes, `mnist-softmax` for example.
        text: the YAML file, as UTF-8 text.
        header: its first comment lines, without `#` and the space after it.
    """

    name: str
    text: str
    header: tuple[str, ...]

    @property
    def about(self) -> str:
        """The header's first sentence: what is trained on what."""
        return " ".join(self.header[: self.header.index("")]).partition(". ")[0].removesuffix(".")

    def read_figures(self) -> Figures:
        """Read the figures off the header.

        Raises:
            ValueError: a line of it is missing, or begins otherwise than the others' do.
        """
        text = "\n".join(self.header)
        published, measured = _PUBLISHED.search(text), _MEASURED.search(text)
        time = _TIME.search(text)
        if measured is None or time is None:
            raise ValueError(f"the header of recipe {self.name} lacks a figure")
        accuracies = map(float, measured[1].split(", "))
        seeds = map(int, measured[2].split(", "))
        return Figures(
            published=None if published is None else float(published[1]),
            measured=dict(zip(seeds, accuracies, strict=True)),
            epoch_s=float(time[1]),
        )


def list_recipes() -> tuple[Recipe, ...]:
    """Return every recipe, the default one first, then by name."""
    return tuple(_read_recipe(name) for name in list_recipe_names())


def list_recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes, the default one first."""
    files = (entry.name for entry in _folder().iterdir())
    names = [name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)]
    return tuple(sorted(names, key=lambda name: (name != DEFAULT_RECIPE, name)))


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        UsageError: there is none.
    """
    names = list_recipe_names()
    if name in names:
        return _read_recipe(name)
    near = find_nearest(name, names)
    hint = f"did you mean {near}?" if near else f"the recipes are {', '.join(names)}"
    raise UsageError(name, "no such recipe", hint)


def _folder() -> Traversable:
    """Importing importlib.resources costs more than reading the folder."""
    from importlib.resources import files

    return files("mnistcli").joinpath("recipes")


def _read_recipe(name: str) -> Recipe:
    """The header ends at the first line that is no comment."""
    text = _folder().joinpath(name + _SUFFIX).read_text(encoding="utf-8")
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        header.append(line.removeprefix("#").strip())
    return Recipe(name, text, tuple(header))
