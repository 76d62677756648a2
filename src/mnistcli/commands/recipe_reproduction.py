"""`reproduce RECIPE`: its story once more, and each figure beside the old ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mnistcli.checkpoints.lock import RunLock
from mnistcli.commands.open_dataset import open_dataset
from mnistcli.commands.recipe_story import Told, tell_story
from mnistcli.commands.signals import end_by_signal
from mnistcli.commands.train.experiment import Interruption
from mnistcli.commands.train.run_plan import Request
from mnistcli.config import Recipe, load_config
from mnistcli.config.figures import Figures
from mnistcli.errors import GateError
from mnistcli.output.comparison_results import (
    FailedReproduceRecipesResult,
    FigureResult,
    RecipeReproduction,
    ReproduceRecipesResult,
    ToleranceResult,
)
from mnistcli.output.comparisons import render_figures
from mnistcli.output.results import describe_error
from mnistcli.output.terminal import PROGRAM, Output, Progress, choose_progress


@dataclass(frozen=True)
class Manner:
    """Where the data are, and how progress and the answer are shown."""

    data_dir: Path | None
    progress: Progress
    json: bool
    quiet: bool


def reproduce_recipes(recipes: Sequence[Recipe], manner: Manner) -> None:
    """Carry out `mnistcli reproduce RECIPE` and `--all`.

    Raises:
        GateError: a figure is another one.
        DataError, ResourceError: a story could not be run.
    """
    silent = manner.quiet or (manner.json and not sys.stderr.isatty())
    progress = choose_progress(manner.progress, silent=silent)
    console = Output(quiet=manner.quiet or manner.json, progress=progress)
    _find_data(recipes, manner, console)
    done: list[RecipeReproduction] = []
    for recipe in recipes:
        again = _reproduce(recipe, manner, console)
        if isinstance(again, Interruption):
            end_by_signal(again.signal)
            return
        done.append(again)
        if manner.quiet and not manner.json:
            console.print_line(f"{recipe.name} {'holds' if again.holds else 'differs'}")
    holds = all(again.holds for again in done)
    _show(ReproduceRecipesResult(holds=holds, recipes=tuple(done)), manner, console)


def _find_data(recipes: Sequence[Recipe], manner: Manner, console: Output) -> None:
    """Find out at once what is missing, not after minutes; DataError."""
    configs = (load_config(recipe.name).config.dataset for recipe in recipes)
    for config in {config.name: config for config in configs}.values():
        open_dataset(config, frozenset({"test"}), manner.data_dir, console)


def _reproduce(
    recipe: Recipe, manner: Manner, console: Output
) -> RecipeReproduction | Interruption:
    """Run one story in a folder that is gone afterwards."""
    request = Request(
        source=recipe.name, data_dir=manner.data_dir, json=manner.json, quiet=manner.quiet
    )
    figures, begin_s = recipe.read_figures(), time.monotonic()
    names = [row.name for row in figures.rows]
    console.note(f"{recipe.name}: {recipe.about}")
    with TemporaryDirectory(prefix=f"{PROGRAM}-") as folder, RunLock() as lock:
        told = tell_story(request, names, Path(folder), console, lock)
    if isinstance(told, Interruption):
        return told
    rows = tuple(_judge(figures, told))
    return RecipeReproduction(
        recipe=recipe.name,
        dataset=told.dataset,
        measured_on=figures.measured_on or None,
        seeds=figures.seeds,
        figures=rows,
        holds=all(row.verdict != "differs" for row in rows),
        seconds=time.monotonic() - begin_s,
    )


def _judge(figures: Figures, told: Told) -> Iterator[FigureResult]:
    """Put the new figures beside the old ones."""
    for row in figures.rows:
        now, tolerance = told.figures[row.name], row.tolerance
        yield FigureResult(
            name=row.name,
            published=row.published,
            measured=row.measured,
            tolerance=ToleranceResult(low=tolerance.low, high=tolerance.high),
            now=now,
            verdict=row.judge(now),
            digits=row.digits,
        )


def _show(answer: ReproduceRecipesResult, manner: Manner, console: Output) -> None:
    """Print the answer in the form that was asked for; GateError where a figure is another."""
    failure = _find_failure(answer)
    if manner.json and failure is not None:
        error = describe_error(failure)
        console.print_json(FailedReproduceRecipesResult(**dict(answer), error=error))
    elif manner.json:
        console.print_json(answer)
    elif not manner.quiet:
        console.print_table(*render_figures(answer))
    if failure is not None:
        raise failure


def _find_failure(answer: ReproduceRecipesResult) -> GateError | None:
    """Name the recipes and figures that came out otherwise."""
    found = [
        (again.recipe, row.name)
        for again in answer.recipes
        for row in again.figures
        if row.verdict == "differs"
    ]
    if not found:
        return None
    where = ", ".join(dict.fromkeys(recipe for recipe, _ in found))
    total = sum(len(again.figures) for again in answer.recipes)
    what = f"{len(found)} of {total} figures differ from those measured before"
    hint = f"look for other data or versions: {PROGRAM} doctor"
    return GateError(where, what, hint)
