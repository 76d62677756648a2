"""What a checkpoint keeps of the run it came from, next to Keras' own data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mnistcli.config.models import Config
from mnistcli.datasets.dataset import Identity
from mnistcli.preprocessing import Preprocessing

DURATIONS = "epoch_duration_s"  # stands among the histories: wall seconds of each epoch


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
    elapsed_s: float = Field(ge=0)


class RunningState(_Part):
    """What Keras' format has no place for.

    Attributes:
        generators: the dropout generators' states by Keras path, two integers each.
        metrics: the running sums of the epoch under way by Keras path.
    """

    generators: dict[str, tuple[int, int]]
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
        environment: versions, processor, threads.
        init_from: the checkpoint that gave the first weights, and its sha256; null for none.
        test: the score on the test set, once there is one.
    """

    format_version: Literal[1] = 1
    config: Config
    dataset: Identity
    class_names: tuple[str, ...] = Field(max_length=10_000)
    preprocessing: Preprocessing
    progress: ProgressRecord
    running: RunningState
    environment: Environment
    init_from: str | None = None
    test: TestScore | None = None
