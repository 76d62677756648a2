"""`recipes copy`: a recipe becomes a file of the user's, which editors can check."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from mnistcli.atomic_files import create_file, replace_file
from mnistcli.config.field_info import INSTALLED_SCHEMA, write_json_schema
from mnistcli.config.recipes import Recipe
from mnistcli.errors import ResourceError, UsageError
from mnistcli.output.results import CopiedRecipeResult
from mnistcli.output.terminal import PROGRAM

SCHEMA_NAME = f"{PROGRAM}.schema.json"
_MODELINE = "# yaml-language-server: $schema="


def write_copy(
    recipe: Recipe, file: Path | None, *, overwrite: bool, with_schema: bool
) -> CopiedRecipeResult:
    """Copy a recipe; return what was written where.

    Args:
        recipe: what is copied.
        file: where to; null for its name in the working directory.
        overwrite: whether files may be replaced.
        with_schema: put the schema beside the copy rather than naming the installed one.

    Raises:
        UsageError: a file exists, or the path is a folder's.
        ResourceError: it could not be written.
    """
    path = file or Path(f"{recipe.name}.yaml")
    if path.is_dir():
        hint = f"write {shlex.quote(str(path / recipe.name))}.yaml"
        raise UsageError(str(path), "is a folder", hint)
    schema = SCHEMA_NAME if with_schema else INSTALLED_SCHEMA.as_uri()
    _write(path, f"{_MODELINE}{schema}\n{recipe.text}", overwrite=overwrite)
    if with_schema:
        _write(path.with_name(SCHEMA_NAME), write_json_schema(), overwrite=True)
    return CopiedRecipeResult(path=str(path), editor_schema=schema)


def _write(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file whole or not at all."""
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
