"""Keeps a run while it trains: shows it, writes its states down, and scores it at the end."""

from __future__ import annotations

import logging
import time

from mnistcli.checkpoints.record import ProgressRecord, Record, RunningState, TestScore, TrialMark
from mnistcli.checkpoints.run_state import Progress, RunState
from mnistcli.commands.signals import StopRequest
from mnistcli.commands.train.run_plan import Plan, Request
from mnistcli.metrics.scores import LossSpec, Score, evaluate_logits
from mnistcli.models.numpy_inference import run_network
from mnistcli.models.regularization import compute_penalty
from mnistcli.output.progress import EpochDisplay, format_metrics
from mnistcli.output.results import (
    DatasetResult,
    EpochResult,
    SecondsResult,
    TestResult,
    TrainResult,
)
from mnistcli.output.terminal import SHOWN, Output
from mnistcli.training.callbacks import Live

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
            trial=self.trial,
        )
