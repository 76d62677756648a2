"""What a sweep finds out: the JSON that scripts read.

As in `results`, keys are promises.
"""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from mnistcli.output.answers import Answer, AnswerPart
from mnistcli.output.results import Name, TestResult

TrialState = Literal["waiting", "running", "complete", "pruned", "failed"]


class TrialResult(AnswerPart):
    """One trial.

    `trial` is its place in the sweep, from 0; `parameters` holds the searched keys; `value` is the
    objective's, of the weights in `checkpoint`; `host` is the machine that holds the checkpoint,
    null for this one; `reason` says why it failed. Null is what there is not, or not yet.
    """

    trial: int
    state: TrialState
    value: float | None
    parameters: dict[str, JsonValue]
    epochs: int
    checkpoint: Name | None
    host: str | None
    reason: str | None
    seconds: float | None


class TrialLine(Answer, TrialResult):
    """One line of `sweep --jsonl`: a trial that has come to its end."""


class SweepResult(Answer):
    """The answer of `sweep`.

    `ranking` lists the finished trials, the best complete one first, then the pruned, then the
    failed; `best` is the first and null where none is complete, `test` its score on the test set,
    by which nothing was chosen. `importances` holds each searched key's share of what sets the
    best trials apart; it is empty where there are too few.
    """

    study: Name
    objective: str
    direction: Literal["maximize", "minimize"]
    trials: int
    complete: int
    pruned: int
    failed: int
    best: TrialResult | None
    test: TestResult | None
    importances: dict[str, float]
    ranking: tuple[TrialResult, ...]


class DimensionResult(AnswerPart):
    """A searched key; `points` counts its values, null where they cannot be counted."""

    key: str
    values: str
    points: int | None


class SweepPlanResult(Answer):
    """The answer of `sweep --dry-run`.

    `points` counts the combinations, null where they cannot be counted; `refused` those of a grid
    that the config's rules refuse, null for other samplers.
    """

    search: tuple[DimensionResult, ...]
    points: int | None
    sampler: str
    pruner: str
    objective: str
    trials: int
    refused: int | None
