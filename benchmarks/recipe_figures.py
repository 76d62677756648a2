"""Measure the recipes' figures anew, and write them into the tables of their headers.

    MNISTCLI_DATA_DIR=… python benchmarks/recipe_figures.py [RECIPE …]

Each recipe is run once a seed, as `mnistcli reproduce` runs it. What its author published stays as
it is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mnistcli.checkpoints.lock import RunLock
from mnistcli.commands.reproduce import run_recipe
from mnistcli.commands.train.request import TrainArguments
from mnistcli.config.overrides import Override
from mnistcli.config.recipes import Recipe, ReferenceResults, find_recipe, list_recipes
from mnistcli.signals import SignalReceived

CONFIGS = Path(__file__).parents[1] / "configs"


def measure(recipe: Recipe, seed: int) -> dict[str, float]:
    """Run a recipe with a seed."""
    overrides = (Override("training.seed", seed, "--seed"),)
    arguments = TrainArguments(config=recipe.name, overrides=overrides)
    names = [row.name for row in recipe.read_reference_results().rows]
    try:
        with TemporaryDirectory() as folder, RunLock() as lock:
            return run_recipe(arguments, names, Path(folder), lock).figures
    except SignalReceived as received:
        sys.exit(128 + received.number)


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
