"""The lines of CSV that commands print: their columns in order, each declared once.

A cell that is empty stands for what is not known, or does not apply.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from mnistcli.checkpoints.record import TrialState
from mnistcli.output.answers import CsvRow
from mnistcli.output.list_results import Status
from mnistcli.output.results import Accuracy


class PredictionRow(CsvRow):
    """What the network takes one image for (`predict --csv`).

    Behind these columns stands `p_<label>`, the probability, for each class in order.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    source: str
    row: int | None
    class_index: int = Field(alias="class")
    label: str
    probability: float
    truth: int | None


class EvaluationRow(CsvRow):
    """How one checkpoint did on a split (`evaluate --csv`)."""

    checkpoint: str
    dataset: str
    split: str
    count: int
    loss: float
    accuracy: Accuracy


class PairRow(CsvRow):
    """Two checkpoints side by side (`compare --csv`).

    The columns from `difference` on are empty where they were evaluated on other images.
    """

    first: str
    second: str
    split: str
    first_count: int
    first_accuracy: Accuracy
    first_low: Accuracy
    first_high: Accuracy
    second_count: int
    second_accuracy: Accuracy
    second_low: Accuracy
    second_high: Accuracy
    difference: float | None
    only_first: int | None
    only_second: int | None
    p_value: float | None
    adjusted_p_value: float | None
    distinguishable: bool | None


class ListRow(CsvRow):
    """A file in the table of `ls`, in the order of its columns; empty cells are null.

    Behind these columns stands one for each config key in which the runs differ, named by the key.
    """

    model_config = ConfigDict(extra="allow")

    checkpoint: str
    status: Status
    reason: str | None
    dataset: str | None
    dataset_sha256: str | None = Field(alias="dataset.sha256")
    model: str | None
    parameters: int | None
    epochs: int | None
    planned_epochs: int | None
    last_loss: float | None = Field(alias="last.loss")
    last_accuracy: float | None = Field(alias="last.accuracy")
    last_val_loss: float | None = Field(alias="last.val_loss")
    last_val_accuracy: float | None = Field(alias="last.val_accuracy")
    best_loss: float | None = Field(alias="best.loss")
    best_accuracy: float | None = Field(alias="best.accuracy")
    best_val_loss: float | None = Field(alias="best.val_loss")
    best_val_accuracy: float | None = Field(alias="best.val_accuracy")
    test_loss: float | None = Field(alias="test.loss")
    test_accuracy: Accuracy | None = Field(alias="test.accuracy")
    seconds_total: float | None = Field(alias="seconds.total")
    seconds_per_epoch: float | None = Field(alias="seconds.per_epoch")
    saved: datetime | None
    trial_study: str | None = Field(alias="trial.study")
    trial_number: int | None = Field(alias="trial.number")
    trial_state: TrialState | None = Field(alias="trial.state")
