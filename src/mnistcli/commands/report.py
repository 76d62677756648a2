"""Reads what a report shows."""

from __future__ import annotations

import shlex
from pathlib import Path

from mnistcli import __version__
from mnistcli.checkpoints.reader import Checkpoint
from mnistcli.commands.summary import describe_training, summarize_plan
from mnistcli.commands.trained_model import TrainedModel, predict_examples
from mnistcli.metrics.calibration import measure_calibration
from mnistcli.metrics.scores import find_misclassified
from mnistcli.output.html_report import Outcome, Report, write_recipe
from mnistcli.output.plots.plot_kinds import Curves, Heading, compose_curves
from mnistcli.output.results import DatasetResult, ReportResult
from mnistcli.output.terminal import PROGRAM, Output

SHOWN_MISTAKES = 24
_SPLIT = "test"


class ListeningOutput(Output):
    """Keeps the warnings that it tells: whoever reads the page has not seen the terminal."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.warnings: list[str] = []

    def warn(self, line: str) -> None:
        """Tell something that neither the user nor the page's reader should miss."""
        if line not in self.warnings:
            self.warnings.append(line)
        super().warn(line)


def compose_report(model: TrainedModel, split: str | None, console: ListeningOutput) -> Report:
    """Return everything that stands in the report of a checkpoint.

    Args:
        model: with its weights.
        split: which part of the data; null for the test set.
        console: what the model talks to.

    Raises:
        UsageError: a flag needs data that nothing names, or there is no such split.
        DataError: the data are missing, unreachable or invalid.
    """
    checkpoint, record = model.checkpoint, model.checkpoint.record
    outcome = _measure_outcome(model, split or _SPLIT) if _needs_data(model, split) else None
    if outcome is None:
        console.note(
            f"{checkpoint.path} does not say which data it is for: the report has no results"
            " (--dataset adds them)"
        )
    training = None if record is None else describe_training(record, checkpoint)
    return Report(
        title=checkpoint.path.name,
        program=f"{PROGRAM} {__version__}",
        command=_write_command(model, split),
        warnings=tuple(console.warnings),
        summary=summarize_plan(checkpoint.architecture, training),
        curves=_compose_curves(checkpoint),
        outcome=outcome,
        recipe=None if record is None else write_recipe(record, checkpoint.path),
    )


def _needs_data(model: TrainedModel, split: str | None) -> bool:
    """Without a name for the data, flags about them must not be dropped: reading refuses them."""
    named = (model.dataset_name, split, model.normalization, model.places.directory)
    return any(value is not None for value in named)


def _measure_outcome(model: TrainedModel, split_name: str) -> Outcome:
    """Run the network once, and look at its answers from all sides."""
    split = model.read_split(split_name)
    predictions, score = predict_examples(model, split)
    surest = find_misclassified(predictions.probabilities, split.labels, SHOWN_MISTAKES)
    confidences = predictions.confidences
    is_probable = bool(((confidences >= 0) & (confidences <= 1)).all())
    return Outcome(
        data=f"{model.info.title if model.info is not None else ''} {split_name}".strip(),
        score=score,
        calibration=(
            measure_calibration(confidences, predictions.is_right) if is_probable else None
        ),
        mistakes=predictions.take([one.row for one in surest]),
        mistake_count=int((~predictions.is_right).sum()),
    )


def _compose_curves(checkpoint: Checkpoint) -> Curves | None:
    """Show the record's history, where there is any."""
    record, history = checkpoint.record, checkpoint.progress.history
    if record is None or not any(history.values()):
        return None
    on_test = record.config.dataset.validation == "test"
    return compose_curves(
        Heading(checkpoint.path.name),
        history,
        record.config.training.loss.replace("_", " "),
        "validation (the test set)" if on_test else "validation",
    )


def _write_command(model: TrainedModel, split: str | None) -> str:
    """Write the command that makes the same report, where the data lie is the reader's matter."""
    record, words = model.checkpoint.record, [PROGRAM, "report", str(model.checkpoint.path)]
    if split is not None:
        words += ["--split", split]
    if model.places.own is not None:
        words += ["--data", str(model.places.own)]
    elif model.dataset_name is not None and (
        record is None or record.dataset.name != model.dataset_name
    ):
        words += ["--dataset", model.dataset_name]
    if model.normalization is not None:
        words += ["--normalization", model.normalization]
    return shlex.join(words)


def describe_report(
    report: Report, model: TrainedModel, split: str | None, path: Path, size_bytes: int
) -> ReportResult:
    """Return what was written, for scripts."""
    outcome, record = report.outcome, model.checkpoint.record
    dataset = None
    if record is not None:
        dataset = DatasetResult(name=record.dataset.name, sha256=record.dataset.sha256)
    calibration = None if outcome is None else outcome.calibration
    return ReportResult(
        checkpoint=str(model.checkpoint.path),
        path=str(path),
        bytes=size_bytes,
        dataset=dataset,
        split=None if outcome is None else split or _SPLIT,
        count=None if outcome is None else outcome.score.count,
        loss=None if outcome is None else outcome.score.loss,
        accuracy=None if outcome is None else outcome.score.accuracy,
        ece=None if calibration is None else calibration.ece,
        mistakes=None if outcome is None else outcome.mistake_count,
    )
