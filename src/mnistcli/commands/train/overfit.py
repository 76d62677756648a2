"""`train --overfit-one-batch`: whether a network can learn at all."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.run_state import Progress, RunState
from mnistcli.commands.signals import StopRequest, end_by_signal
from mnistcli.commands.train.build_trainer import build_training
from mnistcli.commands.train.overfitting import (
    MAX_STEPS,
    Verdict,
    has_learned,
    plan_overfitting,
    take_batch,
)
from mnistcli.commands.train.prepare import load_request, with_initial_weights
from mnistcli.commands.train.request import OutputFile
from mnistcli.commands.train.run_data import load_data
from mnistcli.commands.train.run_plan import Plan, Request
from mnistcli.commands.train.teamwork import refuse_together
from mnistcli.datasets.order import draw_order
from mnistcli.errors import DivergenceError, GateError, UsageError
from mnistcli.models.architecture import plan_architecture
from mnistcli.output.check_results import FailedOverfitResult, FirstAndLastResult, OverfitResult
from mnistcli.output.reports import render_overfitting
from mnistcli.output.results import describe_error
from mnistcli.output.terminal import Output

if TYPE_CHECKING:
    from mnistcli.training.callbacks import Live

FLAG = "--overfit-one-batch"


def overfit_one_batch(request: Request) -> None:
    """Train on one batch, and say whether it was learned by heart.

    Raises:
        GateError: it was not.
        DivergenceError: the numbers are no longer finite.
        UsageError: a flag means a run that is kept.
    """
    refuse_together(FLAG, request)
    _refuse_flags(request)
    console = Output(quiet=request.quiet or request.json or request.jsonl)
    plan = _plan_batch(request, console)
    training, begin_s = build_training(plan), time.monotonic()
    console.note(f"learning {len(plan.train)} images by heart, in {MAX_STEPS:,} steps at most")
    with StopRequest() as stop:
        watcher = _Watcher(stop)
        try:
            training.fit(watcher)
        except DivergenceError as error:
            raise _name_step(error) from error
    if stop.received is not None:
        end_by_signal(stop.received)
    if plan.programs is not None:
        plan.programs.seal()  # so that the next try need not compile them again
    history = watcher.progress.history
    verdict = Verdict(len(plan.train), history["loss"], history["accuracy"])
    _show(verdict, time.monotonic() - begin_s, request, console)


class _Watcher:
    """Observes the steps, and stops once the batch is known by heart; keeps nothing."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self.progress = Progress()

    def is_stopping(self) -> bool:
        """Stop once it has learned, or a signal has come."""
        history = self.progress.history
        is_done = bool(history) and has_learned(history["loss"], history["accuracy"])
        return is_done or self._stop.received is not None

    def on_piece(self, live: Live) -> None:
        """Let it pass: it is a whole step."""

    def on_epoch(self, progress: Progress) -> None:
        """Remember how it goes; a step is an epoch here."""
        self.progress = progress

    def on_state(self, state: RunState, best: RunState | None) -> None:
        """Let it go: nothing is written."""


def _refuse_flags(request: Request) -> None:
    """Nothing is kept of it, so there is nothing to go on with, to name or to watch."""
    given = {
        "--output": request.output is not None,
        "--overwrite": request.overwrite,
        "--resume": request.resume is not None,
        "--more": request.more is not None,
        "--force": request.force,
        "--dry-run": request.dry_run,
        "--tensorboard": request.tensorboard is not None,
    }
    flag = next((flag for flag, is_given in given.items() if is_given), None)
    if flag is not None:
        raise UsageError(flag, f"{FLAG} only tries, and keeps nothing", "leave one of them out")


def _plan_batch(request: Request, console: Output) -> Plan:
    """Plan the run that was asked for, then put one batch in the place of its training set."""
    config = load_request(request, console).config
    initial = None if request.init_from is None else read_checkpoint(request.init_from)
    plan = load_data(config, request, console, OutputFile.nowhere())
    training, info = plan.config.training, plan.dataset.info
    count = len(plan.train)
    order = draw_order(training.seed, 0, count) if training.shuffle else np.arange(count)
    batch = take_batch(plan.train, order, training.batch_size)
    config = plan_overfitting(plan.config, len(batch))
    network = plan_architecture(config.model, info.image_shape, len(info.class_names))
    plan = replace(plan, config=config, architecture=network, train=batch, validation=None)
    return plan if initial is None else with_initial_weights(plan, initial)


def _name_step(error: DivergenceError) -> DivergenceError:
    """An epoch is a step here."""
    return DivergenceError(error.where.replace("epoch", "step"), error.what, error.hint)


def _show(verdict: Verdict, duration_s: float, request: Request, console: Output) -> None:
    """Print the verdict in the form that was asked for; GateError where nothing was learned."""
    answer = OverfitResult(
        learned=verdict.has_learned,
        images=verdict.images,
        steps=len(verdict.losses),
        loss=FirstAndLastResult(first=verdict.losses[0], last=verdict.losses[-1]),
        accuracy=FirstAndLastResult(first=verdict.accuracies[0], last=verdict.accuracies[-1]),
        seconds=duration_s,
    )
    failure = None
    if not verdict.has_learned:
        what = f"{verdict.images} images are not known by heart after {answer.steps} steps"
        failure = GateError(FLAG, what, verdict.suggest())
    if (request.json or request.jsonl) and failure is not None:
        console.print_json(FailedOverfitResult(**dict(answer), error=describe_error(failure)))
    elif request.json or request.jsonl:
        console.print_json(answer)
    elif request.quiet:
        console.print_line("learned" if answer.learned else "not learned")
    else:
        console.print_line(render_overfitting(answer))
    if failure is not None:
        raise failure
