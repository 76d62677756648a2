"""The results of the commands: the JSON that scripts read, and its lines under `-q` and `--csv`.

Each key is declared once. Keys are promises: new ones may come, none goes. Numbers that are not
finite become null; an empty cell of CSV stands for what is not known or does not apply.
"""

# Without `from __future__ import annotations`: pydantic would parse their text, which takes longer.
import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import singledispatch
from typing import Annotated, Literal, Self, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticSerializationError

from mnistcli.checkpoints.record import Environment, Number, TestScore, TrialMark
from mnistcli.checkpoints.run_state import ArrayDifference
from mnistcli.config.recipes import Tolerance, Verdict
from mnistcli.config.schema import Config
from mnistcli.errors import MnistcliError, escape_name, make_displayable, pluralize
from mnistcli.images.options import Preparation
from mnistcli.metrics.calibration import Calibration
from mnistcli.metrics.scores import AddedActivation, Score
from mnistcli.metrics.significance import Interval
from mnistcli.models.memory import MemoryEstimate

T = TypeVar("T")


class AnswerPart(BaseModel):
    """A frozen part of a command's answer."""

    # Validators are built when a type is first used: a command uses few of them.
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null", defer_build=True)

    def make_displayable(self) -> Self:
        """Return a copy for people: its texts without control characters, and of bounded length."""
        return map_texts(self, make_displayable)

    def dump_json(self) -> str:
        """Return the JSON of this part; file names that are not UTF-8 are escaped."""
        try:
            return self.model_dump_json(by_alias=True)
        except PydanticSerializationError:
            return map_texts(self, escape_name).model_dump_json(by_alias=True)


def map_texts(value: T, change: Callable[[str], str]) -> T:
    """Return a copy of a result, a figure or a part of one, with all of its texts changed."""
    changed: object = value
    if isinstance(value, str):
        changed = change(value)
    elif isinstance(value, tuple | list):
        if value and not isinstance(value[0], int | float):  # numbers by the thousand
            changed = type(value)(map_texts(item, change) for item in value)
    elif isinstance(value, dict):
        changed = {map_texts(k, change): map_texts(item, change) for k, item in value.items()}
    elif isinstance(value, BaseModel):
        fields = {name: map_texts(item, change) for name, item in dict(value).items()}
        changed = value.model_copy(update=fields)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        fields = {name: map_texts(getattr(value, name), change) for name in names}
        changed = dataclasses.replace(value, **fields)
    return cast("T", changed)


class CsvRow(AnswerPart):
    """A line of CSV: its columns in order."""

    @classmethod
    def list_columns(cls) -> tuple[str, ...]:
        """Name the columns that are always there."""
        return tuple(field.alias or name for name, field in cls.model_fields.items())


class Answer(AnswerPart):
    """A command's whole answer."""

    version: Literal[1] = Field(1, description="Version of this shape.")


Name = Annotated[str, AfterValidator(escape_name)]
Share = Annotated[float, Field(ge=0, le=1)]
Accuracy = Share


class DatasetResult(AnswerPart):
    """Which data a run was trained on."""

    name: str
    sha256: str | None


class SecondsResult(AnswerPart):
    """How long a run took, in seconds: in all, and a warm epoch (the median)."""

    total: float
    per_epoch: float | None


class EpochResult(Answer):
    """One line of `train --jsonl`."""

    epoch: int
    epochs: int
    metrics: dict[str, float]
    seconds: float


class TrainResult(Answer):
    """The answer of `train`.

    Attributes:
        checkpoint: path of the run.
        best_checkpoint: path of the best model, where a validation set selects one; not in JSON.
        dataset: that it was trained on.
        epochs: completed in all.
        stopped_early: whether early stopping ended it.
        weights_epoch: the epoch (from 1) whose weights it ended with.
        metrics: of that epoch.
        history: one value per epoch for each metric.
        test: the score on the test set.
        seconds: the time that training took.
        is_finished_before: whether there was nothing left to train; not in JSON.
    """

    checkpoint: Name
    best_checkpoint: SkipJsonSchema[str | None] = Field(None, exclude=True)
    dataset: DatasetResult
    epochs: int
    stopped_early: bool
    weights_epoch: int
    metrics: dict[str, float]
    history: dict[str, tuple[float, ...]]
    test: TestScore
    seconds: SecondsResult
    is_finished_before: SkipJsonSchema[bool] = Field(False, exclude=True)


