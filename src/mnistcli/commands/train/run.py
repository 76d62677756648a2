"""Runs a training: writes its checkpoints, scores it on the test set, and returns the result."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.record import Record, TestSetScore, TrialMark, make_record
from mnistcli.checkpoints.run_state import Progress, RunState, hash_weights
from mnistcli.commands.train.build_trainer import build_trainer
from mnistcli.commands.train.prepare import check_tensorboard, prepare_run
from mnistcli.commands.train.request import RunPlan, TrainArguments
from mnistcli.errors import DivergenceError, ResourceError
from mnistcli.metrics.losses import LossSpec
from mnistcli.metrics.scores import Score, evaluate_logits, find_absurd_loss, find_chance_accuracy
from mnistcli.models.numpy_inference import compute_penalty, run_network
from mnistcli.output.logs import SHOWN, announce, note, suppress_notes, warn
from mnistcli.output.progress import EpochDisplay, SilentEpochs, format_metrics, open_epoch_display
from mnistcli.output.results import (
    DatasetResult,
    EpochResult,
    SecondsResult,
    TrainResult,
)
from mnistcli.output.tables import describe_early_stopping, describe_progress
from mnistcli.output.terminal import ProgressMode, format_command
from mnistcli.signals import SignalReceived, StopRequest
from mnistcli.tensorflow_import import load_backend
from mnistcli.training.callbacks import BatchProgress, Callback
from mnistcli.training.tensorboard_writer import TensorBoardCallback

if TYPE_CHECKING:
    from mnistcli.training.trainer import Trainer

MIN_STEPS = 100  # fewer may leave any network near chance
_LOG = logging.getLogger(__name__)


class TrainingInterrupted(SignalReceived):
    """A signal has stopped a run, which is saved.

    Attributes:
        plan: the run.
        progress: how far it has come.
        skipped_seeds: of the runs that were to follow, under `--repeat`.
    """

    def __init__(self, number: int, plan: RunPlan, progress: Progress) -> None:
        super().__init__(number)
        self.plan, self.progress = plan, progress
        self.skipped_seeds: tuple[int, ...] = ()

    def __str__(self) -> str:
        training, path = self.plan.config.training, self.plan.output.path
        where = describe_progress(
            self.progress.epoch, self.progress.step, training.epochs, self.plan.step_count
        )
        return f"interrupted {where}; saved {path}"


def prepare_and_train(
    arguments: TrainArguments,
    callbacks: Sequence[Callback] = (),
    progress: ProgressMode = "none",
) -> TrainResult:
    """Train a new run or resume one, write its checkpoints, and score it on the test set.

    Args:
        arguments: what the run is asked for.
        callbacks: called before those that write files.
        progress: how downloads are shown.

    Raises:
        MnistcliError: the run cannot begin, diverges, or cannot be written.
        TrainingInterrupted: a signal has stopped it; it is saved.
    """
    check_tensorboard(arguments)
    with RunLock() as lock:
        plan = prepare_run(arguments, lock, progress)
        if (finished := _find_finished_run(plan)) is not None:
            path = str(plan.output.path)
            more = format_command(
                "train", "--resume", path, "--more", "10", data_dir=arguments.data_dir
            )
            note(f"nothing left to do: {path} ended after epoch {finished.epochs}")
            note(f"more  {more}")
            return finished
        with _translate_worker_errors(plan):
            return run_training(plan, callbacks)


def train_as_worker(arguments: TrainArguments) -> None:
    """Train a run together with the chief, which writes and answers.

    Raises:
        ResourceError: another worker did not come, or is gone.
        UsageError: another worker was started with another run.
        DivergenceError: as the chief's.
        SignalReceived: a signal has stopped the run, on this worker or another.
    """
    assert arguments.cluster is not None
    number, last = arguments.cluster.number, len(arguments.cluster.addresses) - 1
    note(f"worker {number} of 0 to {last}: worker 0 shows, writes and answers")
    with suppress_notes(), RunLock() as lock:
        plan = prepare_run(arguments, lock)
        if _find_finished_run(plan) is not None:
            return
        trainer = build_trainer(plan)
        with _translate_worker_errors(plan):
            with StopRequest() as stop:
                state = trainer.fit([SignalCallback(stop)])
            _log_weights(state)
            # The second one waits until the chief has written everything.
            received = _gather_signal(trainer, stop) or trainer.strategy.all_gather(0)[0]
    if received:
        raise SignalReceived(received)


def run_training(plan: RunPlan, callbacks: Sequence[Callback] = ()) -> TrainResult:
    """Train a planned run, write its checkpoints, and score it on the test set.

    Args:
        plan: the run.
        callbacks: called before those that write files.

    Raises:
        DivergenceError: the loss or the weights are no longer finite.
        ResourceError: files cannot be written.
        TrainingInterrupted: a signal has stopped the run, which is saved.
        SignalReceived: a signal has come when the run diverged.
    """
    writer, tensorboard = CheckpointWriter(plan), _make_tensorboard(plan)
    trainer = build_trainer(plan)
    with StopRequest() as stop:
        # TensorBoard's files are named after the checkpoint, so they are written after it.
        others = (plan.xla_cache, writer, tensorboard, SignalCallback(stop, plan))
        try:
            state = trainer.fit([*callbacks, *filter(None, others)])
        except DivergenceError as error:
            hint = f"{error.hint}; {plan.output.path} holds epoch {writer.saved_epoch}"
            diverged = DivergenceError(error.where, error.what, hint)
            if stop.received is None:
                raise diverged from error
            raise SignalReceived(stop.received) from diverged
    _log_weights(state)
    if (number := _gather_signal(trainer, stop)) is not None:
        raise TrainingInterrupted(number, plan, state.progress)
    if state.callbacks.early_stopping is not None:
        note(describe_early_stopping(state.callbacks.early_stopping, state.progress))
    try:
        result = writer.write_score(state)
    except SignalReceived as received:
        _wait_for_workers(trainer, plan, received.number)
        raise TrainingInterrupted(received.number, plan, state.progress) from None
    if writer.symptom is not None:
        rate = plan.config.training.optimizer.learning_rate
        warn(
            f"training seems to have failed: {writer.symptom}. Likely causes: a learning rate"
            f" ({rate:g}) too high or too low, or labels that do not belong to their"
            " images"
        )
    if tensorboard is not None:
        tensorboard.write_score(state, result.test.loss, result.test.accuracy)
    _wait_for_workers(trainer, plan)
    return result


class CheckpointWriter(Callback):
    """Writes the checkpoints of a run, like `keras.callbacks.ModelCheckpoint`.

    Args:
        plan: the run.
        keeps_best: whether the best model gets a file of its own.

    Attributes:
        saved_epoch: epochs completed in the last checkpoint; None without one.
        symptom: what shows that the network has not learned, once it is scored.
        trial: recorded in the checkpoints of a sweep's trial.
    """

    def __init__(self, plan: RunPlan, *, keeps_best: bool = True) -> None:
        self._plan = plan
        self._keeps_best = keeps_best
        self._environment = plan.describe_environment()
        self._begin_s = time.monotonic()
        record = plan.start.record if plan.start else None
        self._elapsed_before_s = record.progress.elapsed_s if record else 0.0
        self._saved_best_epoch = 0
        self.saved_epoch = record.progress.epoch if record else None
        self.symptom: str | None = None
        self.trial: TrialMark | None = None

    def on_checkpoint(self, state: RunState, best: RunState | None) -> None:
        """Write the best model where it is a new one, then the run.

        In this order: a run that is killed in between is resumed from before its best epoch, and
        comes to it again.
        """
        is_new = best is not None and best.progress.best_epoch != self._saved_best_epoch
        if best is not None and is_new and self._keeps_best:
            with self._name_last_checkpoint():
                self._plan.output.write_best(best, self._record(best))
            self._saved_best_epoch = best.progress.best_epoch
        self._write(state, self._find_score(state))

    def _write(self, state: RunState, test: TestSetScore | None) -> Record:
        """Write the run, and return what is recorded of it."""
        record = self._record(state, test)
        with self._name_last_checkpoint():
            self._plan.output.write(state, record)
        self.saved_epoch = state.progress.epoch
        return record

    @contextlib.contextmanager
    def _name_last_checkpoint(self) -> Iterator[None]:
        """Say what there is to go on from, where a file cannot be written."""
        try:
            yield
        except ResourceError as error:
            path = self._plan.output.path
            if self.saved_epoch is None or not path.exists():
                raise
            hint = f"{error.hint}; {path} holds epoch {self.saved_epoch}"
            raise ResourceError(error.where, error.what, hint) from error

    def _find_score(self, state: RunState) -> TestSetScore | None:
        """Keep the score of a run that is resumed, for as long as the file holds its weights."""
        start = self._plan.start
        if start is None or start.record is None or state is not start.state:
            return None
        is_same = start.record.dataset.sha256 == self._plan.dataset.identity.sha256
        return start.record.test if is_same else None

    def write_score(self, state: RunState) -> TrainResult:
        """Score the run on the test set, write the score down, and return the result."""
        plan = self._plan
        score, self.symptom = score_run(plan, state)
        loss = math.nan if score.loss is None else score.loss
        test = TestSetScore(count=score.count, loss=loss, accuracy=score.accuracy)
        record = self._write(state, test)
        return _describe_run(plan, record, state.progress, test)

    def _elapsed_s(self) -> float:
        """Wall time spent on the run, earlier parts of a resumed one included."""
        return self._elapsed_before_s + time.monotonic() - self._begin_s

    def _record(self, state: RunState, test: TestSetScore | None = None) -> Record:
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


def _find_finished_run(plan: RunPlan) -> TrainResult | None:
    """Return the result of a run to resume that has nothing left to do; None for every other."""
    start = plan.start
    if start is None or start.record is None or start.state is None or start.is_changed:
        return None
    record, progress = start.record, start.state.progress
    stopping = start.state.callbacks.early_stopping
    is_over = progress.epoch >= plan.config.training.epochs
    is_over = is_over or (stopping is not None and stopping.is_stopped)
    is_same = record.dataset.sha256 == plan.dataset.identity.sha256
    if not is_over or not is_same or record.test is None:  # a killed run may have no score yet
        return None
    result = _describe_run(plan, record, progress, record.test)
    return result.model_copy(update={"is_finished_before": True})


def _describe_run(
    plan: RunPlan, record: Record, progress: Progress, test: TestSetScore
) -> TrainResult:
    identity, elapsed_s = plan.dataset.identity, record.progress.elapsed_s
    has_best = plan.selects_best and plan.output.best_path.exists()
    return TrainResult(
        checkpoint=str(plan.output.path),
        best_checkpoint=str(plan.output.best_path) if has_best else None,
        dataset=DatasetResult(name=identity.name, sha256=identity.sha256),
        epochs=progress.epoch,
        stopped_early=record.is_stopped_early,
        weights_epoch=record.weights_epoch,
        metrics=progress.find_metrics(record.weights_epoch),
        history=progress.history,
        test=test,
        seconds=SecondsResult(total=elapsed_s, per_epoch=progress.warm_epoch_s),
    )


def score_run(plan: RunPlan, state: RunState) -> tuple[Score, str | None]:
    """Evaluate on the test set as `mnistcli evaluate` does, so that both give the same numbers.

    Returns:
        The score, and what shows that the network has not learned, if anything does.

    Raises:
        DivergenceError: the network's outputs are not finite.
    """
    test, weights = plan.dataset.test, state.network.weights
    logits = run_network(plan.architecture, weights, test.images, plan.preprocessing)
    if not np.isfinite(logits).all():
        what = "the network's outputs for the test set are not finite"
        raise DivergenceError(str(plan.output.path), what, "lower the learning rate")
    training, names = plan.config.training, plan.dataset.info.class_names
    loss = LossSpec(training.loss, label_smoothing=training.label_smoothing)
    penalty = compute_penalty(plan.architecture, weights)
    score = evaluate_logits(logits, test.labels, plan.architecture.head, loss, names, penalty)
    symptom = find_absurd_loss(score, loss, penalty)
    steps = state.progress.epoch * len(plan.train) / training.batch_size
    if symptom is None and steps >= MIN_STEPS:
        symptom = find_chance_accuracy(score)
    return score, symptom


class EpochResults(Callback):
    """Passes the result of each epoch to a function.

    Args:
        report: called with it.
    """

    def __init__(self, report: Callable[[EpochResult], None]) -> None:
        self._report = report
        self._epochs = 0

    def on_train_begin(self, trainer: Trainer) -> None:
        """Keep the total number of epochs."""
        self._epochs = trainer.config.training.epochs

    def on_epoch_end(self, progress: Progress) -> None:
        """Pass the epoch's result on."""
        self._report(
            EpochResult(
                epoch=progress.epoch,
                epochs=self._epochs,
                metrics=progress.last_metrics,
                seconds=progress.epoch_durations_s[-1],
            )
        )


