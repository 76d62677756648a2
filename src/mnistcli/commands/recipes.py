"""`recipes`: list, show and copy the configs that come with the tool."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from mnistcli.atomic_files import check_replaceable, create_file, replace_file
from mnistcli.config.field_info import INSTALLED_SCHEMA, write_json_schema
from mnistcli.config.loading import load_config
from mnistcli.config.recipes import Recipe, find_recipe, list_recipes
from mnistcli.config.schema import MlpModel
from mnistcli.errors import ResourceError, UsageError
from mnistcli.output.results import (
    CopiedRecipeResult,
    MeasuredResult,
    RecipeResult,
    RecipesResult,
    ShownRecipeResult,
)
from mnistcli.output.terminal import PROGRAM

SCHEMA_NAME = f"{PROGRAM}.schema.json"
_MODELINE = "# yaml-language-server: $schema="


def describe_recipes() -> RecipesResult:
    """Return what each recipe trains, its published accuracy, and the accuracies measured here."""
    return RecipesResult(recipes=tuple(map(_describe_recipe, list_recipes())))


def show_recipe(name: str) -> ShownRecipeResult:
    """Return a recipe's YAML file as it is; ConfigError where there is no such recipe."""
    return ShownRecipeResult(name=name, yaml=find_recipe(name).text)


def copy_recipe(
    name: str,
    file: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    with_schema: bool = False,
) -> CopiedRecipeResult:
    """Copy a recipe into a file whose first line names the schema for editors.

    Args:
        name: of the recipe.
        file: the copy; None for the recipe's name in the working directory.
        overwrite: replace existing files.
        with_schema: write the schema beside the copy instead of naming the installed one.

    Raises:
        ConfigError: there is no such recipe.
        UsageError: the file exists, or the path is a folder's.
        ResourceError: it could not be written.
    """
    recipe = find_recipe(name)
    path = Path(file or f"{recipe.name}.yaml")
    if path.is_dir():
        hint = f"write {shlex.quote(str(path / recipe.name))}.yaml"
        raise UsageError(str(path), "is a folder", hint)
    schema = SCHEMA_NAME if with_schema else INSTALLED_SCHEMA.as_uri()
    _write(path, f"{_MODELINE}{schema}\n{recipe.text}", overwrite=overwrite)
    if with_schema:
        _write(path.with_name(SCHEMA_NAME), write_json_schema(), overwrite=True)
    return CopiedRecipeResult(path=str(path), editor_schema=schema)


def _describe_recipe(recipe: Recipe) -> RecipeResult:
    config, figures = load_config(recipe.name).config, recipe.read_reference_results()
    accuracy = figures.test_accuracy
    hidden = config.model.hidden if isinstance(config.model, MlpModel) else ()
    return RecipeResult(
        name=recipe.name,
        about=recipe.about,
        dataset=config.dataset.name,
        model=config.model.type,
        hidden=tuple(layer.units for layer in hidden),
        epochs=config.training.epochs,
        published_test_accuracy=accuracy.published,
        measured=tuple(
            MeasuredResult(seed=seed, test_accuracy=value)
            for seed, value in zip(figures.seeds, accuracy.measured, strict=True)
        ),
        seconds_per_epoch=figures.epoch_s,
    )


def _write(path: Path, text: str, *, overwrite: bool) -> None:
    check_replaceable(path, overwrite=True)
    try:
        if overwrite:
            replace_file(Path(os.path.realpath(path)), [text.encode()])
        else:
            create_file(path, [text.encode()])
    except FileExistsError:
        hint = "choose another name, or give --overwrite"
        raise UsageError(str(path), "exists", hint) from None
    except OSError as error:
        hint = "choose another place"
        raise ResourceError(str(path), f"cannot be written: {error.strerror}", hint) from error
