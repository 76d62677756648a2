"""What a dry run, `reproduce` and `doctor` find out: the JSON that scripts read.

As in `results`, keys are promises.
"""

from __future__ import annotations

from mnistcli.output.answers import Answer, AnswerPart
from mnistcli.output.results import (
    DatasetResult,
    ErrorDetail,
    SecondsResult,
    SummaryResult,
    TrainingFacts,
)


class MemoryResult(AnswerPart):
    """Bytes that a run is estimated to need, their parts, and what is available (null: unknown)."""

    total: int
    libraries: int
    data: int
    weights: int
    optimizer: int
    working: int
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


class FailedOverfitResult(OverfitResult):
    """The answer of `train --overfit-one-batch` where it was not."""

    error: ErrorDetail


class ArrayDifferenceResult(AnswerPart):
    """An array that came out otherwise; `max_abs_difference` is null where it is not finite."""

    name: str
    size: int
    differing: int
    max_abs_difference: float | None


class ReproduceResult(Answer):
    """The answer of `reproduce`: whether the bits are the same, and where they are not."""

    checkpoint: str
    dataset: DatasetResult
    epochs: int
    same: bool
    arrays: int
    differences: tuple[ArrayDifferenceResult, ...]
    seconds: SecondsResult


class FailedReproduceResult(ReproduceResult):
    """The answer of `reproduce` where the bits are others."""

    error: ErrorDetail


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