class EvaluatedSplit(AnswerPart):
    """The checkpoint that was evaluated, and on what; `dataset` is no part of the JSON."""

    checkpoint: Name
    dataset: str = Field(exclude=True)
    split: str


class EvaluationResult(Score, EvaluatedSplit):
    """How one checkpoint did on a split; in `confusion`, rows are the truth.

    `dataset` is for people: no part of the JSON. `added_activation` is what makes probabilities
    of the network's outputs, null where they are such.
    """

    added_activation: AddedActivation | None = None


class EvaluateResult(Answer):
    """The answer of `evaluate`."""

    results: tuple[EvaluationResult, ...]


class ErrorDetail(AnswerPart):
    """What went wrong, for scripts."""

    code: int
    kind: str
    where: Name
    message: Name
    hint: Name


class ClassProbability(AnswerPart):
    """One class and its probability."""

    class_index: int = Field(serialization_alias="class")
    label: str
    probability: float


class Prediction(AnswerPart):
    """What the network takes one image for, or why it was not given it.

    `row` is the place in a data set or an array, null for a file of one image; `truth` is the
    true class where it is known, `true_label` its name. `preparation` is what was done to an image
    file, null where numbers were taken as they are. `error` is null for an image that was
    predicted; for any other one, class, label and probabilities are.
    """

    source: Name
    row: int | None
    class_index: int | None = Field(serialization_alias="class")
    label: str | None
    probability: float | None
    probabilities: tuple[float, ...] | None
    truth: int | None
    true_label: str | None
    preparation: Preparation | None
    error: ErrorDetail | None = None


class RankedPrediction(Prediction):
    """With `--top`: the likeliest classes too, the first of them first."""

    top: tuple[ClassProbability, ...]


class PredictResult(Answer):
    """The answer of `predict`.

    `added_activation` is what makes probabilities of the network's outputs, null where they are
    such.
    """

    predictions: tuple[RankedPrediction | Prediction, ...]
    class_names: tuple[str, ...] = Field(exclude=True)  # the columns of CSV; no part of the JSON
    added_activation: AddedActivation | None


class LayerResult(AnswerPart):
    """One row of the layer table; null stands for the batch axis."""

    name: str
    type: str
    output_shape: tuple[int | None, ...]
    parameters: int


class TrainingFacts(AnswerPart):
    """Where a checkpoint comes from and how far it has come.

    `metrics` are those of the epoch whose weights the file holds, `weights_epoch` (from 1): where
    early stopping has put the best epoch's weights back, `last` has those of a later one.
    """

    dataset: DatasetResult
    known_as: str | None
    config: Config
    epochs: int
    step: int
    planned_epochs: int
    stopped_early: bool
    weights_epoch: int
    metrics: dict[str, float]
    last: dict[str, float]
    test: TestScore | None
    seconds: SecondsResult
    environment: Environment
    class_names: tuple[str, ...]


class WeightResult(AnswerPart):
    """One array of the network, as nested lists in row-major order."""

    layer: str
    name: str
    shape: tuple[int, ...]
    values: list[object]


class SummaryResult(Answer):
    """The answer of `summary`; `training` is null for a config and for other people's files."""

    layers: tuple[LayerResult, ...]
    total_parameters: int
    trainable_parameters: int
    training: TrainingFacts | None


class WeightsSummaryResult(SummaryResult):
    """The answer of `summary --weights`."""

    weights: tuple[WeightResult, ...]


class ProblemResult(AnswerPart):
    """One of several things that are wrong with a config."""

    where: Name
    message: Name
    hint: Name


class ManyErrorsDetail(ErrorDetail):
    """The first of several problems, and all of them."""

    problems: tuple[ProblemResult, ...]


class ErrorResult(Answer):
    """The answer of a command that failed, under `--json`."""

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


class MemoryResult(MemoryEstimate):
    """Bytes that a run is estimated to need, their parts, and what is available (null: unknown)."""

    available: int | None


class EstimatedSecondsResult(AnswerPart):
    """How long a run is estimated to take, in seconds; extrapolated from `measured_steps` steps.

    `startup` is the import of TensorFlow and the compilation, a part of `total` as the epochs are.
    """

    total: float
    startup: float
    per_epoch: float
    measured_steps: int


class DryRunResult(SummaryResult):
    """The answer of `train --dry-run`."""

    memory: MemoryResult
    seconds: EstimatedSecondsResult


class FirstAndLastResult(AnswerPart):
    """A metric before the first step and before the last."""

    first: float
    last: float


