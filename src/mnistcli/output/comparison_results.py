"""Runs side by side: the JSON of `compare`, of `train --repeat` and of `reproduce RECIPE`.

As in `results`, keys are promises.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from mnistcli.config.figures import Verdict
from mnistcli.output.answers import Answer, AnswerPart
from mnistcli.output.results import (
    Accuracy,
    DatasetResult,
    ErrorDetail,
    Name,
    TestResult,
    TrainResult,
)

Share = Annotated[float, Field(ge=0, le=1)]


class IntervalResult(AnswerPart):
    """Bounds that hold the true accuracy with the answer's confidence."""

    low: Share
    high: Share


class ComparedResult(AnswerPart):
    """How one checkpoint, or one baseline, did on the split.

    `checkpoint` is a baseline's name where `kind` says that it is one. `dataset` is the data it
    was evaluated on, `trained_on` those of its record, `epochs` the completed ones, `fit_seconds`
    what training or fitting took; the last three are null for other people's files, and a baseline
    has no epochs.
    """

    kind: Literal["checkpoint", "baseline"]
    checkpoint: Name
    dataset: str
    trained_on: DatasetResult | None
    epochs: int | None
    count: int
    correct: int
    accuracy: Accuracy
    interval: IntervalResult
    loss: float
    fit_seconds: float | None


class DifferenceResult(AnswerPart):
    """A config key, or `dataset.sha256`, with one value a checkpoint; null where it has none."""

    key: str
    values: tuple[JsonValue, ...]


class PairResult(AnswerPart):
    """Two checkpoints on the same images, by their places in `results`.

    `difference` is the second's accuracy without the first's; `only_first` and `only_second`
    count the images that one alone got right. `p_value` is McNemar's, `adjusted_p_value` allows
    for the number of pairs.
    """

    first: int
    second: int
    count: int
    only_first: int
    only_second: int
    difference: float
    p_value: Share
    adjusted_p_value: Share
    distinguishable: bool


class UnpairedResult(AnswerPart):
    """Two checkpoints that were evaluated on other images, by their places in `results`."""

    first: int
    second: int
    reason: str


class CompareResult(Answer):
    """The answer of `compare`."""

    split: str
    confidence: float
    results: tuple[ComparedResult, ...]
    differences: tuple[DifferenceResult, ...]
    pairs: tuple[PairResult, ...]
    unpaired: tuple[UnpairedResult, ...]


class RepeatResult(Answer):
    """The answer of `train --repeat`: the means under `train`'s own keys, and what is behind them.

    `deviation` is the sample standard deviation; `runs` are the answers of the single runs, in
    the order of `seeds`.
    """

    seeds: tuple[int, ...]
    test: TestResult
    deviation: TestResult
    runs: tuple[TrainResult, ...]


class ToleranceResult(AnswerPart):
    """Bounds within which a figure is taken for the same."""

    low: float
    high: float


class FigureResult(AnswerPart):
    """One figure of a recipe.

    `published` is null where its author printed none; `measured` holds one value a seed. `digits`
    (behind the point) is for people: no part of the JSON.
    """

    name: str
    published: float | None
    measured: tuple[float, ...]
    tolerance: ToleranceResult
    now: float
    verdict: Verdict
    digits: int = Field(exclude=True)


class RecipeReproduction(AnswerPart):
    """One recipe's story, run again.

    `seeds` are those of each figure's `measured`; `measured_on` says which data gave these, null
    for the published ones.
    """

    recipe: str
    dataset: DatasetResult
    measured_on: str | None
    seeds: tuple[int, ...]
    figures: tuple[FigureResult, ...]
    holds: bool
    seconds: float


class ReproduceRecipesResult(Answer):
    """The answer of `reproduce RECIPE` and of `reproduce --all`."""

    holds: bool
    recipes: tuple[RecipeReproduction, ...]


class FailedReproduceRecipesResult(ReproduceRecipesResult):
    """The answer where a figure is another one."""

    error: ErrorDetail
