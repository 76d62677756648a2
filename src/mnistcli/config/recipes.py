"""The recipes: published experiments as YAML files, with their reference results.

The header of a recipe, its first comment lines, holds the reference results as a table: what was
published, a dash if nothing was, and what was measured here with several seeds.

    # figure                published   seed 0   seed 1
    # epoch 1 loss             2.0527   2.0953   2.0822
    # test accuracy                 -   0.9013   0.9015

`epoch N METRIC` is a metric of the training. `test METRIC` and `train METRIC` are evaluated on
that split afterwards; `then test METRIC` after training as long again from those weights with a
new optimizer. `first N wrong` counts the errors among the first test images, `image I as K` is the
predicted probability of class K for test image I; both after the last training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mnistcli.config.suggestions import find_nearest
from mnistcli.errors import UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


DEFAULT_RECIPE = "mnist-softmax"
TEST_ACCURACY = "test accuracy"
_SUFFIX = ".yaml"
_GAP = re.compile(r"\s{2,}")
_NONE = "-"

Verdict = Literal["as published", "as measured", "differs"]


@dataclass(frozen=True)
class Tolerance:
    """The range in which a new result counts as reproduced, both ends included."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Return whether a value lies in the range; NaN never does."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class ReferenceResult:
    """One reference result of a recipe.

    Attributes:
        name: as in the table.
        published: the published value; None if there is none.
        measured: the values measured here, one for each seed.
        digits: after the decimal point.
    """

    name: str
    published: float | None
    measured: tuple[float, ...]
    digits: int

    @property
    def tolerance(self) -> Tolerance:
        """The range over the seeds, extended at both ends by its own width and by rounding."""
        low, high = min(self.measured), max(self.measured)
        reach = high - low + 0.51 * 10.0**-self.digits
        return Tolerance(low - reach, high + reach)

    def judge(self, now: float) -> Verdict:
        """Return whether a new value agrees with the published and measured ones."""
        tolerance = self.tolerance
        if not tolerance.contains(now):
            return "differs"
        agrees = self.published is not None and tolerance.contains(self.published)
        return "as published" if agrees else "as measured"


@dataclass(frozen=True)
class ReferenceResults:
    """The reference results of a recipe.

    Attributes:
        rows: in the order of the table.
        seeds: of the measured values.
        epoch_s: duration of a warm epoch in seconds.
        measured_on: the data, if not the published ones; empty otherwise.
    """

    rows: tuple[ReferenceResult, ...]
    seeds: tuple[int, ...]
    epoch_s: float
    measured_on: str

    @property
    def test_accuracy(self) -> ReferenceResult:
        """The result that every recipe has."""
        return next(row for row in self.rows if row.name == TEST_ACCURACY)


@dataclass(frozen=True)
class Recipe:
    """A config that is installed with mnistcli.

    Attributes:
        name: the argument of `mnistcli train`, `mnist-softmax` for example.
        text: of the YAML file.
        header: the first comment lines, without `#` and the space after it.
    """

    name: str
    text: str
    header: tuple[str, ...]

    @property
    def about(self) -> str:
        """The header's first sentence: the network and the data set."""
        return " ".join(self.header[: self.header.index("")]).partition(". ")[0].removesuffix(".")

    def read_reference_results(self) -> ReferenceResults:
        """Parse the reference results in the header.

        Raises:
            ValueError: a part is missing or has another format.
        """
        return parse_reference_results(self.header)


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


def parse_reference_results(header: Sequence[str]) -> ReferenceResults:
    """Parse the reference results in a recipe's header.

    Args:
        header: its lines without `#` and the space after it.

    Raises:
        ValueError: a part is missing or has another format.
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
    return ReferenceResults(
        rows=rows,
        seeds=tuple(int(seed.removeprefix("seed ")) for seed in seeds),
        epoch_s=float(time[1]),
        measured_on=data[1] if data else "",
    )


def _folder() -> Traversable:
    from importlib.resources import files  # costs more than reading the folder

    return files("mnistcli").joinpath("recipes")


def _read_recipe(name: str) -> Recipe:
    text = _folder().joinpath(name + _SUFFIX).read_text(encoding="utf-8")
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        header.append(line.removeprefix("#").strip())
    return Recipe(name, text, tuple(header))


def _parse_row(line: str) -> ReferenceResult:
    name, published, *measured = _GAP.split(line)
    return ReferenceResult(
        name=name,
        published=None if published == _NONE else float(published),
        measured=tuple(map(float, measured)),
        digits=len(measured[0].partition(".")[2]),
    )