class OverfitResult(Answer):
    """The answer of `train --overfit-one-batch`: whether one batch was learned by heart."""

    learned: bool
    images: int
    steps: int
    loss: FirstAndLastResult
    accuracy: FirstAndLastResult
    seconds: float


class ReproduceResult(Answer):
    """The answer of `reproduce`: whether the bits are the same, and where they are not."""

    checkpoint: str
    dataset: DatasetResult
    epochs: int
    same: bool
    arrays: int
    differences: tuple[ArrayDifference, ...]
    seconds: SecondsResult


class LocatedDatasetResult(AnswerPart):
    """A data set as it was found; location and identity are null where it was not."""

    name: str
    location: str | None
    sha256: str | None
    known_as: str | None
    note: str


class DirectoryResult(AnswerPart):
    """A folder that mnistcli writes to; one that does not exist is made when it is needed."""

    purpose: str
    path: str
    exists: bool
    writable: bool


class CheckpointResult(AnswerPart):
    """A checkpoint that could be read whole.

    `seal` is `intact` for a file as mnistcli wrote it, `gone` for one that was changed since,
    `none` for other people's. `training` is null without a run; `differences` say why its bits
    cannot be had again here.
    """

    path: str
    seal: str
    layers: int
    parameters: int
    training: TrainingFacts | None
    differences: tuple[str, ...]


class DoctorResult(Answer):
    """The answer of `doctor`.

    `versions` holds null for what is not installed; `problems` is empty where `train` and
    `evaluate` could run.
    """

    versions: dict[str, str | None]
    processor: str
    processor_features: tuple[str, ...]
    processors: int
    threads: int
    available_memory: int | None
    datasets: tuple[LocatedDatasetResult, ...]
    directories: tuple[DirectoryResult, ...]
    checkpoint: CheckpointResult | None
    problems: tuple[ErrorDetail, ...]


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
    interval: Interval
    loss: float | None
    loss_name: str | None = None
    loss_reason: str | None = None
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
    test: TestScore
    deviation: TestScore
    runs: tuple[TrainResult, ...]


class FigureResult(AnswerPart):
    """One figure of a recipe.

    `published` is null where its author printed none; `measured` holds one value a seed. `digits`
    (behind the point) is for people: no part of the JSON.
    """

    name: str
    published: float | None
    measured: tuple[float, ...]
    tolerance: Tolerance
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


class MeasuredResult(AnswerPart):
    """What a recipe came to here, with one seed."""

    seed: int
    test_accuracy: float


class RecipeResult(AnswerPart):
    """One recipe; `published_test_accuracy` is null where its author printed none.

    `hidden` holds the units of the hidden layers, `seconds_per_epoch` the time of a warm one.
    """

    name: str
    about: str
    dataset: str
    model: str
    hidden: tuple[int, ...]
    epochs: int
    published_test_accuracy: float | None
    measured: tuple[MeasuredResult, ...]
    seconds_per_epoch: float


class RecipesResult(Answer):
    """The answer of `recipes list`."""

    recipes: tuple[RecipeResult, ...]


class ShownRecipeResult(Answer):
    """The answer of `recipes show`: the file as it is."""

    name: str
    yaml: str

    def make_displayable(self) -> Self:
        """Return it unchanged: recipes come with the tool."""
        return self


class CopiedRecipeResult(Answer):
    """The answer of `recipes copy`: the new file, and the schema that its first line names."""

    path: Name
    editor_schema: Name


class ConfigResult(Answer):
    """The answer of `train --print-config`: the config, and where each dotted key comes from."""

    config: Config
    origins: dict[str, str]


Status = Literal["run", "foreign", "changed", "refused"]


class ListedCheckpoint(AnswerPart):
    """One file.

    `status` is `run` for a file as mnistcli wrote it, `foreign` for one that holds no run,
    `changed` for one whose run was changed since, `refused` for one that is damaged or no
    checkpoint; `reason` says why it is no `run`. What only a run has is null for the others.
    `metrics` are those of the epoch whose weights the file holds, `weights_epoch`; `last` those of
    the last one, which is later where early stopping has put the best epoch's weights back.
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
    stopped_early: bool | None = None
    weights_epoch: int | None = None
    metrics: dict[str, Number] = {}
    last: dict[str, Number]
    best: dict[str, Number]
    test: TestScore | None = None
    seconds: SecondsResult | None = None
    saved: datetime | None = None
    config: Config | None = None
    trial: TrialMark | None = None


class ListResult(Answer):
    """The answer of `ls`; `differing` names the config keys in which the runs differ, dotted."""

    checkpoints: tuple[ListedCheckpoint, ...]
    differing: tuple[str, ...]
    sorted_by: str = Field(exclude=True)  # the name of a column; no part of the JSON


class PictureResult(AnswerPart):
    """A picture that was written; sizes are in pixels, an SVG's in points."""

    path: Name
    width: int
    height: int


