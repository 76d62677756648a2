"""What `train` was asked for, the run that this comes to, and the file that the run writes."""

from __future__ import annotations

import itertools
import logging
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.atomic_files import check_directory, check_replaceable, make_file_exists_error
from mnistcli.checkpoints.lock import LockedError, RunLock
from mnistcli.checkpoints.reader import Checkpoint
from mnistcli.checkpoints.record import Environment, Record, describe_environment
from mnistcli.checkpoints.run_state import Array, RunState
from mnistcli.config.overrides import Override
from mnistcli.config.schema import Config
from mnistcli.datasets.base import Dataset, Split
from mnistcli.errors import MnistcliError, UsageError
from mnistcli.models.architecture import Architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.memory import MemoryEstimate, Placement
from mnistcli.training.xla_cache import XlaCache

if TYPE_CHECKING:
    from mnistcli.training.distributed.cluster import Cluster

SUFFIX = ".h5"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainArguments:
    """What a run was asked for, not yet checked.

    Attributes:
        config: YAML file or recipe; None for the default recipe, or with `resume`.
        document: a config's YAML, in place of a file.
        overrides: config keys that take precedence, in the order they were given.
        output: the checkpoint; None for a name made of the experiment and the time.
        overwrite: whether existing files may be replaced.
        resume: checkpoint of a run to go on with, in its own file.
        more: epochs to add to it.
        force: resume though the data or the file have changed.
        init_from: checkpoint that gives the first weights.
        dry_run: nothing is written.
        data_dir: folder of the published data sets.
        data: your own images, a folder or an .npz file.
        stream: stream the training set although it fits into memory.
        tensorboard: directory of TensorBoard's event files.
        devices: of each worker, that share each batch; None for one, or as a run was begun.
        cluster: the workers that train together; None for this process alone.
    """

    config: str | None = None
    document: str | None = None
    overrides: tuple[Override, ...] = ()
    output: Path | None = None
    overwrite: bool = False
    resume: Path | None = None
    more: int | None = None
    force: bool = False
    init_from: Path | None = None
    dry_run: bool = False
    data_dir: Path | None = None
    data: Path | None = None
    stream: bool = False
    tensorboard: Path | None = None
    devices: int | None = None
    cluster: Cluster | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes and answers."""
        return self.cluster is None or self.cluster.is_chief

    def find_override(self, flag: str) -> Override | None:
        """Return what a flag sets, where it was given."""
        return next((override for override in self.overrides if override.flag == flag), None)


@dataclass(frozen=True)
class RunPlan:
    """A run that can begin.

    Attributes:
        config: resolved: the data set is the one that is used, never `auto`.
        dataset: its two splits in memory.
        train: what is trained on.
        validation: what is monitored after each epoch.
        output: where the checkpoint goes.
        threads: for TensorFlow.
        devices: of each worker, that share each batch.
        cluster: the workers that share each batch; None for this process alone.
        memory: what the run will need at its peak.
        placement: where the rows of the training set are kept meanwhile.
        start: the checkpoint to go on from, with `--resume`.
        initial_weights: with `--init-from`.
        init_from: the path that they came from.
        init_weights_sha256: tells whether they are the same another time.
        xla_cache: where TensorFlow keeps compiled programs.
        tensorboard: directory of TensorBoard's event files.
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
    xla_cache: XlaCache | None = None
    tensorboard: Path | None = None
    devices: int = 1
    cluster: Cluster | None = None

    def describe_environment(self) -> Environment:
        """Return what a checkpoint records of where it was made."""
        workers = 1 if self.cluster is None else len(self.cluster.addresses)
        return describe_environment(self.threads, self.devices, workers)

    @property
    def selects_best(self) -> bool:
        """Whether a validation set selects the best model; the test set never does."""
        return selects_best(self.config)

    @property
    def step_count(self) -> int:
        """Steps of an epoch, the partial last one included."""
        return -(-len(self.train) // self.config.training.batch_size)


class OutputFile:
    """The checkpoint that a run overwrites at each save; the first time it may have to be new.

    Args:
        candidates: paths to try in turn; the first that does not exist is used.
        may_replace: the first candidate is written even if it exists.
    """

    def __init__(self, candidates: Iterator[Path], *, may_replace: bool) -> None:
        self._candidates = candidates
        self._is_ours = may_replace
        self._lock: RunLock | None = None
        self._with_best = False
        self.path = next(candidates)

    @classmethod
    def disabled(cls) -> OutputFile:
        """Return the file of a plan that writes none."""
        return cls(iter([Path()]), may_replace=False)

    @property
    def best_path(self) -> Path:
        """Path of the best model, where a validation set selects one."""
        return self.path.with_name(f"{self.path.stem}.best{SUFFIX}")

    def reserve(self, lock: RunLock, *, with_best: bool) -> None:
        """Keep other runs off the file, and off the best model's, for as long as the lock is open.

        Raises:
            LockedError: another run is writing it, and there is no other candidate.
            ResourceError: its folder takes no files.
        """
        self._lock, self._with_best = lock, with_best
        while True:
            try:
                lock.acquire(self.path)
                if with_best:
                    lock.acquire(self.best_path)
                return
            except LockedError as error:
                self._try_next(error)

    def _try_next(self, error: MnistcliError) -> None:
        """Use the next candidate; raise the error where there is none."""
        following = next(self._candidates, None)
        if following is None:
            raise error from None
        self.path = following

    def write(self, state: RunState, record: Record) -> None:
        """Write a checkpoint under the run's name.

        Raises:
            ResourceError: it could not be written.
            UsageError: another program has made a file of that name since the run began.
        """
        begin_s = time.perf_counter()
        self._write(state, record)
        _log_writing(self.path, state, begin_s)

    def _write(self, state: RunState, record: Record) -> None:
        """Create the file the first time, under the next name if it exists."""
        from mnistcli.checkpoints.writer import create_checkpoint, replace_checkpoint

        while not self._is_ours:
            try:
                create_checkpoint(self.path, state, record)
                self._is_ours = True
                return
            except FileExistsError:
                self._try_next(make_file_exists_error(self.path))
                if self._lock is not None:
                    self.reserve(self._lock, with_best=self._with_best)
        replace_checkpoint(self.path, state, record)

    def write_best(self, state: RunState, record: Record) -> None:
        """Write the best model next to it; ResourceError where that fails."""
        from mnistcli.checkpoints.writer import replace_checkpoint

        begin_s = time.perf_counter()
        replace_checkpoint(self.best_path, state, record)
        _log_writing(self.best_path, state, begin_s)


def find_cluster(environment: Mapping[str, str]) -> Cluster | None:
    """Return the workers that train together; None where this process trains alone.

    Raises:
        UsageError: `TF_CONFIG` is malformed, or names a cluster that cannot train together.
    """
    if "TF_CONFIG" not in environment:  # nothing is imported then
        return None
    from mnistcli.training.distributed.cluster import read_cluster

    return read_cluster(environment)


def selects_best(config: Config) -> bool:
    """Return whether a validation set selects the best model; the test set never does."""
    return config.dataset.validation not in (0.0, "test")


def name_output(config: Config, lock: RunLock | None) -> OutputFile:
    """Return a new file in the working directory, named after the experiment and the time.

    Args:
        config: with the data set that is used, never `auto`.
        lock: keeps other runs off the file; None where nothing will be written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    stem = f"{config.dataset.name}-{config.model.type}-s{config.training.seed}-{stamp}"
    check_directory(Path())
    file = OutputFile(_number_names(stem), may_replace=False)
    if lock is not None:
        file.reserve(lock, with_best=selects_best(config))
    return file


def choose_output(
    path: Path, lock: RunLock | None, *, overwrite: bool, writes_best: bool
) -> OutputFile:
    """Return the file that `-o` names.

    Args:
        path: as given.
        lock: keeps other runs off it; None where nothing will be written.
        overwrite: whether existing files may be replaced.
        writes_best: whether the best model will be written next to it.

    Raises:
        UsageError: the name does not end in .h5, is a folder, or exists.
        ResourceError: its folder does not exist or cannot be written, or another run writes it.
    """
    check_name(path)
    file = OutputFile(iter([path]), may_replace=overwrite)
    if lock is not None:
        file.reserve(lock, with_best=writes_best)
    for taken in (path, *([file.best_path] if writes_best else [])):
        check_replaceable(taken, overwrite=overwrite)
    return file


def check_name(path: Path) -> None:
    """Refuse a path that cannot name a checkpoint, or whose folder is not writable.

    Raises:
        UsageError: the name does not end in .h5, or is a folder.
        ResourceError: its folder does not exist or cannot be written.
    """
    if path.is_dir():
        hint = f"write -o {_quote(path / 'model')}{SUFFIX}"
        raise UsageError("--output", f"{path} is a folder", hint)
    if path.name == SUFFIX:
        hint = f"write -o {_quote(path.with_name('model'))}{SUFFIX}"
        raise UsageError("--output", f"{path} is an ending without a name", hint)
    if path.suffix != SUFFIX:
        stem = path.with_suffix("") if path.suffix.lower() == SUFFIX else path
        hint = f"write -o {_quote(stem)}{SUFFIX}"
        raise UsageError("--output", f"{path} does not end in {SUFFIX}", hint)
    check_directory(path.parent)


def continue_output(path: Path, lock: RunLock | None) -> OutputFile:
    """Return the file of a run that is resumed in place, before it is read.

    Args:
        path: as given; where there is no such file, reading it will say so.
        lock: keeps other runs off it; None where nothing will be written.

    Raises:
        ResourceError: its folder is read-only, or another run writes it.
    """
    file = OutputFile(iter([path]), may_replace=True)
    if path.is_file():
        check_directory(path.parent)
        if lock is not None:
            file.reserve(lock, with_best=False)
    return file


def _number_names(stem: str) -> Iterator[Path]:
    """Yield stem.h5, stem-2.h5, stem-3.h5, …"""
    yield Path(f"{stem}{SUFFIX}")
    for number in itertools.count(2):
        yield Path(f"{stem}-{number}{SUFFIX}")


def _log_writing(path: Path, state: RunState, begin_s: float) -> None:
    progress, duration_s = state.progress, time.perf_counter() - begin_s
    where = (path, progress.epoch, progress.step, duration_s)
    _LOG.info("wrote %s after epoch %d and %d steps, in %.3f s", *where)


def _quote(path: Path) -> str:
    return shlex.quote(str(path))
