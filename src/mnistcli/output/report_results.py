"""What `report` finds out: the JSON that scripts read. As in `results`, keys are promises."""

from __future__ import annotations

from mnistcli.output.answers import Answer
from mnistcli.output.results import Accuracy, DatasetResult, Name


class ReportResult(Answer):
    """The answer of `report`.

    `dataset` is what the run was trained on, null without a record of it; `split` and the figures
    are null where nothing says which data the network is for, `ece` also where its outputs are no
    probabilities.
    """

    checkpoint: Name
    path: Name
    bytes: int
    dataset: DatasetResult | None
    split: str | None
    count: int | None
    loss: float | None
    accuracy: Accuracy | None
    ece: float | None
    mistakes: int | None
