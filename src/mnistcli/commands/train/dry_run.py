"""`train --dry-run`: the network that would be trained, the memory and the time that it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnistcli.available_memory import read_available_memory
from mnistcli.checkpoints.lock import RunLock
from mnistcli.commands.summary import summarize_plan
from mnistcli.commands.train.build_trainer import load_strategy
from mnistcli.commands.train.prepare import (
    check_tensorboard,
    prepare_run,
    require_single_worker,
)
from mnistcli.commands.train.request import OutputFile, RunPlan, TrainArguments
from mnistcli.errors import pluralize
from mnistcli.models.memory import format_bytes
from mnistcli.output.results import DryRunResult, EstimatedSecondsResult, MemoryResult
from mnistcli.output.tables import describe_time
from mnistcli.output.terminal import ProgressMode

if TYPE_CHECKING:
    from mnistcli.training.distributed.strategies import Epoch

MEASURED_S = 0.5


@dataclass(frozen=True)
class DryRun:
    """What would be trained.

    Attributes:
        result: network, memory and time.
        plan: the run, or the first of several.
        outputs: the files of the runs that would follow it.
    """

    result: DryRunResult
    plan: RunPlan
    outputs: Sequence[OutputFile] = ()

    def describe(self) -> Iterator[str]:
        """Yield lines that say what the run needs, takes, and would write."""
        plan, training = self.plan, self.plan.config.training
        available = self.result.memory.available
        rest = "" if available is None else f"; {format_bytes(available)} are available"
        yield f"needs {plan.memory.describe()}{rest}"
        if plan.placement == "streamed":
            yield "streams the training set: the same bits, in less memory"
        limit = "at most " if training.early_stopping is not None else ""
        yield f"takes {limit}{describe_time(self.result.seconds)}"
        yield (
            f"would train {pluralize(training.epochs, 'epoch')} of"
            f" {pluralize(len(plan.train), 'image')} in batches of {training.batch_size}"
            f" and write {plan.output.path}"
        )
        if self.outputs:
            files = ", ".join(str(output.path) for output in self.outputs)
            yield f"and so on to seed {training.seed + len(self.outputs)}: {files}"


def dry_run(arguments: TrainArguments, progress: ProgressMode = "none") -> DryRun:
    """Check everything, and estimate what a run would take; nothing is written.

    Args:
        arguments: of the run, with `dry_run`.
        progress: how downloads are shown.

    Raises:
        MnistcliError: the run could not begin.
    """
    check_tensorboard(arguments)
    require_single_worker("--dry-run", arguments)
    with RunLock() as lock:
        plan = prepare_run(arguments, lock, progress)
    return DryRun(estimate_run(plan), plan)


def estimate_run(plan: RunPlan) -> DryRunResult:
    """Return what a run would take; some of its steps are timed."""
    summary = summarize_plan(plan.architecture)
    available, seconds = read_available_memory(), _estimate_seconds(plan)
    memory = MemoryResult(**dict(plan.memory), available=available)
    return DryRunResult(**dict(summary), memory=memory, seconds=seconds)


@dataclass(frozen=True)
class _Timing:
    """What was measured.

    Attributes:
        epoch_s: of one epoch, validation included; extrapolated from the steps.
        step_count: steps that were measured.
        measuring_s: what the measuring took, without building and compiling.
    """

    epoch_s: float
    step_count: int
    measuring_s: float


def _estimate_seconds(plan: RunPlan) -> EstimatedSecondsResult:
    begin_s = time.perf_counter()
    timing = _time_run(plan)
    startup_s = time.perf_counter() - begin_s - timing.measuring_s
    done = plan.start.progress.epoch if plan.start is not None else 0
    return EstimatedSecondsResult(
        total=startup_s + timing.epoch_s * (plan.config.training.epochs - done),
        startup=startup_s,
        per_epoch=timing.epoch_s,
        measured_steps=timing.step_count,
    )


def _time_run(plan: RunPlan) -> _Timing:
    """Time steps on weights that are thrown away, and the validation."""
    strategy = load_strategy(plan)
    from mnistcli.training.compile_model import compile_network, initialize_network

    training = plan.config.training
    with strategy.scope():
        network = initialize_network(
            plan.architecture, plan.config.model, training.seed, training.precision
        )
        compile_network(network, training)
    epoch = strategy.make_epoch(network, plan.train, plan.preprocessing, training)
    epoch.compile(lambda: False)
    validation_s = 0.0
    if plan.validation is not None:
        validation = strategy.make_validation(
            network, plan.validation, plan.preprocessing, training.loss
        )
        validation.evaluate()  # compiles it
        begin_s = time.perf_counter()
        validation.evaluate()
        validation_s = time.perf_counter() - begin_s
    steps, steps_s = _time_steps(epoch)
    epoch_s = steps_s / steps * epoch.step_count + validation_s
    return _Timing(epoch_s, steps, steps_s + validation_s)


def _time_steps(epoch: Epoch) -> tuple[int, float]:
    """Run chunks of epochs, each twice as long as the last; return the steps and the seconds."""
    steps = number = lo = 0
    size = 1
    epoch.set_epoch(number)
    begin_s = time.perf_counter()
    while True:
        hi = min(epoch.step_count, lo + size)
        epoch.run(lo, hi)
        steps, size = steps + hi - lo, 2 * size
        duration_s = time.perf_counter() - begin_s
        if duration_s >= MEASURED_S:
            return steps, duration_s
        lo = hi
        if hi == epoch.step_count:
            number, lo = number + 1, 0
            epoch.set_epoch(number)
            epoch.prefetch_epoch(number + 1)
