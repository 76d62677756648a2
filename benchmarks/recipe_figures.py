"""Measure the recipes' figures anew, and write them into the tables of their headers.

    MNISTCLI_DATA_DIR=… python benchmarks/recipe_figures.py [RECIPE …]

Each recipe's story is run once a seed, as `mnistcli reproduce` runs it. What its author published
stays as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mnistcli.checkpoints.lock import RunLock
from mnistcli.commands.reproduce import tell_story
from mnistcli.commands.train.request import Request
from mnistcli.commands.train.run import Interruption
from mnistcli.config.recipes import Recipe, ReferenceResults, find_recipe, list_recipes
from mnistcli.output.terminal import Output

CONFIGS = Path(__file__).parents[1] / "configs"


def measure(recipe: Recipe, seed: int) -> dict[str, float]:
    """Run a recipe's story with a seed."""
    request = Request(
        source=recipe.name, flags={"--seed": ("training.seed", str(seed))}, quiet=True
    )
    names = [row.name for row in recipe.read_reference_results().rows]
    with TemporaryDirectory() as folder, RunLock() as lock:
        told = tell_story(request, names, Path(folder), Output(quiet=True), lock)
    if isinstance(told, Interruption):
        sys.exit(128 + told.signal)
    return told.figures


def write_table(figures: ReferenceResults, runs: list[dict[str, float]]) -> list[str]:
    """Write the header's table as `mnistcli.config.recipes` reads it."""
    lines = [("figure", "published", *(f"seed {seed}" for seed in figures.seeds))]
    for row in figures.rows:
        published = "-" if row.published is None else f"{row.published:.{row.digits}f}"
        lines.append((row.name, published, *(f"{run[row.name]:.{row.digits}f}" for run in runs)))
    return [
        f"# {name:<20}{published:>11}{''.join(f'{cell:>9}' for cell in cells)}"
        for name, published, *cells in lines
    ]


def main() -> None:
    recipes = [find_recipe(name) for name in sys.argv[1:]] or list_recipes()
    for recipe in recipes:
        figures = recipe.read_reference_results()
        runs = [measure(recipe, seed) for seed in figures.seeds]
        path = CONFIGS / f"{recipe.name}.yaml"
        head, _, tail = path.read_text(encoding="utf-8").partition("# figure ")
        rest = tail[tail.index("\n\n") :]
        table = "\n".join(write_table(figures, runs))
        path.write_text(f"{head}{table}{rest}", encoding="utf-8")
        print(f"{recipe.name}\n{table}", flush=True)


if __name__ == "__main__":
    main()
