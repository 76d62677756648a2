"""`mnistcli evaluate`: evaluate checkpoints on a split of their data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.completion import complete_checkpoint, complete_threshold
from mnistcli.cli.options import (
    CsvOption,
    DataDirOption,
    DataOption,
    DatasetOption,
    DebugOption,
    JsonOption,
    NormalizationOption,
    ProgressOption,
    QuietOption,
    SplitOption,
    choose_form,
)
from mnistcli.output.terminal import choose_progress, emit

EXAMPLES = """
mnistcli evaluate mlp.h5
mnistcli evaluate *.h5 --split train --csv
mnistcli evaluate mlp.h5 -q --fail-under accuracy=0.97
mnistcli evaluate theirs.h5 --dataset mnist --normalization unit --json
"""


def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL.h5",
            help="Checkpoints, ours or Keras'.",
            autocompletion=complete_checkpoint,
        ),
    ],
    split: SplitOption = "test",
    dataset: DatasetOption = None,
    normalization: NormalizationOption = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="Exit with 3 where any result is worse: accuracy=0.9, loss=0.5. Repeatable.",
            rich_help_panel="Output",
            autocompletion=complete_threshold,
        ),
    ] = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    quiet: QuietOption = False,
    progress: ProgressOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Evaluate checkpoints: loss, accuracy, each class, and what was taken for what.

    Of several there is a row each, with --csv too. Every one of them has to meet --fail-under.
    """
    del debug
    form = choose_form(json=json, csv=csv, quiet=quiet)
    from mnistcli.checkpoints.untrusted.sandbox import ParserProcess
    from mnistcli.commands.evaluate import check_thresholds, parse_thresholds
    from mnistcli.commands.evaluate import evaluate as evaluate_checkpoints

    thresholds = parse_thresholds(fail_under or ())  # wrong ones are reported before wrong files
    first = ParserProcess(models[0], "weights")  # reads while `evaluate` imports the rest

    result = evaluate_checkpoints(
        [first, *models[1:]],
        split=split,
        dataset=dataset,
        normalization=normalization,
        data=data,
        data_dir=data_dir,
        progress=choose_progress(progress, silent=quiet),
    )
    emit(result, form, check_thresholds(result, thresholds))