class PlotResult(Answer):
    """The answer of `plot`; `split` is null for what was drawn from the checkpoint alone.

    `added_activation` is what makes probabilities of the network's outputs, null where they are
    such.
    """

    checkpoint: Name
    kind: str
    path: Name
    width: int
    height: int
    split: str | None
    added_activation: AddedActivation | None


class CalibrationPlotResult(Calibration, PlotResult):
    """The answer of `plot calibration`: the expected calibration error too, and its bins."""


class ArrayResult(AnswerPart):
    """One array of a data set; `minimum` and `maximum` are of its values."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    minimum: int
    maximum: int
    sha256: str


class ExampleResult(AnswerPart):
    """One image: `matrix` has its numbers where they were asked for, as nested lists."""

    split: str
    row: int
    class_index: int = Field(serialization_alias="class")
    label: str
    one_hot: tuple[int, ...]
    minimum: float
    maximum: float
    matrix: list[object] | None


class DataResult(Answer):
    """The answer of `data`.

    `balance` counts each class's examples in each split; `example` is null without `--index`,
    `picture` without `-o`.
    """

    name: str
    title: str
    location: Name
    known_as: str | None
    sha256: str | None
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    arrays: tuple[ArrayResult, ...]
    counts: dict[str, int]
    balance: dict[str, tuple[int, ...]]
    example: ExampleResult | None
    picture: PictureResult | None


class FetchResult(Answer):
    """The answer of `data --fetch`; `location` is null for what is built in."""

    name: str
    location: Name | None
    downloaded: bool


class ReportResult(Answer):
    """The answer of `report`.

    `dataset` is what the run was trained on, null without a record of it; `split` and the figures
    are null where nothing says which data the network is for, `loss` also where `loss_reason` says
    why. `added_activation` is what makes probabilities of the network's outputs, null where they
    are such.
    """

    checkpoint: Name
    path: Name
    bytes: int
    dataset: DatasetResult | None
    split: str | None
    count: int | None
    loss: float | None
    accuracy: Accuracy | None
    loss_name: str | None
    loss_reason: str | None
    added_activation: AddedActivation | None
    ece: float | None
    mistakes: int | None


SweepTrialState = Literal["waiting", "running", "complete", "pruned", "failed"]


class TrialResult(AnswerPart):
    """One trial.

    `trial` is its place in the sweep, from 0; `parameters` holds the searched keys; `value` is the
    objective's, of the weights in `checkpoint`; `host` is the machine that holds the checkpoint,
    null for this one; `reason` says why it failed. Null is what there is not, or not yet.
    """

    trial: int
    state: SweepTrialState
    value: float | None
    parameters: dict[str, JsonValue]
    epochs: int
    checkpoint: Name | None
    host: str | None
    reason: str | None
    seconds: float | None

    @property
    def has_ended(self) -> bool:
        """Return whether the trial is complete, pruned or failed."""
        return self.state in ("complete", "pruned", "failed")


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
    test: TestScore | None
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


class PredictionRow(CsvRow):
    """What the network takes one image for (`predict --csv`).

    Before the last column stands `p_<label>`, the probability, for each class in order.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    source: str
    row: int | None
    class_index: int | None = Field(alias="class")
    label: str | None
    probability: float | None
    truth: int | None
    true_label: str | None
    error: str | None


class EvaluationRow(CsvRow):
    """How one checkpoint did on a split (`evaluate --csv`)."""

    checkpoint: str
    dataset: str
    split: str
    count: int
    loss: float | None
    accuracy: Accuracy
    loss_name: str | None
    loss_reason: str | None


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


@singledispatch
def list_quiet_lines(result: Answer) -> Iterable[str] | None:
    """Return what `-q` prints of a result on stdout; None: what people get without it."""
    del result
    return None


@list_quiet_lines.register
def _(result: TrainResult) -> Iterable[str]:
    return [result.checkpoint]


@list_quiet_lines.register
def _(result: RepeatResult) -> Iterable[str]:
    del result  # each run has had its line
    return []


@list_quiet_lines.register
def _(result: EvaluateResult) -> Iterable[str]:
    return [f"{row.accuracy:.4f}" for row in result.results]


