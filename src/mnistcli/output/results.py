"""What the commands find out: the JSON that scripts read, each key declared once.

Numbers that are not finite become null. Keys are promises; new ones may come, none goes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from mnistcli.checkpoints.record import Environment
from mnistcli.config.schema import Config
from mnistcli.errors import MnistcliError, escape_name
from mnistcli.images.options import Preparation
from mnistcli.output.answers import Answer as _Answer
from mnistcli.output.answers import AnswerPart as _Result

Name = Annotated[str, AfterValidator(escape_name)]
Accuracy = Annotated[float, Field(ge=0, le=1)]


class DatasetResult(_Result):
    """Which data a run was trained on."""

    name: str
    sha256: str | None


class TestResult(_Result):
    """The score on the test set."""

    __test__ = False

    loss: float
    accuracy: Accuracy


class SecondsResult(_Result):
    """How long a run took, in seconds: in all, and a warm epoch (the median)."""

    total: float
    per_epoch: float | None


class EpochResult(_Answer):
    """One line of `train --jsonl`."""

    epoch: int
    epochs: int
    metrics: dict[str, float]
    seconds: float


class TrainResult(_Answer):
    """The answer of `train`."""

    checkpoint: Name
    dataset: DatasetResult
    epochs: int
    history: dict[str, tuple[float, ...]]
    test: TestResult
    seconds: SecondsResult


class ClassResult(_Result):
    """How one class fared; a ratio with nothing below the line is null."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class EvaluationResult(_Result):
    """How one checkpoint did on a split; in `confusion`, rows are the truth.

    `dataset` is for people: no part of the JSON.
    """

    checkpoint: Name
    dataset: str = Field(exclude=True)
    split: str
    count: int
    loss: float
    accuracy: Accuracy
    per_class: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]


class EvaluateResult(_Answer):
    """The answer of `evaluate`."""

    results: tuple[EvaluationResult, ...]


class ClassProbability(_Result):
    """One class and its probability."""

    class_index: int = Field(serialization_alias="class")
    label: str
    probability: float


class Prediction(_Result):
    """What the network takes one image for.

    `row` is the place in a data set or an array, null for a file of one image; `truth` is the
    class where it is known. `preparation` is what was done to an image file, null where numbers
    were taken as they are.
    """

    source: Name
    row: int | None
    class_index: int = Field(serialization_alias="class")
    label: str
    probability: float
    probabilities: tuple[float, ...]
    truth: int | None
    preparation: Preparation | None


class RankedPrediction(Prediction):
    """With `--top`: the likeliest classes too, the first of them first."""

    top: tuple[ClassProbability, ...]


class PredictResult(_Answer):
    """The answer of `predict`."""

    predictions: tuple[RankedPrediction | Prediction, ...]


class LayerResult(_Result):
    """One row of the layer table; null stands for the batch axis."""

    name: str
    type: str
    output_shape: tuple[int | None, ...]
    parameters: int


class TrainingFacts(_Result):
    """Where a checkpoint comes from and how far it has come."""

    dataset: DatasetResult
    known_as: str | None
    config: Config
    epochs: int
    step: int
    planned_epochs: int
    last: dict[str, float]
    test: TestResult | None
    seconds: SecondsResult
    environment: Environment
    class_names: tuple[str, ...]


class WeightResult(_Result):
    """One array of the network, as nested lists in row-major order."""

    layer: str
    name: str
    shape: tuple[int, ...]
    values: list[object]


class SummaryResult(_Answer):
    """The answer of `summary`; `training` is null for a config and for other people's files."""

    layers: tuple[LayerResult, ...]
    total_parameters: int
    trainable_parameters: int
    training: TrainingFacts | None


class WeightsSummaryResult(SummaryResult):
    """The answer of `summary --weights`."""

    weights: tuple[WeightResult, ...]


class ErrorDetail(_Result):
    """What went wrong, for scripts."""

    code: int
    kind: str
    where: Name
    message: Name
    hint: Name


class ProblemResult(_Result):
    """One of several things that are wrong with a config."""

    where: Name
    message: Name
    hint: Name


class ManyErrorsDetail(ErrorDetail):
    """The first of several problems, and all of them."""

    problems: tuple[ProblemResult, ...]


class ErrorResult(_Answer):
    """The answer of a command that failed, under `--json`."""

    error: ManyErrorsDetail | ErrorDetail


class GatedEvaluateResult(EvaluateResult):
    """The answer of `evaluate` where a threshold was not met: the results, and which it was."""

    error: ManyErrorsDetail | ErrorDetail


def describe_error(error: MnistcliError) -> ErrorDetail:
    """Return a failure as `--json` shows it."""
    facts = {
        "code": error.code,
        "kind": error.kind,
        "where": error.where,
        "message": error.what,
        "hint": error.hint,
    }
    if len(error.problems) == 1:
        return ErrorDetail.model_validate(facts)
    problems = tuple(
        ProblemResult(where=problem.where, message=problem.what, hint=problem.hint)
        for problem in error.problems
    )
    return ManyErrorsDetail.model_validate({**facts, "problems": problems})
