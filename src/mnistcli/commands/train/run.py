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
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.record import (
    ProgressRecord,
    Record,
    RunningState,
    TestSetScore,
    TrialMark,
)
from mnistcli.checkpoints.run_state import LayerState, Progress, RunState, hash_weights
from mnistcli.commands.signals import Stopped, StopRequest, end_by_signal
from mnistcli.commands.train.build_trainer import build_training
from mnistcli.commands.train.dry_run import show_plan
from mnistcli.commands.train.prepare import prepare_run
from mnistcli.commands.train.request import Plan, Request
from mnistcli.datasets.base import Split
from mnistcli.errors import DivergenceError, ResourceError, UsageError
from mnistcli.metrics.scores import (
    LossSpec,
    Score,
    class_probabilities,
    evaluate_logits,
    find_misclassified,
)
from mnistcli.models.numpy_inference import compute_penalty, compute_probabilities, run_network
from mnistcli.output.progress import EpochDisplay, format_metrics, open_epoch_display
from mnistcli.output.results import (
    DatasetResult,
    EpochResult,
    SecondsResult,
    TestResult,
    TrainResult,
)
from mnistcli.output.tables import render_stopping, render_train
from mnistcli.output.terminal import PROGRAM, SHOWN, Output, choose_progress, report_error
from mnistcli.training.callbacks import Live
from mnistcli.training.distributed.cluster import VARIABLE
from mnistcli.training.tensorboard_writer import (
    SHEET_COLUMNS,
    SHEET_ROWS,
    EventFile,
    check_tensorboard,
    draw_misclassified,
)

if TYPE_CHECKING:
    from mnistcli.training.callbacks import Observer
    from mnistcli.training.trainer import Training


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


FLAG = "--tensorboard"
_MONITORED = "val_"


def check_directory(directory: Path) -> None:
    """Find out before a long run whether its event files can be written; nothing is made yet.

    Raises:
        ResourceError: TensorBoard is not installed, or the directory takes no files.
    """
    check_tensorboard()
    hint = f"choose another directory with {FLAG}"
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ResourceError(FLAG, f"{existing} is a file, not a directory", hint)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ResourceError(FLAG, f"{existing} is not writable", hint)


