"""Joins what a training run needs: plan, network, display, checkpoints, the final score."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass

from mnistcli.checkpoint.record import ProgressRecord, Record, RunningState, TestScore
from mnistcli.checkpoint.run_lock import RunLock
from mnistcli.cli.dry_run import show_plan
from mnistcli.cli.launch import build_training
from mnistcli.cli.next_command import write_command
from mnistcli.cli.preparation import prepare_run
from mnistcli.cli.run_plan import Plan, Request
from mnistcli.cli.signals import Stopped, StopRequest, end_by_signal
from mnistcli.cli.tensorboard import check_directory, open_board
from mnistcli.console.progress import EpochDisplay, format_metrics, open_epoch_display
from mnistcli.console.streams import SHOWN, Output, choose_progress, report_error
from mnistcli.console.tables import render_stopping, render_train
from mnistcli.environment import describe_environment
from mnistcli.errors import DivergenceError
from mnistcli.evaluation import LossSpec, Score, evaluate_logits
from mnistcli.inference import run_network
from mnistcli.observer import Live
from mnistcli.regularization import compute_penalty
from mnistcli.results import DatasetResult, EpochResult, SecondsResult, TestResult, TrainResult
from mnistcli.state import Progress, RunState

_LOG = logging.getLogger(__name__)


def run_experiment(request: Request) -> None:
    """Carry out `mnistcli train`; every way in which it can fail is a MnistcliError."""
    with RunLock() as lock:
        received = _run_locked(request, lock)
    if received is not None:
        end_by_signal(received)


def _run_locked(request: Request, lock: RunLock) -> int | None:
    """Train, and return the signal that ended it early."""
    console = open_output(request)
    if request.tensorboard is not None:
        check_directory(request.tensorboard)
    plan = prepare_run(request, console, lock)
    if request.dry_run:
        show_plan(plan, request, console)
        return None
    result = train_plan(plan, request, console)
    if isinstance(result, Interruption):
        note_interruption(plan, request, result.state)
        return result.signal
    _show_result(result, plan, request, console)
    if console.is_closed:
        raise BrokenPipeError
    return None


def open_output(request: Request) -> Output:
    """Return where a run's words go."""
    is_quiet = request.quiet or request.json or request.jsonl
    progress = choose_progress(
        request.progress,
        silent=request.quiet or request.jsonl or (request.json and not sys.stderr.isatty()),
    )
    return Output(quiet=is_quiet, outlives_reader=True, progress=progress)


@dataclass(frozen=True)
class Interruption:
    """How far a run had come when a signal ended it.

    Attributes:
        signal: its number.
        state: what was saved; null where the run diverged just then.
    """

    signal: int
    state: RunState | None


def train_plan(plan: Plan, request: Request, console: Output) -> TrainResult | Interruption:
    """Carry a planned run out, keep its states, and score it; nothing goes to stdout.

    With `--jsonl` alone each epoch's line does.
    """
    keeper = _Keeper(plan, request, console)
    training = build_training(plan)
    board = open_board(request, plan, keeper, training, console)
    with StopRequest() as stop:
        keeper.display = open_epoch_display(
            plan.config.training.epochs,
            plan.start.state.progress.epoch if plan.start and plan.start.state else 0,
            console.progress,
        )
        keeper.stop = stop
        try:
            state = training.fit(board or keeper)
        except DivergenceError as error:
            diverged = _with_way_back(error, keeper)
            if stop.received is None:
                raise diverged from error
            report_error(diverged)
            return Interruption(stop.received, None)
        finally:
            keeper.display.close()
    if stop.received is not None:
        return Interruption(stop.received, state)
    if state.callbacks.early_stopping is not None:
        console.note(render_stopping(state.callbacks.early_stopping, state.progress.epoch))
    try:
        result = keeper.finish(state)
    except Stopped as stopped:  # the run itself is saved; its score is what is missing
        return Interruption(stopped.number, state)
    if board is not None:
        board.show_score(state, result.test)
    return result


