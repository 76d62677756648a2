"""Run one trial of a sweep: a training run that a pruner may end early."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from optuna.trial import Trial
from sqlalchemy.exc import SQLAlchemyError

from mnistcli.available_memory import read_available_memory
from mnistcli.checkpoints.reader import Checkpoint, read_checkpoint
from mnistcli.checkpoints.record import (
    TrialMark,
    describe_environment,
    list_differences,
)
from mnistcli.checkpoints.run_state import Progress, RunState
from mnistcli.commands.sweep.study import HEARTBEAT_S, check_data
from mnistcli.commands.sweep.trial_queue import TrialLease, TrialQueue
from mnistcli.commands.train.build_trainer import build_trainer, resume_trainer
from mnistcli.commands.train.prepare import Capacity, load_data, plan_capacity
from mnistcli.commands.train.request import RunPlan, TrainArguments, choose_output
from mnistcli.commands.train.run import CheckpointWriter, ProgressDisplay, SignalCallback
from mnistcli.config.schema import Config
from mnistcli.errors import (
    CheckpointError,
    ConfigError,
    DivergenceError,
    MnistcliError,
    ResourceError,
    UsageError,
)
from mnistcli.output.terminal import ProgressMode
from mnistcli.signals import StopRequest
from mnistcli.tensorflow_import import clear_session
from mnistcli.training.callbacks import Callback

if TYPE_CHECKING:
    from mnistcli.training.trainer import Trainer


_MEMORY_SHARE = 4  # cached trainers may take this part of the available memory: 1 / 4
_NOT_COMPILED = ("epochs", "checkpoint_every", "early_stopping", "reduce_on_plateau")
_RATE = "learning_rate"


@dataclass(frozen=True)
class _CachedTrainer:
    """A run that is over, its initial state, and the bytes of its data."""

    trainer: Trainer
    initial: RunState
    size_bytes: int


class TrainerCache:
    """Build trainers, reusing those of earlier runs where results are bit-identical.

    TensorFlow finds its compiled programs on disk by a name with a running number, which differs
    in later runs of one process. So a later run takes over the network, the data on the device and
    the programs of an earlier one, and restores its own initial state.
    """

    def __init__(self) -> None:
        self._cached: OrderedDict[str, _CachedTrainer] = OrderedDict()

    def build_trainer(self, plan: RunPlan) -> Trainer:
        """Return the run at its first step, or at its checkpoint's.

        Raises:
            CheckpointError: that checkpoint's arrays are another network's.
        """
        key = _make_key(plan.config)
        cached = self._cached.get(key)
        if cached is not None:
            self._cached.move_to_end(key)
            initial = _set_learning_rate(cached.initial, plan.config)
            return resume_trainer(cached.trainer.restart_with(plan.config, initial), plan)
        if "keras" in sys.modules:
            clear_session()
        trainer = build_trainer(replace(plan, start=None))
        self._add(key, _CachedTrainer(trainer, trainer.capture(), plan.memory.data))
        return resume_trainer(trainer, plan)

    def _add(self, key: str, cached: _CachedTrainer) -> None:
        """Add a trainer, and drop the least recently used ones if memory gets short."""
        self._cached[key] = cached
        available = read_available_memory()
        while len(self._cached) > 1 and available is not None:
            if sum(one.size_bytes for one in self._cached.values()) <= available / _MEMORY_SHARE:
                break
            self._cached.popitem(last=False)


@dataclass(frozen=True)
class WorkerContext:
    """What the trials of one worker share.

    Attributes:
        queue: leases the trials.
        arguments: where the data are.
        progress: how downloads are shown.
        threads: for TensorFlow.
        stop: receives signals.
        on_change: is called after each epoch and each trial.
        trainers: of earlier trials.
    """

    queue: TrialQueue
    arguments: TrainArguments
    progress: ProgressMode
    threads: int
    stop: StopRequest
    on_change: Callable[[], None]
    trainers: TrainerCache = field(default_factory=TrainerCache)


def run_trial(lease: TrialLease, context: WorkerContext) -> None:
    """Train a trial from the start or from its checkpoint, and store its result.

    A trial that diverges, or whose combination of values is invalid, fails.

    Raises:
        DataError, ResourceError, UsageError: every other trial would fail too.
    """
    queue, sweep = context.queue, context.queue.sweep
    try:
        values = sweep.decode_params(lease.trial.params)
        config = sweep.make_config(values).with_lengths()
        capacity = plan_capacity(config, context.arguments)
    except (ConfigError, ResourceError) as error:
        queue.fail(lease, _format_reason(error))
        return
    plan = _plan_trial(config, capacity, lease, context)
    with _heartbeat_thread(lease, queue):
        _train_trial(plan, lease, context)


def _train_trial(plan: RunPlan, lease: TrialLease, context: WorkerContext) -> None:
    """Train until the trial ends, is pruned, or its worker is stopped; store the outcome."""
    queue = context.queue
    mark = functools.partial(TrialMark, study=queue.study.study_name, number=lease.number)
    writer = CheckpointWriter(plan, keeps_best=False)
    writer.trial = mark(state="running")
    objective = queue.sweep.objective
    pruning = PruningCallback(lease.trial, objective, plan.config.training.epochs)
    trainer = context.trainers.build_trainer(plan)
    if plan.start is not None and plan.start.state is not None:
        pruning.report_resumed(plan.start.state.progress)
    callbacks = [
        ProgressDisplay("none"),
        plan.xla_cache or Callback(),
        writer,
        pruning,
        _ChangeCallback(context.on_change),
        SignalCallback(context.stop, plan),
    ]
    try:
        state = trainer.fit(callbacks)
    except DivergenceError as error:
        writer.trial = mark(state="failed")
        if pruning.last_state is not None:
            writer.on_checkpoint(pruning.last_state, None)
        queue.fail(lease, f"{error.where}: {error.what}")
        return
    if pruning.is_taken:
        return
    if pruning.is_pruned:
        writer.trial = mark(state="pruned")
        writer.on_checkpoint(state, None)
        queue.prune(lease)
    elif context.stop.received is not None:
        queue.release(lease)
    else:
        writer.trial = mark(state="complete")
        try:
            test = writer.write_score(state).test
        except DivergenceError as error:
            writer.trial = mark(state="failed")
            writer.on_checkpoint(state, None)
            queue.fail(lease, error.what)
            return
        queue.complete(lease, _find_value(state, objective), (test.loss, test.accuracy))


def _format_reason(error: MnistcliError) -> str:
    """Format all issues of a combination of values in one line."""
    parts = (f"{p.where}: {p.what}" if p.where else p.what for p in error.problems)
    return "; ".join(parts)


def _plan_trial(
    config: Config, capacity: Capacity, lease: TrialLease, context: WorkerContext
) -> RunPlan:
    output = choose_output(lease.path, lease.lock, overwrite=True, writes_best=False)
    plan = load_data(config, context.arguments, output, context.progress, capacity=capacity)
    plan = replace(plan, threads=context.threads)
    identity = plan.dataset.identity
    check_data(context.queue.study, identity.location, identity.sha256)
    return replace(plan, start=_find_start(plan, lease, context.queue.study.study_name))


def _find_start(plan: RunPlan, lease: TrialLease, study: str) -> Checkpoint | None:
    """Return the checkpoint of an earlier attempt if resuming it is bit-identical.

    Raises:
        UsageError: the file is not a trial of this sweep.
    """
    if not lease.path.exists():
        return None
    try:
        checkpoint = read_checkpoint(lease.path, "all")
    except CheckpointError as error:
        raise _make_foreign_file_error(lease, error.what) from error
    record = checkpoint.record
    if record is None or record.trial is None or record.trial.study != study:
        raise _make_foreign_file_error(lease, "no trial of this sweep")
    present = describe_environment(plan.threads)
    is_same = (
        record.config == plan.config
        and record.dataset.sha256 == plan.dataset.identity.sha256
        and record.environment.threads == plan.threads
        and not list_differences(record.environment, present)
    )
    return checkpoint if is_same else None


def _make_foreign_file_error(lease: TrialLease, what: str) -> UsageError:
    """Return the error that protects a file which may still be wanted."""
    hint = "move it away, and give the same command again"
    return UsageError(str(lease.path), f"{what}, and a trial would be written here", hint)


@contextlib.contextmanager
def _heartbeat_thread(lease: TrialLease, queue: TrialQueue) -> Iterator[None]:
    """Send heartbeats inside a `with` block."""
    ended = threading.Event()

    def send_heartbeats() -> None:
        while not ended.wait(HEARTBEAT_S):
            with contextlib.suppress(SQLAlchemyError, OptunaError):  # the next one may get through
                queue.heartbeat(lease)

    thread = threading.Thread(target=send_heartbeats, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class PruningCallback(Callback):
    """Report a trial's epochs to Optuna, and stop the run if the pruner says so.

    Args:
        trial: Optuna's.
        objective: the metric that is reported.
        epochs: of the whole run; the pruner is not asked after the last one.

    Attributes:
        is_pruned: the pruner has stopped the run.
        is_taken: another worker has the trial: this machine's heartbeats came too late.
        last_state: of the last checkpoint.
    """

    def __init__(self, trial: Trial, objective: str, epochs: int) -> None:
        self._trial, self._objective, self._epochs = trial, objective, epochs
        self.is_pruned = self.is_taken = False
        self.last_state: RunState | None = None

    def on_epoch_end(self, progress: Progress) -> None:
        """Report the epoch and ask the pruner."""
        self._report(progress, progress.epoch)
        self._ask_pruner(progress)

    def on_checkpoint(self, state: RunState, best: RunState | None) -> None:  # noqa: ARG002
        """Keep the state."""
        self.last_state = state

    def should_stop(self) -> bool:
        """Stop a trial that is pruned or another worker's."""
        return self.is_pruned or self.is_taken

    def report_resumed(self, progress: Progress) -> None:
        """Report the epochs that an earlier attempt has trained."""
        for epoch in range(1, progress.epoch + 1):
            self._report(progress, epoch)
        if progress.epoch and progress.step == 0:
            self._ask_pruner(progress)

    def _report(self, progress: Progress, epoch: int) -> None:
        """Report the objective after an epoch, from 1."""
        try:
            self._trial.report(progress.history[self._objective][epoch - 1], epoch)
        except UpdateFinishedTrialError:
            self.is_taken = True

    def _ask_pruner(self, progress: Progress) -> None:
        if progress.epoch < self._epochs and not self.is_taken:
            self.is_pruned = self._trial.should_prune()


