"""Everything that stands in a report, before it is known how it is written."""

from __future__ import annotations

from dataclasses import dataclass

from mnistcli.metrics.calibration import Calibration
from mnistcli.metrics.scores import Score
from mnistcli.output.plots.pictures import Curves
from mnistcli.output.plots.plot_kinds import Predictions
from mnistcli.output.results import SummaryResult


@dataclass(frozen=True)
class Outcome:
    """How the network fared on one split.

    Attributes:
        data: which examples, `MNIST test` for example.
        score: loss, accuracy, classes, confusion.
        calibration: confidence against accuracy; null where outputs are no probabilities.
        mistakes: the most confident wrong ones, that many of them as are shown.
        mistake_count: how many there are in all.
    """

    data: str
    score: Score
    calibration: Calibration | None
    mistakes: Predictions
    mistake_count: int


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is made again.

    Attributes:
        again: the command that trains it again and compares the bits; null where that needs a
            run that is between two epochs.
        anew: the commands that make it from nothing.
        notes: what they take, a sentence each.
    """

    again: str | None
    anew: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """A checkpoint, for people who were not there.

    Attributes:
        title: what the file is called.
        program: that writes the report, and its version.
        command: that writes it again.
        warnings: what the reader should know first.
        summary: the layers; the run where the file has a record of it.
        curves: cost and accuracy over the epochs; null without a completed epoch.
        outcome: null where nothing says which data the network is for.
        recipe: null without a record.
    """

    title: str
    program: str
    command: str
    warnings: tuple[str, ...]
    summary: SummaryResult
    curves: Curves | None
    outcome: Outcome | None
    recipe: Recipe | None
