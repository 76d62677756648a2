"""The recipes that come with the tool: published experiments, one YAML file each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnistcli.config.figures import Figures, parse_figures
from mnistcli.config.validation_errors import find_nearest
from mnistcli.errors import UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEFAULT_RECIPE = "mnist-softmax"
_SUFFIX = ".yaml"


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
            ValueError: a part of it is missing or written otherwise than in other recipes.
        """
        return parse_figures(self.header)


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
