"""`mnistcli summary`: show the layers of a network and the training facts of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.checkpoints import is_checkpoint
from mnistcli.cli.completion import complete_source
from mnistcli.cli.options import DebugOption, JsonOption, choose_form
from mnistcli.output.terminal import emit

EXAMPLES = """
mnistcli summary mlp.h5
mnistcli summary mnist-mlp
mnistcli summary mlp.h5 --weights --json
"""


def summary(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL.h5|CONFIG",
            help="A checkpoint, a YAML file or a recipe.",
            autocompletion=complete_source,
        ),
    ],
    weights: Annotated[
        bool,
        typer.Option("--weights", help="Print the arrays too.", rich_help_panel="Output"),
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show a network's layers and parameters, and the run that a checkpoint comes from."""
    del debug
    checkpoint = None
    if is_checkpoint(source):
        from mnistcli.checkpoints.untrusted.sandbox import ParserProcess

        # It reads while the imports below run.
        checkpoint = ParserProcess(Path(source), "weights" if weights else "none")
    from mnistcli.commands.summary import summarize

    emit(summarize(checkpoint or source, weights=weights), choose_form(json=json))
