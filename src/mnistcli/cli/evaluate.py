"""`mnistcli evaluate`: how good checkpoints are, class by class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.cli.completion import complete_checkpoint, complete_gate
from mnistcli.cli.options import (
    Csv,
    DataDir,
    Dataset,
    Debug,
    Json,
    NormalizationOption,
    OwnData,
    ProgressOption,
    Quiet,
    SplitOption,
    choose_form,
)

if TYPE_CHECKING:
    from mnistcli.commands.trained_model import TrainedModel
    from mnistcli.output.results import EvaluationResult

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
    dataset: Dataset = None,
    normalization: NormalizationOption = None,
    own_data: OwnData = None,
    data_dir: DataDir = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="Exit with 3 where any result is worse: accuracy=0.9, loss=0.5. Repeatable.",
            rich_help_panel="Output",
            autocompletion=complete_gate,
        ),
    ] = None,
    json: Json = False,
    csv: Csv = False,
    quiet: Quiet = False,
    progress: ProgressOption = "auto",
    debug: Debug = False,
) -> None:
    """Evaluate checkpoints: loss, accuracy, each class, and what was taken for what.

    Of several there is a row each, with --csv too. Every one of them has to meet --fail-under.
    """
    del debug
    from mnistcli.checkpoints.untrusted.sandbox import ParserProcess
    from mnistcli.commands.fail_under import find_failure, parse_gates

    form = choose_form(json=json, csv=csv, quiet=quiet)
    gates = parse_gates(fail_under or ())
    first = ParserProcess(models[0], "weights")  # at work while the imports below run
    from mnistcli.commands.trained_model import Places, open_model
    from mnistcli.output.results import EvaluateResult
    from mnistcli.output.terminal import Output, choose_progress, emit

    shown = choose_progress(progress, silent=quiet)
    console = Output(quiet=quiet or json or csv, progress=shown)
    places, results = Places(data_dir, own_data), []
    for number, path in enumerate(models):
        child = ParserProcess(path, "weights") if number else first
        model = open_model(path, child, dataset, normalization, places, console)
        results.append(_evaluate_model(model, split))
    failure = find_failure(gates, results)
    answer = EvaluateResult(results=tuple(results))
    emit(answer, form, failure)


def _evaluate_model(model: TrainedModel, split_name: str) -> EvaluationResult:
    """Score one checkpoint on a split."""
    from mnistcli.output.results import EvaluationResult

    split = model.read_split(split_name)
    score = model.score(split, model.run(split.images))
    return EvaluationResult(
        checkpoint=str(model.checkpoint.path),
        dataset=model.dataset_name or "",
        split=split_name,
        **dict(score),
    )
