"""What `train` was asked for, and the run that it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mnistcli.checkpoints.environment import describe_environment
from mnistcli.checkpoints.reader import Checkpoint
from mnistcli.checkpoints.record import Environment
from mnistcli.checkpoints.run_state import Array
from mnistcli.commands.data_places import Places
from mnistcli.commands.train.request import OutputFile
from mnistcli.config.optimization import Cosine
from mnistcli.config.schema import Config
from mnistcli.datasets.base import Dataset, Split
from mnistcli.models.architecture import Architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.memory import MemoryEstimate, Placement
from mnistcli.output.terminal import Progress
from mnistcli.training.distributed.cluster import Cluster
from mnistcli.training.xla_cache import ProgramCache


@dataclass(frozen=True)
class Request:
    """What the command line of `train` asked for, not yet checked.

    Attributes:
        source: YAML file or recipe; null for the default recipe or with `resume`.
        flags: flag to (dotted config key, text as typed; null where it was not given).
        assignments: the texts after `--set`.
        streams: rows are streamed although they would fit into memory.
        cluster: the workers that train it together; null for this process alone.
    """

    source: str | None = None
    flags: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    assignments: tuple[str, ...] = ()
    output: Path | None = None
    overwrite: bool = False
    resume: Path | None = None
    force: bool = False
    more: int | None = None
    init_from: Path | None = None
    dry_run: bool = False
    data_dir: Path | None = None
    own_data: Path | None = None
    streams: bool = False
    json: bool = False
    jsonl: bool = False
    quiet: bool = False
    progress: Progress = "auto"
    tensorboard: Path | None = None
    devices: int | None = None
    cluster: Cluster | None = None

    @property
    def follows(self) -> bool:
        """Tell whether another worker keeps this run."""
        return self.cluster is not None and not self.cluster.is_chief

    @property
    def places(self) -> Places:
        """Where data lie."""
        return Places(self.data_dir, self.own_data)


@dataclass(frozen=True)
class Plan:
    """A run that can begin.

    Attributes:
        config: resolved: the data set is the one that is used, never `auto`.
        dataset: its two splits in memory.
        train: what is trained on.
        validation: what is monitored after each epoch.
        output: where the checkpoint goes.
        threads: for TensorFlow.
        devices: of each worker, that share each batch.
        cluster: the workers that share each batch; null for this process alone.
        memory: what the run will need at its peak.
        placement: where the rows of the training set lie meanwhile.
        start: the checkpoint to go on from, with `--resume`.
        initial_weights: with `--init-from`.
        init_from: the path that they came from.
        init_weights_sha256: tells whether they are the same another time.
        programs: where TensorFlow keeps what it compiles.
    """

    config: Config
    dataset: Dataset
    architecture: Architecture
    preprocessing: Preprocessing
    train: Split
    validation: Split | None
    output: OutputFile
    threads: int
    memory: MemoryEstimate
    placement: Placement = "resident"
    start: Checkpoint | None = None
    initial_weights: tuple[Array, ...] | None = None
    init_from: str | None = None
    init_weights_sha256: str | None = None
    programs: ProgramCache | None = None
    devices: int = 1
    cluster: Cluster | None = None

    def describe_environment(self) -> Environment:
        """Return what a checkpoint records of where it was made."""
        workers = 1 if self.cluster is None else len(self.cluster.addresses)
        return describe_environment(self.threads, self.devices, workers)

    @property
    def chooses(self) -> bool:
        """Tell whether a validation set of its own chooses the best model."""
        return self.validation is not None and self.config.dataset.validation != "test"


def describe_rest(config: Config, before: Config) -> str:
    """Say at which rate a run goes on beyond its schedule; nothing where it does not."""
    schedule, epochs = config.training.schedule, config.training.epochs
    if not isinstance(schedule, Cosine) or schedule.epochs is None:
        return ""
    if epochs <= max(schedule.epochs, before.training.epochs):
        return ""
    rate = config.training.optimizer.learning_rate * schedule.alpha
    return (
        f"its cosine schedule ends after {schedule.epochs:g} epochs:"
        f" the rest train at its last learning rate, {rate:g}"
    )
