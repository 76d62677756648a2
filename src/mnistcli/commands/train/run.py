"""Joins what a training run needs: plan, network, display, checkpoints, the final score.

Commands that are shown to be typed next.

`train --tensorboard DIR`: what TensorBoard shows of a run, written beside it as it goes.

Keeps a run while it trains: shows it, writes its states down, and scores it at the end.

Several processes train one run: what each but the first does, and that all mean the same run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.record import Record, TestSetScore, TrialMark, make_record
from mnistcli.checkpoints.run_state import Progress, RunState, hash_weights
from mnistcli.commands.signals import Stopped, StopRequest, end_by_signal
from mnistcli.commands.train.build_trainer import build_trainer
from mnistcli.commands.train.dry_run import show_plan
from mnistcli.commands.train.prepare import prepare_run
from mnistcli.commands.train.request import Plan, Request
from mnistcli.errors import DivergenceError, ResourceError, UsageError
from mnistcli.metrics.scores import (
    LossSpec,
    Score,
    evaluate_logits,
)
from mnistcli.models.numpy_inference import compute_penalty, run_network
from mnistcli.output.logs import SHOWN, report_error
from mnistcli.output.progress import EpochDisplay, SilentEpochs, format_metrics, open_epoch_display
from mnistcli.output.results import (
    DatasetResult,
    EpochResult,
    SecondsResult,
    TestResult,
    TrainResult,
)
from mnistcli.output.tables import format_train, render_stopping
from mnistcli.output.terminal import PROGRAM, Output, choose_progress
from mnistcli.output.terminal import Progress as ProgressMode
from mnistcli.tensorflow_import import load_backend
from mnistcli.training.callbacks import BatchProgress, Callback
from mnistcli.training.distributed.cluster import VARIABLE
from mnistcli.training.tensorboard_writer import TensorBoardCallback, check_tensorboard_directory

if TYPE_CHECKING:
    from mnistcli.training.trainer import Trainer


def write_command(request: Request, *words: str) -> str:
    """Write a command that works as it stands: quoted, and with the data where this run's are."""
    where = [] if request.data_dir is None else ["--data-dir", str(request.data_dir)]
    return shlex.join([_name_program(), *words, *where])


def _name_program() -> str:
    """Name this program as the user has to type it: by its path where PATH does not lead to it."""
    typed = Path(sys.argv[0])
    found = shutil.which(PROGRAM)
    if typed.name != PROGRAM or (found is not None and Path(found).samefile(typed)):
        return PROGRAM
    return os.path.relpath(typed)


_LOG = logging.getLogger(__name__)


class CheckpointWriter(Callback):
    """Writes the checkpoints of a run, like `keras.callbacks.ModelCheckpoint`.

    Args:
        plan: the run.
        keeps_best: whether the best model gets a file of its own.

    Attributes:
        saved_epoch: epochs completed in the last checkpoint.
        trial: recorded in the checkpoints of a sweep's trial.
    """

    def __init__(self, plan: Plan, *, keeps_best: bool = True) -> None:
        self._plan = plan
        self._keeps_best = keeps_best
        self._environment = plan.describe_environment()
        self._begin_s = time.monotonic()
        record = plan.start.record if plan.start else None
        self._elapsed_before_s = record.progress.elapsed_s if record else 0.0
        self._saved_best_epoch = 0
        self.saved_epoch = 0
        self.trial: TrialMark | None = None

    def on_checkpoint(self, state: RunState, best: RunState | None) -> None:
        """Write the best model where it is a new one, then the run.

        In this order: a run that is killed in between is resumed from before its best epoch, and
        comes to it again.
        """
        is_new = best is not None and best.progress.best_epoch != self._saved_best_epoch
        if best is not None and is_new and self._keeps_best:
            self._plan.output.write_best(best, self._record(best))
            self._saved_best_epoch = best.progress.best_epoch
        self._plan.output.write(state, self._record(state, self._find_score(state)))
        self.saved_epoch = state.progress.epoch

    def _find_score(self, state: RunState) -> TestSetScore | None:
        """Keep the score of a run that is resumed, for as long as the file holds its weights."""
        start = self._plan.start
        if start is None or start.record is None or state is not start.state:
            return None
        is_same = start.record.dataset.sha256 == self._plan.dataset.identity.sha256
        return start.record.test if is_same else None

    def finish(self, state: RunState) -> TrainResult:
        """Score the run on the test set, write the score down, and return the result."""
        score = score_run(self._plan, state)
        test = TestSetScore(count=score.count, loss=score.loss, accuracy=score.accuracy)
        self._plan.output.write(state, self._record(state, test))
        progress, identity = state.progress, self._plan.dataset.identity
        return TrainResult(
            checkpoint=str(self._plan.output.path),
            dataset=DatasetResult(name=identity.name, sha256=identity.sha256),
            epochs=progress.epoch,
            history=progress.history,
            test=TestResult(loss=score.loss, accuracy=score.accuracy),
            seconds=SecondsResult(total=self._elapsed_s(), per_epoch=progress.warm_epoch_s),
        )

    def _elapsed_s(self) -> float:
        """Wall time spent on the run, earlier parts of a resumed one included."""
        return self._elapsed_before_s + time.monotonic() - self._begin_s

    def _record(self, state: RunState, test: TestSetScore | None = None) -> Record:
        """Say what the run is, next to its arrays."""
        plan = self._plan
        return make_record(
            state,
            config=plan.config,
            dataset=plan.dataset.identity,
            class_names=plan.dataset.info.class_names,
            preprocessing=plan.preprocessing,
            environment=self._environment,
            elapsed_s=self._elapsed_s(),
            test=test,
            trial=self.trial,
            init_from=plan.init_from,
            init_weights_sha256=plan.init_weights_sha256,
        )


