"""One trial of a sweep: a run like any other, watched by what may end it early.

Compiled programs of runs that are over, for runs of the same process that need the same. What
TensorFlow keeps of compiled programs on disk it finds by a name with a running number, which is
another one for every later run of a process. So a later run takes over the network, the data on
the device and the programs themselves, and gets its own first state written into them.

Watches a trial: tells Optuna of its epochs, and hands in what it comes to.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mnistcli.checkpoints.reader import Checkpoint, read_checkpoint
from mnistcli.checkpoints.record import (
    TrialMark,
    TrialState,
    describe_environment,
    list_differences,
)
from mnistcli.checkpoints.run_state import NamedArray, Progress, RunState
from mnistcli.commands.signals import StopRequest
from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.train.build_trainer import build_training, forget_training, resume_training
from mnistcli.commands.train.prepare import load_data, plan_memory
from mnistcli.commands.train.request import Plan, Request, choose_output
from mnistcli.commands.train.run import RunKeeper
from mnistcli.config.schema import Config
from mnistcli.errors import (
    CheckpointError,
    ConfigError,
    DivergenceError,
    MnistcliError,
    ResourceError,
    UsageError,
)
from mnistcli.models.memory import read_available_memory
from mnistcli.output.progress import open_epoch_display
from mnistcli.output.terminal import Output

if TYPE_CHECKING:
    from mnistcli.commands.sweep.trial_queue import Claim, Desk
    from mnistcli.training.callbacks import Live
    from mnistcli.training.trainer import Training


_SHARE = 4  # of the memory that is left, one part may be taken by what is kept
_NOT_COMPILED = ("epochs", "checkpoint_every", "early_stopping", "reduce_on_plateau")
_RATE = "learning_rate"


@dataclass(frozen=True)
class _Kept:
    """A run that is over, how it began, and the bytes that its data take."""

    training: Training
    first: RunState
    size_bytes: int


class ProgramShelf:
    """Builds runs, from what is kept of earlier ones where that gives the same bits."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def build(self, plan: Plan) -> Training:
        """Return the run at its first step, or where its checkpoint left it.

        Raises:
            CheckpointError: that checkpoint's arrays are another network's.
        """
        key = _describe_programs(plan.config)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            first = _with_rate(kept.first, plan.config)
            return resume_training(kept.training.begin_again(plan.config, first), plan)
        if "keras" in sys.modules:
            forget_training()
        training = build_training(replace(plan, start=None))
        self._keep(key, _Kept(training, training.capture(), plan.memory.data))
        return resume_training(training, plan)

    def _keep(self, key: str, kept: _Kept) -> None:
        """Drop what was not used for longest where memory gets short."""
        self._kept[key] = kept
        available = read_available_memory()
        while len(self._kept) > 1 and available is not None:
            if sum(one.size_bytes for one in self._kept.values()) <= available / _SHARE:
                break
            self._kept.popitem(last=False)


def _describe_programs(config: Config) -> str:
    """Write down what is compiled in, or decides about data and first weights.

    A learning rate that no schedule changes is a variable.
    """
    parts = config.model_dump(mode="json", exclude={"training": set(_NOT_COMPILED)})
    if config.training.schedule is None:
        del parts["training"]["optimizer"][_RATE]
    return json.dumps(parts, sort_keys=True)


def _with_rate(first: RunState, config: Config) -> RunState:
    """Give a first state the config's own learning rate."""
    optimizer = tuple(_set_rate(array, config) for array in first.network.optimizer)
    return replace(first, network=replace(first.network, optimizer=optimizer))


def _set_rate(array: NamedArray, config: Config) -> NamedArray:
    """Only the optimizer's learning rate is changed."""
    if array.name.rpartition("/")[2] != _RATE:
        return array
    rate = np.asarray(config.training.optimizer.learning_rate, array.values.dtype)
    return NamedArray(array.name, rate)


@dataclass(frozen=True)
class Workplace:
    """What the trials of one worker share.

    Attributes:
        desk: where trials come from.
        request: where the data are.
        console: hears warnings.
        threads: for TensorFlow.
        stop: tells when to end.
        on_change: is called where a trial has got further.
        shelf: has the compiled programs of earlier trials.
    """

    desk: Desk
    request: Request
    console: Output
    threads: int
    stop: StopRequest
    on_change: Callable[[], None]
    shelf: ProgramShelf = field(default_factory=ProgramShelf)

    @property
    def sweep(self) -> Sweep:
        """What the trials are of."""
        return self.desk.sweep


