"""`mnistcli recipes`: list, show and copy the bundled configs; print the schema of configs."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from mnistcli.cli.completion import complete_recipe, complete_yaml
from mnistcli.cli.options import DebugOption, JsonOption, QuietOption, choose_form
from mnistcli.output.logs import note
from mnistcli.output.terminal import emit, print_block

EXAMPLES = """
mnistcli recipes list
mnistcli recipes copy mnist-mlp my.yaml
"""
LIST_EXAMPLES = """
mnistcli recipes list
mnistcli recipes list --json | jq -r '.recipes[].name'
"""
SHOW_EXAMPLES = """
mnistcli recipes show mnist-mlp
mnistcli recipes show xor | grep accuracy
"""
COPY_EXAMPLES = """
mnistcli recipes copy mnist-mlp
mnistcli recipes copy mnist-mlp my.yaml
mnistcli recipes copy xor --with-schema --overwrite
"""
SCHEMA_EXAMPLES = """
mnistcli recipes schema > mnistcli.schema.json
mnistcli recipes schema | jq '."$defs".Adam.properties'
"""
RecipeName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A recipe's name.", autocompletion=complete_recipe),
]


def list_recipes(json: JsonOption = False, debug: DebugOption = False) -> None:
    """List the recipes: what each trains, what its author got, and what it gives here."""
    del debug
    from mnistcli.commands.recipes import describe_recipes

    emit(describe_recipes(), choose_form(json=json))


def show_recipe(name: RecipeName, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Print a recipe's YAML file as it is."""
    del debug
    from mnistcli.commands import recipes

    emit(recipes.show_recipe(name), choose_form(json=json))


def copy_recipe(
    name: RecipeName,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Where the copy goes.",
            show_default="NAME.yaml",
            autocompletion=complete_yaml,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel="Output"),
    ] = False,
    with_schema: Annotated[
        bool,
        typer.Option(
            "--with-schema",
            help="Write mnistcli.schema.json beside it for editors elsewhere, not the path of the"
            " installed one.",
            rich_help_panel="Output",
        ),
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Copy a recipe, as the beginning of a config of your own.

    The first line names the schema by which editors with a YAML language server complete and
    check it, without a network.
    """
    del debug
    from mnistcli.commands import recipes

    result = recipes.copy_recipe(name, file, overwrite=overwrite, with_schema=with_schema)
    emit(result, choose_form(json=json, quiet=quiet))
    note(f"next  mnistcli train {quote(result.path)}")


def print_schema(debug: DebugOption = False) -> None:
    """Print the JSON Schema that every config's YAML keeps to."""
    del debug
    from mnistcli.config.field_info import write_json_schema

    print_block(write_json_schema().removesuffix("\n"))