@list_quiet_lines.register
def _(result: OverfitResult) -> Iterable[str]:
    return ["learned" if result.learned else "not learned"]


@list_quiet_lines.register
def _(result: ReproduceResult) -> Iterable[str]:
    return ["same" if result.same else "different"]


@list_quiet_lines.register
def _(result: ReproduceRecipesResult) -> Iterable[str]:
    del result  # each recipe has had its line
    return []


@list_quiet_lines.register
def _(result: CompareResult) -> Iterable[str]:
    return list_verdicts(result)


@list_quiet_lines.register
def _(result: SweepResult) -> Iterable[str]:
    return [(result.best and result.best.checkpoint) or ""]


def list_verdicts(answer: CompareResult) -> Iterator[str]:
    """Say of each pair, in a line, how far apart it is and whether that is more than chance."""
    count = len(answer.pairs)
    allowing = f" allowing for {count} pairs" if count > 1 else ""
    for pair in answer.pairs:
        first, second = letter(pair.first), letter(pair.second)
        better = second if pair.difference > 0 else first
        verdict = f"{better} is better" if pair.distinguishable else "not distinguishable"
        yield (
            f"{second} - {first} = {100 * pair.difference:+.2f} points,"
            f" {_format_p(pair.adjusted_p_value)}{allowing}: {verdict}"
            f" ({pluralize(pair.only_second, 'image')} only {second} got right,"
            f" {pair.only_first:,} only {first})"
        )
    for unpaired in answer.unpaired:
        first, second = letter(unpaired.first), letter(unpaired.second)
        yield f"{second} and {first}: not compared, {unpaired.reason}"


def letter(place: int) -> str:
    """Call the checkpoints A to Z, then AA, AB, …"""
    before = letter(place // 26 - 1) if place >= 26 else ""
    return f"{before}{chr(ord('A') + place % 26)}"


def _format_p(p: float) -> str:
    """Write a p-value with two digits; far below any level its size tells nothing."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


@singledispatch
def format_csv(result: Answer) -> str:
    """Return the lines that `--csv` prints of a result; the last one has no end of its own."""
    raise NotImplementedError(type(result))


@format_csv.register
def _(result: EvaluateResult) -> str:
    columns = EvaluationRow.list_columns()
    return format_rows(
        columns, ([getattr(row, name) for name in columns] for row in result.results)
    )


@format_csv.register
def _(result: PredictResult) -> str:
    names = result.class_names
    *columns, last = PredictionRow.list_columns()
    header = [*columns, *(f"p_{label}" for label in names), last]
    rows = []
    for one in result.predictions:
        facts = [one.source, one.row, one.class_index, one.label, one.probability]
        probabilities = one.probabilities or [None] * len(names)
        error = None if one.error is None else one.error.message
        rows.append([*facts, one.truth, one.true_label, *probabilities, error])
    return format_rows(header, rows)


@format_csv.register
def _(result: ListResult) -> str:
    from mnistcli.output.run_list import format_list_csv

    return format_list_csv(result)


@format_csv.register
def _(result: CompareResult) -> str:
    rows = [_list_cells(result, pair.first, pair.second, pair) for pair in result.pairs]
    rows += [_list_cells(result, one.first, one.second, None) for one in result.unpaired]
    return format_rows(PairRow.list_columns(), rows)


def _list_cells(
    answer: CompareResult, first: int, second: int, pair: PairResult | None
) -> list[object]:
    """Return a pair's cells, in the order of the columns."""
    one, other = answer.results[first], answer.results[second]
    test: list[object] = [None] * 6
    if pair is not None:
        test = [
            pair.difference,
            pair.only_first,
            pair.only_second,
            pair.p_value,
            pair.adjusted_p_value,
            str(pair.distinguishable).lower(),
        ]
    scores = (*_list_score(one), *_list_score(other))
    return [one.checkpoint, other.checkpoint, answer.split, *scores, *test]


def _list_score(row: ComparedResult) -> tuple[float, ...]:
    """Return an accuracy with its number of images and its bounds."""
    return row.count, row.accuracy, row.interval.low, row.interval.high


def format_rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return CSV (RFC 4180 but for the line ends); numbers are written in full, None as nothing."""
    return "\n".join(map(_format_line, (header, *rows)))


def _format_line(cells: Iterable[object]) -> str:
    # The writer puts quotes around what occurs in its own line ends, so they have to be both.
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue().removesuffix("\r\n")
