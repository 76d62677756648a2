"""`report`: one HTML page with a checkpoint's curves, scores, errors, config and versions."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Unpack

from mnistcli import __version__
from mnistcli.atomic_files import check_output, write_output
from mnistcli.checkpoints.reader import Checkpoint
from mnistcli.commands.summary import describe_checkpoint
from mnistcli.commands.trained_model import (
    CheckpointSource,
    LoadOptions,
    TrainedModel,
    load_model,
)
from mnistcli.metrics.calibration import measure_calibration
from mnistcli.metrics.scores import find_misclassified
from mnistcli.output.html_report import Evaluation, Report, render_page, write_rerun_commands
from mnistcli.output.logs import collect_warnings, note
from mnistcli.output.plots.figures import Curves, Heading, compose_curves
from mnistcli.output.results import DatasetResult, ReportResult
from mnistcli.output.terminal import PROGRAM

SHOWN_ERRORS = 24
SUFFIXES = (".html",)
_DEFAULT_SPLIT = "test"


def report(
    model: CheckpointSource,
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    split: str | None = None,
    **options: Unpack[LoadOptions],
) -> ReportResult:
    """Write a page that shows what a checkpoint is and how good it is.

    Args:
        model: the checkpoint.
        output: the page, an .html file.
        overwrite: replace an existing file.
        split: `train`, `validation` or `test`, which is the default.
        **options: as for `load_model`.

    Raises:
        UsageError: the file exists or has no such ending, there is no such split, or an argument
            needs data that nothing names.
        CheckpointError: the checkpoint is missing, damaged or refused.
        DataError: the data are missing, unreachable or invalid.
        ResourceError: the page could not be written.
    """
    path = Path(output)
    check_output(path, "report.html", SUFFIXES, aliases=(".htm",), overwrite=overwrite)
    with collect_warnings() as warnings:
        trained = load_model(model, **options)
        facts = compose_report(trained, split, warnings)
    page = render_page(facts).encode("utf-8")
    write_output(path, page, "the report", overwrite=overwrite)
    return _describe_report(facts, trained, split, path, len(page))


def compose_report(model: TrainedModel, split: str | None, warnings: list[str]) -> Report:
    """Compose the contents of a checkpoint's report.

    Args:
        model: with its weights.
        split: which part of the data; None for the test set.
        warnings: shown on the page; those that reading the data adds are shown too.

    Raises:
        UsageError: an argument needs data that nothing names, or there is no such split.
        DataError: the data are missing, unreachable or invalid.
    """
    checkpoint, record = model.checkpoint, model.checkpoint.record
    evaluation = None
    if _needs_data(model, split):
        evaluation = _evaluate(model, split or _DEFAULT_SPLIT)
    else:
        note(
            f"{checkpoint.path} does not say which data it is for: the report has no results"
            " (--dataset adds them)"
        )
    return Report(
        title=checkpoint.path.name,
        program=f"{PROGRAM} {__version__}",
        command=_write_command(model, split),
        warnings=tuple(warnings),
        summary=describe_checkpoint(checkpoint),
        curves=_compose_curves(checkpoint),
        evaluation=evaluation,
        rerun=None if record is None else write_rerun_commands(record, checkpoint.path),
    )


def _needs_data(model: TrainedModel, split: str | None) -> bool:
    # Arguments about data that nothing names must not be dropped: reading refuses them.
    named = (model.dataset_name, split, model.normalization, model.location.data_dir)
    return any(value is not None for value in named)


def _evaluate(model: TrainedModel, split_name: str) -> Evaluation:
    split = model.read_split(split_name)
    predictions, score = model.predict_split(split)
    confidences = predictions.confidences
    surest = find_misclassified(predictions.classes, confidences, split.labels, SHOWN_ERRORS)
    return Evaluation(
        data=f"{model.info.title if model.info is not None else ''} {split_name}".strip(),
        score=score,
        calibration=measure_calibration(confidences, predictions.is_correct),
        misclassified=predictions.take([one.row for one in surest]),
        misclassified_count=int((~predictions.is_correct).sum()),
    )


def _compose_curves(checkpoint: Checkpoint) -> Curves | None:
    record, history = checkpoint.record, checkpoint.progress.history
    if record is None or not any(history.values()):
        return None
    on_test = record.config.dataset.validation == "test"
    return compose_curves(
        Heading(checkpoint.path.name),
        history,
        record.config.training.loss.replace("_", " "),
        "validation (the test set)" if on_test else "validation",
        record.restored_epoch,
    )


def _write_command(model: TrainedModel, split: str | None) -> str:
    """Return the command that writes the same report; it does not say where the data lie."""
    record, words = model.checkpoint.record, [PROGRAM, "report", str(model.checkpoint.path)]
    if split is not None:
        words += ["--split", split]
    if model.location.data is not None:
        words += ["--data", str(model.location.data)]
    elif model.dataset_name is not None and (
        record is None or record.dataset.name != model.dataset_name
    ):
        words += ["--dataset", model.dataset_name]
    if model.normalization is not None:
        words += ["--normalization", model.normalization]
    return shlex.join(words)


def _describe_report(
    report: Report, model: TrainedModel, split: str | None, path: Path, size_bytes: int
) -> ReportResult:
    evaluation, record = report.evaluation, model.checkpoint.record
    dataset = None
    if record is not None:
        dataset = DatasetResult(name=record.dataset.name, sha256=record.dataset.sha256)
    return ReportResult(
        checkpoint=str(model.checkpoint.path),
        path=str(path),
        bytes=size_bytes,
        dataset=dataset,
        split=None if evaluation is None else split or _DEFAULT_SPLIT,
        count=None if evaluation is None else evaluation.score.count,
        loss=None if evaluation is None else evaluation.score.loss,
        loss_name=None if evaluation is None else evaluation.score.loss_name,
        loss_reason=None if evaluation is None else evaluation.score.loss_reason,
        added_activation=None if evaluation is None else model.added_activation,
        accuracy=None if evaluation is None else evaluation.score.accuracy,
        ece=None if evaluation is None else evaluation.calibration.ece,
        mistakes=None if evaluation is None else evaluation.misclassified_count,
    )
