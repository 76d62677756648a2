"""What a checkpoint keeps of the run it came from, next to Keras' own data."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from mnistcli.config.models import Config, DatasetName
from mnistcli.datasets.dataset import Identity
from mnistcli.preprocessing import Preprocessing
from mnistcli.state import PlateauState, StoppingState

DURATIONS = "epoch_duration_s"  # stands among the histories: wall seconds of each epoch


def _check_printable(text: str) -> str:
    """Keep control characters away from terminals."""
    if not text.isprintable():
        raise ValueError("not a printable text")
    return text


PrintableText = Annotated[str, Field(max_length=200), AfterValidator(_check_printable)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class _Part(BaseModel):
    """A frozen part of the record; later versions may add keys that this one ignores."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Environment(_Part):
    """What the bits of a result depend on besides config, data and seed."""

    versions: dict[str, str]
    processor: str
    processor_features: tuple[str, ...]
    threads: int = Field(ge=1, le=4096)
    onednn: bool


class ProgressRecord(_Part):
    """How far the run has come; the histories are arrays beside it."""

    epoch: int = Field(ge=0)
    step: int = Field(ge=0)
    best_epoch: int = Field(ge=0)
    elapsed_s: FiniteFloat = Field(ge=0)


class RunningState(_Part):
    """What Keras' format has no place for.

    Attributes:
        generators: the dropout generators' states by Keras path, two integers each.
        metrics: the running sums of the epoch under way by Keras path.
    """

    generators: dict[str, tuple[Int64, Int64]]
    metrics: dict[str, float]


class TestScore(_Part):
    """The result on the test set when the file was last written at the end of a run."""

    __test__ = False

    count: int = Field(ge=0)
    loss: float | None
    accuracy: float = Field(ge=0, le=1)


class Record(_Part):
    """The run. Each field is one JSON attribute of the group `/mnistcli`.

    Attributes:
        format_version: of this record.
        config: resolved; everything that was decided.
        dataset: which data it was trained on.
        class_names: in class order.
        preprocessing: the pair that new inputs need too.
        progress: how far it has come.
        running: random generators and metric sums.
        early_stopping: what it remembers; null where the run has none.
        reduce_on_plateau: likewise.
        environment: versions, processor, threads.
        init_from: the checkpoint that gave the first weights; null for none.
        init_weights_sha256: of those weights' bytes; null for none.
        test: the score on the test set, once there is one.
    """

    format_version: Literal[1] = 1
    config: Config
    dataset: Identity
    class_names: tuple[PrintableText, ...] = Field(max_length=10_000)
    preprocessing: Preprocessing
    progress: ProgressRecord
    running: RunningState
    early_stopping: StoppingState | None = None
    reduce_on_plateau: PlateauState | None = None
    environment: Environment
    init_from: str | None = None
    init_weights_sha256: str | None = None
    test: TestScore | None = None

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        """Refuse an unknown data set, and a pair that turns pixels into anything but numbers."""
        offset, scale = self.preprocessing.offset, self.preprocessing.scale
        if not (math.isfinite(offset) and math.isfinite(scale) and scale != 0):
            raise ValueError("preprocessing is not finite")
        if self.dataset.name not in get_args(DatasetName):
            raise ValueError("no such data set")
        return self
