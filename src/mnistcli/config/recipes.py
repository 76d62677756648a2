"""The recipes that come with the tool: published experiments, one YAML file each.

A recipe's figures: what its author printed and what it gave here, read off its header. They stand
there as a table and nowhere else; a dash where nothing was published: # figure published seed 0
seed 1 … # epoch 1 loss 2.0527 2.0411 2.0734 … # test accuracy - 0.9013 0.9015 … A name says how
to get the figure: `epoch N METRIC` is of the training itself, `test METRIC` and `train METRIC`
are evaluated on that split afterwards, `then test METRIC` after training as long again from those
weights, with a fresh optimizer. `first N wrong` counts mistakes among the first test images,
`image I as K` is the probability of class K for one of them; both after the last training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mnistcli.config.validation_errors import find_nearest
from mnistcli.errors import UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


Verdict = Literal["as published", "as measured", "differs"]
TEST_ACCURACY = "test accuracy"
_GAP = re.compile(r"\s{2,}")
_NONE = "-"


@dataclass(frozen=True)
class Tolerance:
    """Bounds within which a figure is taken for the same."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Tell whether a value lies within; what is no number never does."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Figure:
    """One figure of a recipe.

    Attributes:
        name: as the table has it.
        published: what the author printed; null for none.
        measured: what it gave here, one value a seed.
        digits: behind the point, as it is printed.
    """

    name: str
    published: float | None
    measured: tuple[float, ...]
    digits: int

    @property
    def tolerance(self) -> Tolerance:
        """The range over the seeds, widened by its own width at both ends, and by rounding."""
        low, high = min(self.measured), max(self.measured)
        reach = high - low + 0.51 * 10.0**-self.digits
        return Tolerance(low - reach, high + reach)

    def judge(self, now: float) -> Verdict:
        """Compare a new value with the old ones; a published one counts if it is as near."""
        tolerance = self.tolerance
        if not tolerance.holds(now):
            return "differs"
        is_near = self.published is not None and tolerance.holds(self.published)
        return "as published" if is_near else "as measured"


@dataclass(frozen=True)
class Figures:
    """All that a recipe's header says of its results.

    Attributes:
        rows: in the order of the table.
        seeds: those of each figure's measured values.
        epoch_s: seconds that a warm epoch took here.
        measured_on: which data, where they were not the published ones; empty otherwise.
    """

    rows: tuple[Figure, ...]
    seeds: tuple[int, ...]
    epoch_s: float
    measured_on: str

    @property
    def test_accuracy(self) -> Figure:
        """The figure that every recipe has."""
        return next(row for row in self.rows if row.name == TEST_ACCURACY)


def parse_figures(header: Sequence[str]) -> Figures:
    """Read the figures off a header.

    Args:
        header: its lines without `#` and the space behind it.

    Raises:
        ValueError: a part of it is missing or written otherwise than in other recipes.
    """
    text = "\n".join(header)
    time = re.search(r"^Time:      ([\d.]+) s a warm epoch", text, re.MULTILINE)
    data = re.search(r"^Data:      measured on (.+)$", text, re.MULTILINE)
    first = next((n for n, line in enumerate(header) if line.startswith("figure ")), None)
    if time is None or first is None:
        raise ValueError("the time or the table of figures is missing")
    _, _, *seeds = _GAP.split(header[first])
    rows = tuple(_parse_row(line) for line in header[first + 1 :])
    if any(len(row.measured) != len(seeds) for row in rows):
        raise ValueError("a figure has not one value a seed")
    return Figures(
        rows=rows,
        seeds=tuple(int(seed.removeprefix("seed ")) for seed in seeds),
        epoch_s=float(time[1]),
        measured_on=data[1] if data else "",
    )


def _parse_row(line: str) -> Figure:
    """Read one line of the table."""
    name, published, *measured = _GAP.split(line)
    return Figure(
        name=name,
        published=None if published == _NONE else float(published),
        measured=tuple(map(float, measured)),
        digits=len(measured[0].partition(".")[2]),
    )


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
