"""Watches a trial: tells Optuna of its epochs, and hands in what it comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mnistcli.checkpoints.record import TrialMark, TrialState
from mnistcli.checkpoints.run_state import Progress, RunState
from mnistcli.commands.signals import StopRequest
from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.program_shelf import ProgramShelf
from mnistcli.commands.train.run_keeper import RunKeeper
from mnistcli.commands.train.run_plan import Request
from mnistcli.output.terminal import Output

if TYPE_CHECKING:
    from mnistcli.commands.sweep.trial_queue import Claim, Desk
    from mnistcli.training.callbacks import Live


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