class ProgressDisplay(Callback):
    """Shows a run on stderr, and logs each epoch; to be closed where an error may end the run.

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
        """Update the bar."""
        share = progress.step / progress.step_count
        self._display.show_batch(progress.epoch, share, progress.metrics)

    def on_epoch_end(self, progress: Progress) -> None:
        """Show a completed epoch."""
        metrics, duration_s = progress.last_metrics, progress.epoch_durations_s[-1]
        line = f"epoch {progress.epoch}: {format_metrics(metrics)}, {duration_s:.3f} s"
        _LOG.info(line, extra=SHOWN)
        self._display.show_epoch(progress.epoch, metrics, duration_s)

    def on_train_end(self, state: RunState) -> None:  # noqa: ARG002
        """Leave the terminal as it was."""
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._display.close()


class SignalCallback(Callback):
    """Stops a run once a signal that stops has come, and has it saved after SIGUSR1.

    Args:
        stop: receives signals.
        plan: of a run whose checkpoints are written, by a callback that is called before.
    """

    def __init__(self, stop: StopRequest, plan: RunPlan | None = None) -> None:
        self._stop, self._plan = stop, plan

    def should_stop(self) -> bool:
        """Return whether a signal that stops has come."""
        return self._stop.received is not None

    def should_save(self) -> bool:
        """Return whether SIGUSR1 has come."""
        return self._stop.wants_save

    def on_checkpoint(self, state: RunState, best: RunState | None) -> None:  # noqa: ARG002
        """Say that the run has been saved, where that was asked for."""
        if self._stop.wants_save and self._plan is not None:
            progress, epochs = state.progress, self._plan.config.training.epochs
            step = f", step {progress.step} of the next" if progress.step else ""
            where = f"after epoch {progress.epoch} of {epochs}{step}"
            announce(f"saved {self._plan.output.path} {where}, as SIGUSR1 asks; goes on")
        self._stop.wants_save = False


def _make_tensorboard(plan: RunPlan) -> TensorBoardCallback | None:
    """Return what writes for TensorBoard, where that is asked for."""
    if plan.tensorboard is None:
        return None
    return TensorBoardCallback(
        plan.tensorboard,
        lambda: plan.output.path.stem,
        plan.dataset,
        plan.validation,
        plan.architecture,
        plan.preprocessing,
    )


@contextlib.contextmanager
def _translate_worker_errors(plan: RunPlan) -> Iterator[None]:
    """Raise ResourceError where another worker is gone; a single process pays nothing for it."""
    if plan.cluster is None:
        yield
        return
    load_backend()  # first: two threads cannot import TensorFlow side by side
    from mnistcli.training.distributed import strategies

    with strategies.translate_worker_errors(plan.cluster):
        yield


def _gather_signal(trainer: Trainer, stop: StopRequest) -> int | None:
    """Return the signal that has come to this worker or to another; the same for all."""
    found = trainer.strategy.all_gather(stop.received or 0)
    return next((number for number in found if number), None)


def _wait_for_workers(trainer: Trainer, plan: RunPlan, number: int = 0) -> None:
    """Let the other workers end, once everything is written; ignore those that are gone by now.

    Args:
        trainer: of the run.
        plan: of the run.
        number: of the signal that ended it while it was scored; 0 for none.
    """
    with contextlib.suppress(ResourceError), _translate_worker_errors(plan):
        trainer.strategy.all_gather(number)


def _log_weights(state: RunState) -> None:
    """Log which weights a worker ends with: all have the same."""
    _LOG.info("weights: sha256 %s", hash_weights(state.network.weights))
