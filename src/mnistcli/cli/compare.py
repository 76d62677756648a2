"""`mnistcli compare`: compare checkpoints on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.completion import complete_checkpoint
from mnistcli.cli.options import (
    CsvOption,
    DataDirOption,
    DataOption,
    DatasetOption,
    DebugOption,
    JsonOption,
    NormalizationOption,
    QuietOption,
    SplitOption,
    choice_option,
    choose_form,
)
from mnistcli.config.allowed_values import BASELINE_FLAG, BASELINES
from mnistcli.errors import UsageError, quote_words
from mnistcli.output.terminal import emit

EXAMPLES = """
mnistcli compare softmax.h5 mlp.h5
mnistcli compare mlp-s*.h5 --split validation
mnistcli compare a.h5 b.h5 --json | jq .pairs[].p_value
mnistcli compare a.h5 b.h5 c.h5 --csv
mnistcli compare mlp.h5 --baseline random-forest
"""


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL.h5",
            help="Checkpoints, ours or Keras': two or more, or one beside a baseline.",
            autocompletion=complete_checkpoint,
        ),
    ],
    split: SplitOption = "test",
    baseline: Annotated[
        list[str] | None,
        choice_option(
            BASELINES,
            "A classifier of scikit-learn, fitted to the first checkpoint's whole training set."
            " Repeatable.",
            "Data",
        ),
    ] = None,
    dataset: DatasetOption = None,
    normalization: NormalizationOption = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare checkpoints: configs, accuracies with their 95 % intervals, and what is chance.

    Pairs that saw the same images are compared image by image (McNemar's test, mid-p; of several
    pairs Holm's correction). With --csv and -q there is a line for each pair.
    """
    del debug
    form = choose_form(json=json, csv=csv, quiet=quiet)
    if len(models) < 2 and not baseline:
        command = quote_words("mnistcli", "evaluate", models[0])
        hint = f"name another, or a {BASELINE_FLAG}; of one alone: {command}"
        raise UsageError("MODEL.h5", "one checkpoint is nothing to compare", hint)
    from mnistcli.commands.compare import compare as compare_checkpoints

    answer = compare_checkpoints(
        models,
        baselines=baseline or (),
        split=split,
        dataset=dataset,
        normalization=normalization,
        data=data,
        data_dir=data_dir,
    )
    emit(answer, form)
