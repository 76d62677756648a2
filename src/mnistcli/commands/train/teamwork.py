"""Several processes train one run: what each but the first does, and that all mean the same run."""

from __future__ import annotations

import contextlib
import logging
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from mnistcli.checkpoints.run_comparison import hash_weights
from mnistcli.checkpoints.run_state import Progress, RunState
from mnistcli.commands.signals import StopRequest
from mnistcli.commands.train.build_trainer import build_training
from mnistcli.commands.train.run_plan import Plan, Request
from mnistcli.errors import ResourceError, UsageError
from mnistcli.output.terminal import Output
from mnistcli.training.distributed.cluster import VARIABLE

if TYPE_CHECKING:
    from mnistcli.training.callbacks import Live
    from mnistcli.training.trainer import Training

_LOG = logging.getLogger(__name__)


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