def score_run(plan: Plan, state: RunState) -> Score:
    """Evaluate on the test set as `mnistcli evaluate` does, so that both give the same numbers."""
    test, weights = plan.dataset.test, state.network.weights
    logits = run_network(plan.architecture, weights, test.images, plan.preprocessing)
    training, head = plan.config.training, plan.architecture.output_activation
    loss = LossSpec(training.loss, label_smoothing=training.label_smoothing)
    penalty = compute_penalty(plan.architecture, weights)
    return evaluate_logits(logits, test.labels, head, loss, plan.dataset.info.class_names, penalty)


class EpochStream(Callback):
    """Prints a JSON line per epoch, under `--jsonl`."""

    def __init__(self, epochs: int, console: Output) -> None:
        self._epochs, self._console = epochs, console

    def on_epoch_end(self, progress: Progress) -> None:
        """Print the epoch."""
        self._console.print_json(
            EpochResult(
                epoch=progress.epoch,
                epochs=self._epochs,
                metrics=progress.last_metrics,
                seconds=progress.epoch_durations_s[-1],
            )
        )


class ProgressDisplay(Callback):
    """Shows a run on stderr, and logs each epoch; to be closed, also after an error.

    Args:
        progress: a bar, a line per epoch, or nothing.
    """

    def __init__(self, progress: ProgressMode) -> None:
        self._progress = progress
        self._display: EpochDisplay = SilentEpochs()

    def on_train_begin(self, trainer: Trainer) -> None:
        """Show the bar."""
        epochs, completed = trainer.config.training.epochs, trainer.progress.epoch
        self._display = open_epoch_display(epochs, completed, self._progress)

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Show how far the epoch has come."""
        share = progress.step / progress.step_count
        self._display.show_batch(progress.epoch, share, progress.metrics)

    def on_epoch_end(self, progress: Progress) -> None:
        """Show a completed epoch."""
        metrics, duration_s = progress.last_metrics, progress.epoch_durations_s[-1]
        line = f"epoch {progress.epoch}: {format_metrics(metrics)}, {duration_s:.3f} s"
        _LOG.info(line, extra=SHOWN)
        self._display.show_epoch(progress.epoch, metrics, duration_s)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._display.close()


class StopOnSignal(Callback):
    """Stops a run once SIGINT or SIGTERM has come."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop

    def should_stop(self) -> bool:
        """Return whether one has come."""
        return self._stop.received is not None


def refuse_together(flag: str, request: Request) -> None:
    """Refuse what is the work of one process; UsageError where several were started."""
    if request.cluster is not None:
        what = f"{VARIABLE} names {len(request.cluster.addresses)} workers, and this takes one"
        raise UsageError(flag, what, f"start it once, without {VARIABLE}")


def translate_worker_errors(plan: Plan) -> AbstractContextManager[None]:
    """Return the context in which a worker that is gone is an error of ours."""
    if plan.cluster is None:
        return contextlib.nullcontext()
    load_backend()  # two threads that import TensorFlow at once break it
    from mnistcli.training.distributed import strategies

    return strategies.translate_worker_errors(plan.cluster)


def gather_signal(trainer: Trainer, stop: StopRequest) -> int | None:
    """Return the signal that has come to this worker or to another; the same for all."""
    found = trainer.strategy.all_gather(stop.received or 0)
    return next((number for number in found if number), None)


def open_worker_output(request: Request) -> Output:
    """Say who answers, and return where what goes wrong is told."""
    assert request.cluster is not None
    number, addresses = request.cluster.number, request.cluster.addresses
    is_quiet = request.quiet or request.json or request.jsonl
    note = f"worker {number} of 0 to {len(addresses) - 1}: worker 0 shows, writes and answers"
    Output(quiet=is_quiet).note(note)
    return Output(quiet=True, progress="none")