class _ChangeCallback(Callback):
    """Call the worker's `on_change` after each epoch."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change

    def on_epoch_end(self, progress: Progress) -> None:  # noqa: ARG002
        """Call it."""
        self._on_change()


def _find_value(state: RunState, objective: str) -> float:
    """Return the objective of the checkpoint's weights: the last epoch's, or restored ones."""
    values, stopping = state.progress.history[objective], state.callbacks.early_stopping
    if stopping is not None and stopping.is_restored:
        return values[stopping.best_epoch]
    return values[-1]


def _make_key(config: Config) -> str:
    """Serialise what is compiled in, or determines the data and the initial weights."""
    parts = config.model_dump(mode="json", exclude={"training": set(_NOT_COMPILED)})
    if config.training.schedule is None:  # a constant learning rate is a variable
        del parts["training"]["optimizer"][_RATE]
    return json.dumps(parts, sort_keys=True)


def _set_learning_rate(state: RunState, config: Config) -> RunState:
    """Return a state with the config's learning rate."""
    optimizer = tuple(
        replace(
            array, values=np.asarray(config.training.optimizer.learning_rate, array.values.dtype)
        )
        if array.name.rpartition("/")[2] == _RATE
        else array
        for array in state.network.optimizer
    )
    return replace(state, network=replace(state.network, optimizer=optimizer))
