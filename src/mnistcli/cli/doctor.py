"""`mnistcli doctor`: check the installation, the hardware, the data and a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.completion import complete_checkpoint
from mnistcli.cli.options import DataDirOption, DataOption, DebugOption, JsonOption, choose_form

EXAMPLES = """
mnistcli doctor
mnistcli doctor mlp.h5
mnistcli doctor --json | jq .versions
"""


def doctor(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL.h5",
            help="A checkpoint to look at too.",
            autocompletion=complete_checkpoint,
        ),
    ] = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Look at versions, processor, data and folders, and at a checkpoint.

    Nothing is downloaded or written. Exit code 0 where training and evaluating can begin, else
    the code that they would end with.
    """
    del debug
    from mnistcli.commands.doctor import diagnose
    from mnistcli.output.logs import report_problem
    from mnistcli.output.terminal import emit

    diagnosis = diagnose(model, data=data, data_dir=data_dir)
    emit(diagnosis.result, choose_form(json=json))
    for error in diagnosis.errors:
        report_problem(error.problems[0])
    if diagnosis.errors:
        raise typer.Exit(diagnosis.errors[0].code)
