"""What `ls` finds out: the JSON that scripts read.

As in `results`, keys are promises.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from mnistcli.checkpoints.record import TrialState
from mnistcli.config.schema import Config
from mnistcli.output.answers import Answer, AnswerPart
from mnistcli.output.results import DatasetResult, Name, SecondsResult, TestResult

Status = Literal["run", "foreign", "changed", "refused"]


class ListedTrial(AnswerPart):
    """Which trial of a sweep a run is; one that was stopped or killed is still `running`."""

    study: Name
    number: int
    state: TrialState


class ListedCheckpoint(AnswerPart):
    """One file.

    `status` is `run` for a file as mnistcli wrote it, `foreign` for one that holds no run,
    `changed` for one whose run was changed since, `refused` for one that is damaged or no
    checkpoint; `reason` says why it is no `run`. What only a run has is null for the others.
    `best` holds the highest accuracies and the lowest losses of all epochs, each on its own.
    `saved` is when the file was last written; `trial` says which of a sweep it is.
    """

    checkpoint: Name
    status: Status
    reason: Name
    dataset: DatasetResult | None = None
    model: str | None = None
    parameters: int | None = None
    epochs: int | None = None
    planned_epochs: int | None = None
    last: dict[str, float]
    best: dict[str, float]
    test: TestResult | None = None
    seconds: SecondsResult | None = None
    saved: datetime | None = None
    config: Config | None = None
    trial: ListedTrial | None = None


class ListResult(Answer):
    """The answer of `ls`; `differing` names the config keys in which the runs differ, dotted."""

    checkpoints: tuple[ListedCheckpoint, ...]
    differing: tuple[str, ...]
