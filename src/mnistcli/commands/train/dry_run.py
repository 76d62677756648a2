"""`train --dry-run`: the network that would be trained, and what it would take."""

from __future__ import annotations

import time
from dataclasses import asdict

from mnistcli.commands.summary import summarize_plan
from mnistcli.commands.train.build_trainer import measure_run
from mnistcli.commands.train.request import Plan, Request
from mnistcli.models.memory import format_bytes, read_available_memory
from mnistcli.output.results import DryRunResult, EstimatedSecondsResult, MemoryResult
from mnistcli.output.tables import describe_time
from mnistcli.output.terminal import Output, emit


def show_plan(plan: Plan, request: Request, console: Output) -> None:
    """Show what a run would train, need and write; some steps are taken, and nothing is kept."""
    summary = summarize_plan(plan.architecture)
    available, seconds = read_available_memory(), _estimate_seconds(plan)
    memory = MemoryResult(**asdict(plan.memory), total=plan.memory.total, available=available)
    as_json = request.json or request.jsonl
    result = DryRunResult(**dict(summary), memory=memory, seconds=seconds)
    emit(result, "json" if as_json else "text")
    if as_json:
        return
    rest = "" if available is None else f"; {format_bytes(available)} are available"
    console.note(f"needs {plan.memory.describe()}{rest}")
    if plan.placement == "streamed":
        console.note("streams the training set: the same bits, in less memory")
    limit = "at most " if plan.config.training.early_stopping is not None else ""
    console.note(f"takes {limit}{describe_time(seconds)}")
    training = plan.config.training
    console.note(
        f"would train {training.epochs} epochs of {len(plan.train):,} images"
        f" in batches of {training.batch_size} and write {plan.output.path}"
    )


def _estimate_seconds(plan: Plan) -> EstimatedSecondsResult:
    """Measure a piece of the run."""
    begin_s = time.perf_counter()
    pace = measure_run(plan)
    startup_s = time.perf_counter() - begin_s - pace.measuring_s
    done = plan.start.progress.epoch if plan.start is not None else 0
    return EstimatedSecondsResult(
        total=startup_s + pace.epoch_s * (plan.config.training.epochs - done),
        startup=startup_s,
        per_epoch=pace.epoch_s,
        measured_steps=pace.step_count,
    )