class _Keeper:
    """Observes a run: shows it, keeps its states, and knows when to stop."""

    def __init__(self, plan: Plan, request: Request, console: Output) -> None:
        self._plan = plan
        self._console = console
        self._streams = request.jsonl
        self._environment = describe_environment(plan.threads)
        self._begin_s = time.monotonic()
        record = plan.start.record if plan.start else None
        self._elapsed_before_s = record.progress.elapsed_s if record else 0.0
        self._saved_best_epoch = 0
        self._unsealed = plan.programs
        self.saved_epoch = 0
        self.display: EpochDisplay
        self.stop: StopRequest

    @property
    def path(self) -> str:
        """The checkpoint that the run writes."""
        return str(self._plan.output.path)

    def is_stopping(self) -> bool:
        """Stop once a signal has come."""
        return self.stop.received is not None

    def on_piece(self, live: Live) -> None:
        """Show how far the epoch has come."""
        self.display.show_piece(live.epoch, live.step / live.step_count, live.metrics)

    def on_epoch(self, progress: Progress) -> None:
        """Show a completed epoch, and stream it where that was asked for."""
        metrics = {name: values[-1] for name, values in progress.history.items()}
        duration_s = progress.epoch_durations_s[-1]
        line = f"epoch {progress.epoch}: {format_metrics(metrics)}, {duration_s:.3f} s"
        _LOG.info(line, extra=SHOWN)
        self.display.show_epoch(progress.epoch, metrics, duration_s)
        if self._unsealed is not None:
            self._unsealed.seal()
            self._unsealed = None
        if self._streams:
            total = self._plan.config.training.epochs
            self._console.print_json(
                EpochResult(epoch=progress.epoch, epochs=total, metrics=metrics, seconds=duration_s)
            )

    def on_state(self, state: RunState, best: RunState | None) -> None:
        """Write the run down, after the best model where it is a new one.

        In this order: a run that is killed in between is resumed from before its best epoch, and
        comes to it again.
        """
        if best is not None and best.progress.best_epoch != self._saved_best_epoch:
            self._plan.output.write_best(best, self._record(best))
            self._saved_best_epoch = best.progress.best_epoch
        self._plan.output.write(state, self._record(state, self._find_score(state)))
        self.saved_epoch = state.progress.epoch

    def _find_score(self, state: RunState) -> TestScore | None:
        """Keep the score of a run that is resumed, for as long as the file holds its weights."""
        start = self._plan.start
        if start is None or start.record is None or state is not start.state:
            return None
        is_same = start.record.dataset.sha256 == self._plan.dataset.identity.sha256
        return start.record.test if is_same else None

    def finish(self, state: RunState) -> TrainResult:
        """Score the run on the test set, write the score down, and return the answer."""
        score = self._score(state)
        test = TestScore(count=score.count, loss=score.loss, accuracy=score.accuracy)
        self._plan.output.write(state, self._record(state, test))
        progress, identity = state.progress, self._plan.dataset.identity
        return TrainResult(
            checkpoint=self.path,
            dataset=DatasetResult(name=identity.name, sha256=identity.sha256),
            epochs=progress.epoch,
            history=progress.history,
            test=TestResult(loss=score.loss, accuracy=score.accuracy),
            seconds=SecondsResult(total=self._elapsed_s(), per_epoch=progress.warm_epoch_s),
        )

    def _score(self, state: RunState) -> Score:
        """Evaluate as `mnistcli evaluate` does, so that both give the same numbers."""
        plan, test = self._plan, self._plan.dataset.test
        logits = run_network(
            plan.architecture, state.network.weights, test.images, plan.preprocessing
        )
        training, head = plan.config.training, plan.architecture.head
        loss = LossSpec(training.loss, label_smoothing=training.label_smoothing)
        penalty = compute_penalty(plan.architecture, state.network.weights)
        names = plan.dataset.info.class_names
        return evaluate_logits(logits, test.labels, head, loss, names, penalty)

    def _elapsed_s(self) -> float:
        """Wall time spent on the run, earlier parts of a resumed one included."""
        return self._elapsed_before_s + time.monotonic() - self._begin_s

    def _record(self, state: RunState, test: TestScore | None = None) -> Record:
        """Say what the run is, next to its arrays."""
        plan, network, progress = self._plan, state.network, state.progress
        return Record(
            config=plan.config,
            dataset=plan.dataset.identity,
            class_names=plan.dataset.info.class_names,
            preprocessing=plan.preprocessing,
            progress=ProgressRecord(
                epoch=progress.epoch,
                step=progress.step,
                best_epoch=progress.best_epoch,
                elapsed_s=self._elapsed_s(),
            ),
            running=RunningState(
                generators={a.name: tuple(a.values.tolist()) for a in network.generators},
                metrics={a.name: float(a.values) for a in network.metrics},
            ),
            early_stopping=state.callbacks.early_stopping,
            reduce_on_plateau=state.callbacks.reduce_on_plateau,
            environment=self._environment,
            init_from=plan.init_from,
            init_weights_sha256=plan.init_weights_sha256,
            test=test,
        )


def _show_result(result: TrainResult, plan: Plan, request: Request, console: Output) -> None:
    """Print the answer, and on stderr where it lies and what to do with it."""
    if request.json or request.jsonl:
        console.print_json(result)
    elif request.quiet:
        console.print_line(result.checkpoint)
    else:
        console.print_line(render_train(result))
    show_saved(plan, console)
    console.note(f"next  {write_command(request, 'evaluate', result.checkpoint)}")


def show_saved(plan: Plan, console: Output) -> None:
    """Say on stderr where a run lies, and its best model where one was chosen."""
    console.note(f"saved {plan.output.path}")
    if plan.chooses and plan.output.best_path.exists():
        console.note(f"best  {plan.output.best_path}")


def _with_way_back(error: DivergenceError, keeper: _Keeper) -> DivergenceError:
    """Name the last good state in a diverged run's error."""
    hint = f"{error.hint}; {keeper.path} holds epoch {keeper.saved_epoch}"
    return DivergenceError(error.where, error.what, hint)


def note_interruption(plan: Plan, request: Request, state: RunState | None) -> None:
    """Say how to go on, where that makes sense."""
    if state is None:
        return
    progress, path = state.progress, plan.output.path
    part = f" and {progress.step} steps" if progress.step else ""
    Output().note(
        f"interrupted after {progress.epoch}{part} of {plan.config.training.epochs} epochs;"
        f" saved {path}\nnext  {write_command(request, 'train', '--resume', str(path))}"
    )
