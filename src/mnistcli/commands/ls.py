"""Turns what a survey found into the answer of `ls`, and prints it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnistcli.checkpoints.reader import CHANGED
from mnistcli.checkpoints.surveyed import SurveyedFile, interpret_excerpt
from mnistcli.checkpoints.untrusted.contents import MetricRange
from mnistcli.checkpoints.untrusted.sandbox import Answer, Survey
from mnistcli.commands.list_columns import Columns, make_columns
from mnistcli.config.schema import HiddenLayer, MlpModel, Model
from mnistcli.errors import CheckpointError
from mnistcli.output.csv_text import format_csv
from mnistcli.output.list_results import ListedCheckpoint, ListedTrial, ListResult
from mnistcli.output.results import DatasetResult, SecondsResult, TestResult
from mnistcli.output.run_list import RunTable, find_width, render_reasons, render_runs
from mnistcli.output.terminal import Output

_LAST_SHOWN = (
    "epochs", "trial.state", "last.accuracy", "best.accuracy", "last.val_accuracy",
    "best.val_accuracy", "test.accuracy", "seconds.total", "saved",
)  # fmt: skip
_MADE_BETTER = {"loss": "lowest", "accuracy": "highest"}  # by the end of a metric's name


def list_checkpoints(
    found: Sequence[Path | CheckpointError],
    survey: Survey,
    sort: str,
    *,
    reverse: bool,
    json: bool,
    csv: bool,
) -> None:
    """Print what a survey finds out about files, those that were not found included.

    Raises:
        UsageError: there is no column of the name to sort by.
    """
    paths = [file for file in found if isinstance(file, Path)]
    answers = dict(zip(paths, survey.results(), strict=True))
    files = [
        refuse_file(file)
        if isinstance(file, CheckpointError)
        else describe_file(file, answers[file])
        for file in found
    ]
    columns = make_columns(files)
    chosen = columns.find(sort)
    order = columns.sort(chosen, reverse=reverse)
    console = Output(quiet=json or csv)
    if json:
        checkpoints = tuple(files[number] for number in order)
        console.print_json(ListResult(checkpoints=checkpoints, differing=columns.differing))
    elif csv:
        rows = [columns.rows[number] for number in order]
        cells = [[row.get(name) for name in columns.names] for row in rows]
        console.print_line(format_csv(columns.names, cells))
    elif files:
        _show(columns, order, chosen, console)
    else:
        console.note("no checkpoints here")


def _show(columns: Columns, order: Sequence[int], chosen: str, console: Output) -> None:
    """Print the runs as a table, and below it what is no run."""
    rows = [columns.rows[number] for number in order]
    runs = [row for row in rows if row["status"] == "run"]
    names = list(dict.fromkeys(_name_shown(columns, chosen)))
    table = RunTable(
        columns=tuple(name for name in names if any(run.get(name) is not None for run in runs)),
        titles={name: columns.shorten(name) for name in names},
        kept=("checkpoint", chosen, "test.accuracy"),
    )
    text, hidden = render_runs(table, runs, find_width())
    others = [(str(row["checkpoint"]), str(row["reason"])) for row in rows if row not in runs]
    console.print_line("\n\n".join(filter(None, (text, render_reasons(others)))))
    if hidden:
        shown = ", ".join(table.titles[name] for name in hidden)
        console.note(f"no room for {shown}: widen the terminal, or see --csv")


def _name_shown(columns: Columns, chosen: str) -> Iterator[str]:
    """Name the columns of the table; the one that gives the order is always there."""
    yield from ("checkpoint", "dataset", "model", *columns.differing)
    if chosen not in _LAST_SHOWN:
        yield chosen
    yield from _LAST_SHOWN


def describe_file(path: Path, answer: Answer) -> ListedCheckpoint:
    """Return what is known of a file, from a survey's answer on it."""
    if isinstance(answer, CheckpointError):
        return refuse_file(answer, _find_time(path))
    try:
        return _describe_surveyed(path, interpret_excerpt(path, answer))
    except CheckpointError as error:
        return refuse_file(error, _find_time(path))


def refuse_file(error: CheckpointError, saved: datetime | None = None) -> ListedCheckpoint:
    """Return the row of a file that could not be read."""
    return ListedCheckpoint(
        checkpoint=error.where, status="refused", reason=error.what, last={}, best={}, saved=saved
    )


def _find_time(path: Path) -> datetime | None:
    """Return when a file was last written; None where it is gone."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(microsecond=0)
    except OSError:
        return None


def _describe_surveyed(path: Path, file: SurveyedFile) -> ListedCheckpoint:
    """Return the row of a file that could be read."""
    record, saved = file.record, _find_time(path)
    if record is None:
        by = f"saved by Keras {file.keras_version}" if file.keras_version else "saved by others"
        return ListedCheckpoint(
            checkpoint=str(path),
            status="changed" if file.is_changed else "foreign",
            reason=CHANGED if file.is_changed else f"foreign: {by}, without a run of mnistcli's",
            parameters=file.parameters,
            last={},
            best={},
            saved=saved,
        )
    config, progress, test = record.config, record.progress, record.test
    loss = None if test is None else test.loss
    return ListedCheckpoint(
        checkpoint=str(path),
        status="run",
        reason="",
        dataset=DatasetResult(name=record.dataset.name, sha256=record.dataset.sha256),
        model=describe_model(config.model),
        parameters=file.parameters,
        epochs=progress.epoch,
        planned_epochs=config.training.epochs,
        last={name: _or_nan(metric.last) for name, metric in file.history.items()},
        best=dict(_find_best(file.history)),
        test=test and TestResult(loss=_or_nan(loss), accuracy=test.accuracy),
        seconds=SecondsResult(total=progress.elapsed_s, per_epoch=file.warm_epoch_s),
        saved=saved,
        config=config,
        trial=record.trial and ListedTrial.model_validate(record.trial.model_dump(mode="python")),
    )


def _or_nan(value: float | None) -> float:
    """JSON's null stands for what is not a number."""
    return math.nan if value is None else value


def _find_best(history: Mapping[str, MetricRange]) -> Iterator[tuple[str, float]]:
    """Return the highest accuracies and the lowest losses."""
    for name, metric in history.items():
        for ending, side in _MADE_BETTER.items():
            if name.endswith(ending):
                yield name, _or_nan(getattr(metric, side))


def describe_model(model: Model) -> str:
    """Write a network as `softmax` or `mlp 256-128`."""
    if not isinstance(model, MlpModel):
        return model.type
    return f"{model.type} {'-'.join(map(_describe_hidden, model.hidden))}"


def _describe_hidden(layer: HiddenLayer) -> str:
    """Write a layer's units, and what it has of its own."""
    own: list[Any] = [value for value in (layer.activation, layer.dropout) if value is not None]
    return f"{layer.units}({','.join(map(str, own))})" if own else str(layer.units)
