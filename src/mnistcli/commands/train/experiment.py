"""Joins what a training run needs: plan, network, display, checkpoints, the final score."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.run_state import RunState
from mnistcli.commands.signals import Stopped, StopRequest, end_by_signal
from mnistcli.commands.train.build_trainer import build_training
from mnistcli.commands.train.dry_run import show_plan
from mnistcli.commands.train.next_command import write_command
from mnistcli.commands.train.prepare import prepare_run
from mnistcli.commands.train.run import check_directory, open_board
from mnistcli.commands.train.run_keeper import RunKeeper
from mnistcli.commands.train.run_plan import Plan, Request
from mnistcli.commands.train.teamwork import (
    explain_loss,
    follow_plan,
    log_weights,
    open_follower_output,
    refuse_together,
    take_leave,
)
from mnistcli.errors import DivergenceError
from mnistcli.output.progress import open_epoch_display
from mnistcli.output.results import TrainResult
from mnistcli.output.tables import render_stopping, render_train
from mnistcli.output.terminal import Output, choose_progress, report_error

_LOG = logging.getLogger(__name__)


def run_experiment(request: Request) -> None:
    """Carry out `mnistcli train`; every way in which it can fail is a MnistcliError."""
    with RunLock() as lock:
        received = _run_locked(request, lock)
    if received is not None:
        end_by_signal(received)


def _run_locked(request: Request, lock: RunLock) -> int | None:
    """Train, and return the signal that ended it early."""
    console = open_follower_output(request) if request.follows else open_output(request)
    if request.tensorboard is not None and not request.follows:
        check_directory(request.tensorboard)
    if request.dry_run:
        refuse_together("--dry-run", request)
    plan = prepare_run(request, console, lock)
    if request.follows:
        return follow_plan(plan)
    if request.dry_run:
        show_plan(plan, request, console)
        return None
    with explain_loss(plan):
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
    keeper = RunKeeper(plan, request, console)
    training = build_training(plan)
    board = open_board(request, plan, keeper, training, console)
    with StopRequest(training.exchange) as stop:
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
            if (number := stop.hear()) is None:
                raise diverged from error
            report_error(diverged)
            return Interruption(number, None)
        finally:
            keeper.display.close()
    log_weights(state)
    if (number := stop.hear()) is not None:
        return Interruption(number, state)
    if state.callbacks.early_stopping is not None:
        console.note(render_stopping(state.callbacks.early_stopping, state.progress.epoch))
    try:
        result = keeper.finish(state)
    except Stopped as stopped:  # the run itself is saved; its score is what is missing
        take_leave(training, plan, stopped.number)
        return Interruption(stopped.number, state)
    if board is not None:
        board.show_score(state, result.test)
    take_leave(training, plan)
    return result


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


def _with_way_back(error: DivergenceError, keeper: RunKeeper) -> DivergenceError:
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