def run_as_worker(plan: Plan) -> int | None:
    """Train along, write and say nothing; return the signal that ended all of it early.

    Raises:
        ResourceError: another worker did not come, or is gone.
        UsageError: another worker was started with another run.
        DivergenceError: as the first worker's.
    """
    assert plan.cluster is not None
    trainer = build_trainer(plan)
    with translate_worker_errors(plan):
        with StopRequest() as stop:
            state = trainer.fit([StopOnSignal(stop)])
        log_weights(state)
        return gather_signal(trainer, stop) or trainer.strategy.all_gather(0)[0] or None


def final_barrier(trainer: Trainer, plan: Plan, number: int = 0) -> None:
    """Let the other workers end, once everything is written; ignore those that are gone by now.

    Args:
        trainer: of the run.
        plan: of the run.
        number: of the signal that ended it while it was scored; 0 for none.
    """
    with contextlib.suppress(ResourceError), translate_worker_errors(plan):
        trainer.strategy.all_gather(number)


def log_weights(state: RunState) -> None:
    """Write down which weights a worker ends with: all have the same."""
    _LOG.info("weights: sha256 %s", hash_weights(state.network.weights))


def run_experiment(request: Request) -> None:
    """Carry out `mnistcli train`; every way in which it can fail is a MnistcliError."""
    with RunLock() as lock:
        received = _run_locked(request, lock)
    if received is not None:
        end_by_signal(received)


def _run_locked(request: Request, lock: RunLock) -> int | None:
    """Train, and return the signal that ended it early."""
    console = open_worker_output(request) if request.follows else open_output(request)
    if request.tensorboard is not None and not request.follows:
        check_tensorboard_directory(request.tensorboard)
    if request.dry_run:
        refuse_together("--dry-run", request)
    plan = prepare_run(request, console, lock)
    if request.follows:
        return run_as_worker(plan)
    if request.dry_run:
        show_plan(plan, request, console)
        return None
    with translate_worker_errors(plan):
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
    writer = CheckpointWriter(plan)
    trainer = build_trainer(plan)
    board = None
    if request.tensorboard is not None:
        board = TensorBoardCallback(
            request.tensorboard,
            lambda: plan.output.path.stem,
            plan.dataset,
            plan.validation,
            plan.architecture,
            plan.preprocessing,
            console,
        )
    display = ProgressDisplay(console.progress)
    with StopRequest() as stop, contextlib.closing(display):
        # In this order: files for TensorBoard are named after the checkpoint that was written.
        callbacks: list[Callback | None] = [
            display,
            plan.programs,
            EpochStream(plan.config.training.epochs, console) if request.jsonl else None,
            writer,
            board,
            StopOnSignal(stop),
        ]
        try:
            state = trainer.fit([callback for callback in callbacks if callback is not None])
        except DivergenceError as error:
            diverged = _with_way_back(error, plan, writer)
            if stop.received is None:
                raise diverged from error
            report_error(diverged)
            return Interruption(stop.received, None)
    log_weights(state)
    if (number := gather_signal(trainer, stop)) is not None:
        return Interruption(number, state)
    if state.callbacks.early_stopping is not None:
        console.note(render_stopping(state.callbacks.early_stopping, state.progress.epoch))
    try:
        result = writer.finish(state)
    except Stopped as stopped:  # the run itself is saved; its score is what is missing
        final_barrier(trainer, plan, stopped.number)
        return Interruption(stopped.number, state)
    if board is not None:
        board.write_score(state, result.test.loss, result.test.accuracy)
    final_barrier(trainer, plan)
    return result


def _show_result(result: TrainResult, plan: Plan, request: Request, console: Output) -> None:
    """Print the answer, and on stderr where it lies and what to do with it."""
    if request.json or request.jsonl:
        console.print_json(result)
    elif request.quiet:
        console.print_line(result.checkpoint)
    else:
        console.print_line(format_train(result))
    show_saved(plan, console)
    console.note(f"next  {write_command(request, 'evaluate', result.checkpoint)}")


def show_saved(plan: Plan, console: Output) -> None:
    """Say on stderr where a run lies, and its best model where one was chosen."""
    console.note(f"saved {plan.output.path}")
    if plan.chooses and plan.output.best_path.exists():
        console.note(f"best  {plan.output.best_path}")


def _with_way_back(error: DivergenceError, plan: Plan, writer: CheckpointWriter) -> DivergenceError:
    """Name the last good state in a diverged run's error."""
    hint = f"{error.hint}; {plan.output.path} holds epoch {writer.saved_epoch}"
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