class Watcher:
    """Observes a run: tells Optuna of its epochs, and ends it where Optuna says so."""

    def __init__(self, keeper: RunKeeper, claim: Claim, place: Workplace, epochs: int) -> None:
        self._keeper, self._claim, self._place = keeper, claim, place
        self._desk, self._epochs = place.desk, epochs
        self.shelf = place.shelf
        self._objective = place.sweep.objective
        self._state: RunState | None = None
        self._is_pruned = self._is_taken = False

    def on_piece(self, live: Live) -> None:
        """Pass it on."""
        self._keeper.on_piece(live)

    def on_epoch(self, progress: Progress) -> None:
        """Report the epoch, and ask whether the trial is worth going on with."""
        self._keeper.on_epoch(progress)
        self._report(progress, progress.epoch)
        self._judge(progress)
        self._place.on_change()

    def on_state(self, state: RunState, best: RunState | None) -> None:
        """Keep the trial's state; the best epoch's model has no file of its own."""
        del best
        self._state = state
        self._keeper.on_state(state, None)

    def is_stopping(self) -> bool:
        """Stop where the trial is pruned, another worker's, or the worker is told to end."""
        return self._is_pruned or self._is_taken or self._keeper.is_stopping()

    def catch_up(self, state: RunState) -> None:
        """Report the epochs that a lost worker has trained."""
        for epoch in range(1, state.progress.epoch + 1):
            self._report(state.progress, epoch)
        if state.progress.epoch and state.progress.step == 0:
            self._judge(state.progress)

    def _report(self, progress: Progress, epoch: int) -> None:
        """Tell the objective after an epoch, from 1."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self._claim.trial.report(progress.history[self._objective][epoch - 1], epoch)
        except UpdateFinishedTrialError:  # this machine was silent for too long
            self._is_taken = True

    def _judge(self, progress: Progress) -> None:
        """Ask the pruner; a trial that has trained all its epochs is complete."""
        if progress.epoch < self._epochs and not self._is_taken:
            self._is_pruned = self._claim.trial.should_prune()

    def mark(self, state: TrialState) -> None:
        """Let the checkpoint say what came of the trial, from its next writing on."""
        study = self._desk.study.study_name
        self._keeper.trial = TrialMark(study=study, number=self._claim.number, state=state)

    def end(self, state: TrialState) -> None:
        """Write into the last state's file what came of it."""
        self.mark(state)
        if self._state is not None:
            self._keeper.on_state(self._state, None)

    def finish(self, state: RunState) -> None:
        """Hand the trial in as what it has come to."""
        if self._is_taken:
            return
        if self._is_pruned:
            self.end("pruned")
            self._desk.prune(self._claim)
        elif self._place.stop.received is not None:
            self._desk.give_back(self._claim)
        else:
            self.mark("complete")
            test = self._keeper.finish(state).test
            value = _find_value(state, self._objective)
            self._desk.complete(self._claim, value, (test.loss, test.accuracy))


def _find_value(state: RunState, objective: str) -> float:
    """The objective of the weights that the file holds: the last epoch's, or a restored one's."""
    values, stopping = state.progress.history[objective], state.callbacks.early_stopping
    if stopping is not None and stopping.is_restored:
        return values[stopping.best_epoch]
    return values[-1]


def run_trial(claim: Claim, place: Workplace) -> None:
    """Train a trial, from where a worker that died has left it, and hand it in.

    A trial that diverges, or whose combination is refused, is failed.

    Raises:
        DataError, ResourceError, UsageError: what would end every other trial too.
    """
    desk, sweep = place.desk, place.sweep
    try:
        values = sweep.decode_params(claim.trial.params)
        config = sweep.make_config(values).with_lengths()
        plan_memory(config, place.request)
    except (ConfigError, ResourceError) as error:
        desk.fail(claim, _tell_reason(error))
        return
    plan = _plan_trial(config, claim, place)
    keeper = RunKeeper(plan, place.request, place.console)
    keeper.stop = place.stop
    keeper.display = open_epoch_display(config.training.epochs, 0, "none")
    watcher = Watcher(keeper, claim, place, config.training.epochs)
    with _beating(claim, place):
        watcher.mark("running")
        try:
            _train(plan, watcher)
        except DivergenceError as error:
            watcher.end("failed")
            desk.fail(claim, f"{error.where}: {error.what}")


def _tell_reason(error: MnistcliError) -> str:
    """Write everything that is wrong with a combination in a line."""
    parts = (f"{p.where}: {p.what}" if p.where else p.what for p in error.problems)
    return "; ".join(parts)


def _plan_trial(config: Config, claim: Claim, place: Workplace) -> Plan:
    """Plan a run, and find where it begins."""
    from mnistcli.commands.sweep.study import check_data

    output = choose_output(claim.path, claim.lock, overwrite=True, writes_best=False)
    plan = load_data(config, place.request, place.console, output)
    plan = replace(plan, threads=place.threads)
    identity = plan.dataset.identity
    check_data(place.desk.study, identity.location, identity.sha256)
    return replace(plan, start=_find_start(plan, claim, place))


def _find_start(plan: Plan, claim: Claim, place: Workplace) -> Checkpoint | None:
    """What a lost worker has left of this very trial, if going on from it gives the same bits.

    Raises:
        UsageError: the file is no trial of this sweep.
    """
    if not claim.path.exists():
        return None
    try:
        checkpoint = read_checkpoint(claim.path, "all")
    except CheckpointError as error:
        raise _refuse_file(claim, error.what) from error
    record = checkpoint.record
    study = place.desk.study.study_name
    if record is None or record.trial is None or record.trial.study != study:
        raise _refuse_file(claim, "no trial of this sweep")
    present = describe_environment(plan.threads)
    is_same = (
        record.config == plan.config
        and record.dataset.sha256 == plan.dataset.identity.sha256
        and record.environment.threads == plan.threads
        and not list_differences(record.environment, present)
    )
    return checkpoint if is_same else None


def _refuse_file(claim: Claim, what: str) -> UsageError:
    """A file that somebody may still want is not replaced."""
    hint = "move it away, and give the same command again"
    return UsageError(str(claim.path), f"{what}, and a trial would be written here", hint)


def _train(plan: Plan, watcher: Watcher) -> None:
    """Train to the end, or to where the trial is pruned or its worker stopped."""
    training = watcher.shelf.build(plan)
    if plan.start is not None and plan.start.state is not None:
        watcher.catch_up(plan.start.state)
    state = training.fit(watcher)
    watcher.finish(state)


@contextlib.contextmanager
def _beating(claim: Claim, place: Workplace) -> Iterator[None]:
    """Tell other machines every few seconds that this worker is alive."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    from mnistcli.commands.sweep.study import HEARTBEAT_S

    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_S):
            with contextlib.suppress(SQLAlchemyError, OptunaError):  # the next one may come through
                place.desk.beat(claim)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
