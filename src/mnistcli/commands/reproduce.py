"""Joins what a reproduction needs: the record's plan, a second training, the comparison."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from mnistcli.checkpoints.environment import describe_environment, list_differences
from mnistcli.checkpoints.reader import CHANGED, Checkpoint, read_checkpoint
from mnistcli.checkpoints.record import Record
from mnistcli.checkpoints.run_comparison import compare_runs, hash_weights, list_arrays
from mnistcli.checkpoints.run_state import Progress, RunState
from mnistcli.commands.data_places import Places
from mnistcli.commands.signals import StopRequest, end_by_signal
from mnistcli.commands.train.build_trainer import build_training
from mnistcli.commands.train.prepare import with_initial_weights
from mnistcli.commands.train.request import OutputFile
from mnistcli.commands.train.run_data import check_same_data, load_recorded_data
from mnistcli.commands.train.run_plan import Plan, Request
from mnistcli.errors import CheckpointError, GateError, ResourceError
from mnistcli.output.check_results import (
    ArrayDifferenceResult,
    FailedReproduceResult,
    ReproduceResult,
)
from mnistcli.output.progress import EpochDisplay, open_epoch_display
from mnistcli.output.reports import render_reproduction
from mnistcli.output.results import DatasetResult, SecondsResult, describe_error
from mnistcli.output.terminal import Output, choose_progress
from mnistcli.output.terminal import Progress as ProgressMode
from mnistcli.training.callbacks import Live


def reproduce_run(
    path: Path, places: Places, asked: ProgressMode, *, json: bool, quiet: bool
) -> None:
    """Carry out `mnistcli reproduce`.

    Raises:
        GateError: the bits are others.
        CheckpointError, DataError, ResourceError: they cannot be compared.
    """
    progress = choose_progress(asked, silent=quiet or (json and not sys.stderr.isatty()))
    console = Output(quiet=quiet or json, progress=progress)
    checkpoint, record, state = _read_run(path)
    _check_environment(path, record)
    plan = _prepare(checkpoint, record, places, console)
    begin_s = time.monotonic()
    training = build_training(plan)
    with StopRequest() as stop:
        display = open_epoch_display(plan.config.training.epochs, 0, progress)
        try:
            again = training.fit(_Watcher(display, stop))
        finally:
            display.close()
    if stop.received is not None:
        end_by_signal(stop.received)
    answer = _compare(checkpoint, plan, state, again, time.monotonic() - begin_s)
    _show(answer, console, json=json, quiet=quiet)


class _Watcher:
    """Observes a run and keeps nothing of it."""

    def __init__(self, display: EpochDisplay, stop: StopRequest) -> None:
        self._display, self._stop = display, stop

    def is_stopping(self) -> bool:
        """Stop once a signal has come."""
        return self._stop.received is not None

    def on_piece(self, live: Live) -> None:
        """Show how far the epoch has come."""
        self._display.show_piece(live.epoch, live.step / live.step_count, live.metrics)

    def on_epoch(self, progress: Progress) -> None:
        """Show a completed epoch."""
        metrics = {name: values[-1] for name, values in progress.history.items()}
        self._display.show_epoch(progress.epoch, metrics, progress.epoch_durations_s[-1])

    def on_state(self, state: RunState, best: RunState | None) -> None:
        """Let it go: nothing is written."""


def _read_run(path: Path) -> tuple[Checkpoint, Record, RunState]:
    """Read a run that stands between two epochs; CheckpointError where the file holds none."""
    checkpoint = read_checkpoint(path, "all")
    record, state = checkpoint.record, checkpoint.state
    if record is None or state is None:
        what = CHANGED if checkpoint.is_changed else "no run of mnistcli's to train again"
        hint = "only a file as mnistcli wrote it says how it was made"
        raise CheckpointError(str(path), what, hint)
    progress = checkpoint.progress
    if progress.step > 0:
        what = (
            f"saved in the middle of epoch {progress.epoch + 1}, after {progress.step} of its"
            " steps: nothing in it stands at the end of an epoch, where runs can be compared"
        )
        hint = f"finish it first: mnistcli train --resume {path}"
        raise CheckpointError(str(path), what, hint)
    return checkpoint, record, state


def _check_environment(path: Path, record: Record) -> None:
    """Refuse to compare where other bits would prove nothing; ResourceError."""
    present = describe_environment(record.environment.threads, record.environment.devices)
    if differences := list_differences(record.environment, present):
        what = f"its bits cannot be compared here: {', '.join(differences)}"
        hint = "reproduce it with the versions, processor and settings that it was made with"
        raise ResourceError(str(path), what, hint)


def _prepare(checkpoint: Checkpoint, record: Record, places: Places, console: Output) -> Plan:
    """Plan the run again as its record says, up to the epoch where the file stands."""
    training = record.config.training.model_copy(update={"epochs": record.progress.epoch})
    config = record.config.model_copy(update={"training": training})
    devices = record.environment.devices
    request = Request(data_dir=places.directory, own_data=places.own, devices=devices)
    plan = load_recorded_data(config, request, console, OutputFile.nowhere())
    check_same_data(plan, record, checkpoint.path)
    plan = replace(plan, threads=record.environment.threads)
    return plan if record.init_from is None else _begin_elsewhere(plan, record, checkpoint.path)


def _begin_elsewhere(plan: Plan, record: Record, path: Path) -> Plan:
    """Start from the weights that the run started from; CheckpointError where they are gone."""
    named = Path(str(record.init_from))
    source = next((p for p in (named, path.parent / named) if p.is_file()), None)
    if source is None:
        what = f"it began with the weights of {named}, which is not there"
        raise CheckpointError(str(path), what, "put that checkpoint back where it was")
    initial = read_checkpoint(source)
    if hash_weights(initial.weights) != record.init_weights_sha256:
        what = f"it began with other weights than those that {source} holds now"
        raise CheckpointError(str(path), what, "put the checkpoint back as it was then")
    return with_initial_weights(plan, initial)


def _compare(
    checkpoint: Checkpoint, plan: Plan, first: RunState, second: RunState, duration_s: float
) -> ReproduceResult:
    """Put the two runs side by side."""
    arrays, identity = list_arrays(first), plan.dataset.identity
    differences = tuple(
        ArrayDifferenceResult(**asdict(difference))
        for difference in compare_runs(arrays, list_arrays(second))
    )
    return ReproduceResult(
        checkpoint=str(checkpoint.path),
        dataset=DatasetResult(name=identity.name, sha256=identity.sha256),
        epochs=second.progress.epoch,
        same=not differences,
        arrays=len(arrays),
        differences=differences,
        seconds=SecondsResult(total=duration_s, per_epoch=second.progress.warm_epoch_s),
    )


def _show(answer: ReproduceResult, console: Output, *, json: bool, quiet: bool) -> None:
    """Print the answer in the form that was asked for; GateError where the bits are others."""
    failure = None
    if not answer.same:
        failure = GateError(
            answer.checkpoint,
            f"{len(answer.differences)} of {answer.arrays} arrays have other bits",
            "something that no record tells of was different: the file was written by"
            " --force, or this machine is not reliable",
        )
    if json and failure is not None:
        error = describe_error(failure)
        console.print_json(FailedReproduceResult(**dict(answer), error=error))
    elif json:
        console.print_json(answer)
    elif quiet:
        console.print_line("same" if answer.same else "different")
    else:
        console.print_table(*render_reproduction(answer))
    if failure is not None:
        raise failure