class Board:
    """Observes a run after its keeper, and writes down what TensorBoard shows.

    The run has a directory of its own, named after its checkpoint, so that many runs can share
    DIR: `train` holds what Keras' own callback writes there, `validation` the same metrics of the
    validation set, `test` the final score. Steps are completed epochs; 0 is before the first.

    Args:
        directory: DIR.
        plan: the run.
        keeper: is told everything first.
        copy_layers: returns the network's arrays as they are.
        console: hears once where nothing more can be written; the run goes on without.
    """

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        keeper: Observer,
        copy_layers: Callable[[], tuple[LayerState, ...]],
        console: Output,
    ) -> None:
        self._directory, self._plan, self._keeper = directory, plan, keeper
        self._copy_layers, self._console = copy_layers, console
        self._files: dict[str, EventFile] = {}
        self._first_step = 0
        self._has_begun = self._is_broken = False

    def is_stopping(self) -> bool:
        """Leave it to the keeper."""
        return self._keeper.is_stopping()

    def on_piece(self, live: Live) -> None:
        """Pass it on."""
        self._keeper.on_piece(live)

    def on_state(self, state: RunState, best: RunState | None) -> None:
        """Begin with the first state, once the run's file has its name."""
        self._keeper.on_state(state, best)
        if self._has_begun:
            return
        self._has_begun = True
        progress = state.progress
        self._first_step = progress.epoch + 1 if progress.epoch or progress.step else 0
        self._write(lambda: self._begin(state))
        self._console.note(f"watch  tensorboard --logdir {shlex.quote(str(self._directory))}")

    def on_epoch(self, progress: Progress) -> None:
        """Write the epoch down."""
        self._keeper.on_epoch(progress)
        self._write(lambda: self._write_epoch(progress))

    def show_score(self, state: RunState, test: TestResult) -> None:
        """Write the final score, and a sheet of test images that the network gets wrong."""
        step, scores = state.progress.epoch, {"epoch_loss": test.loss}
        scores["epoch_accuracy"] = test.accuracy
        layers, split = state.network.layers, self._plan.dataset.test
        self._write(lambda: self._open_file("test", step).write_scalars(step, scores))
        self._write(lambda: self._write_mistakes("test", step, layers, split))

    def _write(self, write: Callable[[], object]) -> None:
        """Write; a full disk ends the event files, not the run."""
        if self._is_broken:
            return
        try:
            write()
        except OSError as error:
            self._is_broken = True
            where = error.filename or self._directory
            self._console.warn(f"{where}: {error.strerror}: no more is written for TensorBoard")

    def _begin(self, state: RunState) -> None:
        """Begin a run's files; where it overwrites another, also those that it may not need."""
        if self._first_step > 0:
            self._open_file("train", self._first_step)
            return
        for name in ("train", "validation", "test"):
            if name == "train" or (self._run_directory / name).is_dir():
                self._open_file(name, 0)
        self._write_histograms(0, state.network.layers)

    @property
    def _run_directory(self) -> Path:
        """Where this run's files are, once its checkpoint has a name."""
        return self._directory / self._plan.output.path.stem

    def _open_file(self, name: str, first_step: int | None = None) -> EventFile:
        """Return the event file of a part of the run."""
        if name not in self._files:
            step = self._first_step if first_step is None else first_step
            self._files[name] = EventFile(self._run_directory / name, step)
        return self._files[name]

    def _write_epoch(self, progress: Progress) -> None:
        """Write metrics and weights; and mistakes, where a validation set shows some."""
        step, layers = progress.epoch, self._copy_layers()
        last = {name: values[-1] for name, values in progress.history.items()}
        if "learning_rate" not in last:
            last["learning_rate"] = self._plan.config.training.optimizer.learning_rate
        seen = {k: v for k, v in last.items() if not k.startswith(_MONITORED)}
        self._open_file("train").write_scalars(step, {f"epoch_{k}": v for k, v in seen.items()})
        self._write_histograms(step, layers)
        if self._plan.validation is None:
            return
        monitored = {k.removeprefix(_MONITORED): v for k, v in last.items() if k not in seen}
        scores = {f"epoch_{name}": value for name, value in monitored.items()}
        self._open_file("validation").write_scalars(step, scores)
        self._write_mistakes("validation", step, layers, self._plan.validation)

    def _write_histograms(self, step: int, layers: tuple[LayerState, ...]) -> None:
        """Write how each array's numbers are distributed, under the name that Keras gives it."""
        arrays = {f"{a.name}/histogram": a.values for layer in layers for a in layer.weights}
        self._open_file("train").write_histograms(step, arrays)

    def _write_mistakes(
        self, name: str, step: int, layers: tuple[LayerState, ...], split: Split
    ) -> None:
        """Draw the mistakes of which the network is surest; rows of numbers cannot be drawn."""
        plan = self._plan
        if len(plan.dataset.info.image_shape) == 1:
            return
        weights = tuple(array.values for layer in layers for array in layer.weights)
        logits = run_network(plan.architecture, weights, split.images, plan.preprocessing)
        probabilities = class_probabilities(compute_probabilities(plan.architecture, logits))
        mistakes = find_misclassified(probabilities, split.labels, SHEET_COLUMNS * SHEET_ROWS)
        if mistakes:
            info = plan.dataset.info
            bright = Split(info.brighten(split.images), split.labels)
            sheet = draw_misclassified(bright, mistakes, info.class_names)
            self._open_file(name).write_picture(step, "misclassified", sheet)


def open_board(
    request: Request, plan: Plan, keeper: Observer, training: Training, console: Output
) -> Board | None:
    """Return what writes for TensorBoard, where that was asked for."""
    if request.tensorboard is None:
        return None
    from mnistcli.training.network_state import copy_layers

    return Board(request.tensorboard, plan, keeper, lambda: copy_layers(training.network), console)


_LOG = logging.getLogger(__name__)


