"""`mnistcli report`: write a checkpoint and its results as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.completion import complete_checkpoint
from mnistcli.cli.options import (
    DataDirOption,
    DataOption,
    DatasetOption,
    DebugOption,
    JsonOption,
    NormalizationOption,
    OverwriteOption,
    QuietOption,
    choice_option,
    choose_form,
)
from mnistcli.config.allowed_values import SPLITS
from mnistcli.output.terminal import emit

EXAMPLES = """
mnistcli report mlp.h5
mnistcli report mlp.h5 --split validation -o held-out.html
mnistcli report theirs.h5 --dataset mnist --overwrite --json
"""


def report(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL.h5",
            help="A checkpoint, ours or Keras'.",
            autocompletion=complete_checkpoint,
        ),
    ],
    split: Annotated[
        str | None,
        choice_option(SPLITS, "Which part of the data; test where none is given.", "Data"),
    ] = None,
    dataset: DatasetOption = None,
    normalization: NormalizationOption = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.html",
            help="The page; MODEL-report.html in the working directory where none is named.",
            rich_help_panel="Output",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a page that shows what a checkpoint is and how good it is.

    Curves, classes, confusion, calibration, the worst mistakes as pictures, config, data, versions,
    and the commands that make it again: one HTML file that needs no network and no script.

    Of other people's files it shows what is known; with --dataset their results too.
    """
    del debug
    from mnistcli.checkpoints.untrusted.sandbox import ParserProcess

    child = ParserProcess(model, "weights")  # reads while the imports below run
    from mnistcli.commands.report import report as write_report

    result = write_report(
        child,
        output or f"{model.stem}-report.html",
        overwrite=overwrite,
        split=split,
        dataset=dataset,
        normalization=normalization,
        data=data,
        data_dir=data_dir,
    )
    emit(result, choose_form(json=json, quiet=quiet))
