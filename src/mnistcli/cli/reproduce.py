"""`mnistcli reproduce`: train a checkpoint again and compare every bit, or re-run a recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.checkpoints import has_checkpoint_name
from mnistcli.cli.completion import complete_reproducible, has_yaml_name
from mnistcli.cli.options import (
    DataDirOption,
    DataOption,
    DebugOption,
    JsonOption,
    ProgressOption,
    QuietOption,
    choose_form,
)
from mnistcli.errors import UsageError

if TYPE_CHECKING:
    from mnistcli.commands.trained_model import DataLocation
    from mnistcli.config.recipes import Recipe
    from mnistcli.output.results import RecipeReproduction
    from mnistcli.output.terminal import Form, ProgressMode

EXAMPLES = """
mnistcli reproduce mlp.h5
mnistcli reproduce theirs.h5 -q && echo same bits
mnistcli reproduce mlp.h5 --json | jq .differences
mnistcli reproduce mnist-softmax-adam
mnistcli reproduce --all --data-dir data
"""
_ARGUMENT = "MODEL.h5|RECIPE"


def reproduce(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar=_ARGUMENT,
            help="A checkpoint that mnistcli wrote, or a recipe's name.",
            show_default=False,
            autocompletion=complete_reproducible,
        ),
    ] = None,
    every_recipe: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every recipe, one after the other. This takes minutes.",
            rich_help_panel="Recipes",
        ),
    ] = False,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Train a checkpoint again and compare every bit, or run a recipe's published story again.

    A checkpoint is trained from its own record and not touched. Where versions, processor or data
    are others than the run's, nothing is trained, and the error says which.

    Of a recipe each figure is shown as published, as measured before, and now: it holds within
    the range over several seeds, widened by its width at both ends. Exit code 3 where an array or
    a figure differs.
    """
    del debug
    if (source is None) is not every_recipe:
        what = "nothing to reproduce" if source is None else "--all is every recipe"
        raise UsageError(_ARGUMENT, what, "give a checkpoint, a recipe's name, or --all")
    if source is not None and has_yaml_name(source):
        what = "a config has no figures to compare with, only recipes have"
        raise UsageError(source, what, f"train it: mnistcli train {quote(source)}")
    from mnistcli.commands.trained_model import DataLocation
    from mnistcli.config.recipes import find_recipe, list_recipe_names, list_recipes
    from mnistcli.output.terminal import choose_progress

    form = choose_form(json=json, quiet=quiet)
    mode = choose_progress(progress, silent=quiet)
    is_file = source is not None and (has_checkpoint_name(source) or Path(source).exists())
    if source is not None and is_file and source not in list_recipe_names():
        _reproduce_run(Path(source), DataLocation(data_dir, data), form, mode)
        return
    if data is not None:
        what = "recipes are about published data sets"
        raise UsageError("--data", what, "name a folder of their files with --data-dir")
    recipes = list_recipes() if source is None else (find_recipe(source),)
    _reproduce_recipes(recipes, data_dir, form, mode)


def _reproduce_run(path: Path, location: DataLocation, form: Form, progress: ProgressMode) -> None:
    from mnistcli.commands.reproduce import find_difference, reproduce_run
    from mnistcli.commands.train.run import ProgressDisplay
    from mnistcli.output.terminal import emit

    with contextlib.closing(ProgressDisplay(progress)) as display:
        result = reproduce_run(path, location, [display], progress)
    emit(result, form, find_difference(result))


def _reproduce_recipes(
    recipes: Sequence[Recipe], data_dir: Path | None, form: Form, progress: ProgressMode
) -> None:
    from mnistcli.commands.reproduce import find_deviations, reproduce_recipes
    from mnistcli.commands.train.run import ProgressDisplay
    from mnistcli.output.terminal import emit, print_line

    def show(recipe: RecipeReproduction) -> None:
        if form == "quiet":
            print_line(f"{recipe.recipe} {'holds' if recipe.holds else 'differs'}")

    with contextlib.closing(ProgressDisplay(progress)) as display:
        result = reproduce_recipes(recipes, data_dir, [display], progress, show)
    emit(result, form, find_deviations(result))