class RunKeeper:
    """Observes a run: shows it, keeps its states, and knows when to stop."""

    def __init__(self, plan: Plan, request: Request, console: Output) -> None:
        self._plan = plan
        self._console = console
        self._streams = request.jsonl
        self._environment = plan.describe_environment()
        self._begin_s = time.monotonic()
        record = plan.start.record if plan.start else None
        self._elapsed_before_s = record.progress.elapsed_s if record else 0.0
        self._saved_best_epoch = 0
        self._unsealed = plan.programs
        self.saved_epoch = 0
        self.trial: TrialMark | None = None
        self.display: EpochDisplay
        self.stop: StopRequest

    @property
    def path(self) -> str:
        """The checkpoint that the run writes."""
        return str(self._plan.output.path)

    def is_stopping(self) -> bool:
        """Stop once a signal has come, to whichever worker of the run."""
        return self.stop.hear() is not None

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

    def _find_score(self, state: RunState) -> TestSetScore | None:
        """Keep the score of a run that is resumed, for as long as the file holds its weights."""
        start = self._plan.start
        if start is None or start.record is None or state is not start.state:
            return None
        is_same = start.record.dataset.sha256 == self._plan.dataset.identity.sha256
        return start.record.test if is_same else None

    def finish(self, state: RunState) -> TrainResult:
        """Score the run on the test set, write the score down, and return the answer."""
        score = self._score(state)
        test = TestSetScore(count=score.count, loss=score.loss, accuracy=score.accuracy)
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
        training, head = plan.config.training, plan.architecture.output_activation
        loss = LossSpec(training.loss, label_smoothing=training.label_smoothing)
        penalty = compute_penalty(plan.architecture, state.network.weights)
        names = plan.dataset.info.class_names
        return evaluate_logits(logits, test.labels, head, loss, names, penalty)

    def _elapsed_s(self) -> float:
        """Wall time spent on the run, earlier parts of a resumed one included."""
        return self._elapsed_before_s + time.monotonic() - self._begin_s

    def _record(self, state: RunState, test: TestSetScore | None = None) -> Record:
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
            trial=self.trial,
        )


def refuse_together(flag: str, request: Request) -> None:
    """Refuse what is the work of one process; UsageError where several were started."""
    if request.cluster is not None:
        what = f"{VARIABLE} names {len(request.cluster.addresses)} workers, and this takes one"
        raise UsageError(flag, what, f"start it once, without {VARIABLE}")


def explain_loss(plan: Plan) -> AbstractContextManager[None]:
    """Return the context in which a worker that is gone is an error of ours."""
    if plan.cluster is None:
        return contextlib.nullcontext()
    from mnistcli.training.distributed.workers import explain_loss as explain

    return explain(plan.cluster)


def open_follower_output(request: Request) -> Output:
    """Say who answers, and return where what goes wrong is told."""
    assert request.cluster is not None
    number, addresses = request.cluster.number, request.cluster.addresses
    is_quiet = request.quiet or request.json or request.jsonl
    note = f"worker {number} of 0 to {len(addresses) - 1}: worker 0 shows, writes and answers"
    Output(quiet=is_quiet).note(note)
    return Output(quiet=True, progress="none")


def follow_plan(plan: Plan) -> int | None:
    """Train along, write and say nothing; return the signal that ended all of it early.

    Raises:
        ResourceError: another worker did not come, or is gone.
        UsageError: another worker was started with another run.
        DivergenceError: as the first worker's.
    """
    assert plan.cluster is not None
    training = build_training(plan)
    with explain_loss(plan):
        with StopRequest(training.exchange) as stop:
            state = training.fit(_Follower(stop))
        log_weights(state)
        return stop.hear() or training.exchange(0)[0] or None


def take_leave(training: Training, plan: Plan, number: int = 0) -> None:
    """Let the others end, once everything is written; who is gone by now has done its part.

    Args:
        training: the run.
        plan: of it.
        number: of the signal that ended it while it was scored; 0 for none.
    """
    with contextlib.suppress(ResourceError), explain_loss(plan):
        training.exchange(number)


def log_weights(state: RunState) -> None:
    """Write down which weights a worker ends with: all have the same."""
    _LOG.info("weights: sha256 %s", hash_weights(state.network.weights))


class _Follower:
    """Observes a run that another process keeps."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop

    def is_stopping(self) -> bool:
        """Stop once a signal has come, to whichever worker."""
        return self._stop.hear() is not None

    def on_piece(self, live: Live) -> None:
        """Let it pass: the first worker shows it."""

    def on_epoch(self, progress: Progress) -> None:
        """Let it pass."""

    def on_state(self, state: RunState, best: RunState | None) -> None:
        """Let it go: the first worker writes it."""


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
