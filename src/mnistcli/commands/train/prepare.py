"""Everything about a run that can be known, checked or refused before TensorFlow is imported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shlex import quote

from mnistcli.checkpoints.environment import list_differences
from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.reader import CHANGED, Checkpoint, read_checkpoint
from mnistcli.checkpoints.run_comparison import hash_weights
from mnistcli.commands.train.extension import extend_run
from mnistcli.commands.train.request import OutputFile, choose_output, continue_output
from mnistcli.commands.train.run_data import check_same_data, load_data, load_recorded_data
from mnistcli.commands.train.run_plan import Plan, Request, describe_rest
from mnistcli.config import LoadedConfig, Override, load_config, parse_assignment
from mnistcli.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    Problem,
    UsageError,
    escape_name,
)
from mnistcli.output.terminal import Output


def prepare_run(request: Request, console: Output, lock: RunLock) -> Plan:
    """Return the plan of a new run or of one that is resumed.

    Args:
        request: the command line.
        console: hears what changed on the way.
        lock: is given the files that the run will write.

    Raises:
        UsageError, ConfigError, DataError, CheckpointError, ResourceError: it cannot begin.
    """
    writing = None if request.dry_run or request.follows else lock
    if request.resume is not None:
        return _prepare_resumed(request, request.resume, console, writing)
    if request.more is not None:
        raise UsageError("--more", "it adds epochs to a run", "name the run: --resume FILE.h5")
    if request.force:
        what = "it goes on with a run that has changed"
        raise UsageError("--force", what, "name the run: --resume FILE.h5")
    return _prepare_new(request, console, writing)


def _list_overrides(request: Request) -> Iterator[Override]:
    """Turn flags into overrides; their values are YAML like those of `--set`."""
    problems = []
    for flag, (key, text) in request.flags.items():
        if text is None:
            continue
        try:
            yield Override(key, parse_assignment(f"{key}={text}").value, flag)
        except UsageError as error:
            problems.append(Problem(flag, error.what, error.hint))
    if problems:
        raise ConfigError(problems)
    if request.own_data is not None:
        if request.flags.get("--dataset", ("", None))[1] is None:
            yield Override("dataset.name", "files", "--data")
        yield Override("dataset.path", str(request.own_data), "--data")
    for text in request.assignments:
        yield parse_assignment(text)


def load_request(request: Request, console: Output) -> LoadedConfig:
    """Return the config that a request means, and tell what it changed on the way."""
    loaded = load_config(request.source, list(_list_overrides(request)))
    for notice in loaded.notices:
        console.note(notice)
    return loaded


def _prepare_new(request: Request, console: Output, lock: RunLock | None) -> Plan:
    """Plan a run from a config."""
    config = load_request(request, console).config.with_lengths()
    chooses = config.dataset.validation not in (0.0, "test")
    output = OutputFile.nowhere() if request.follows else None
    if request.output is not None and output is None:
        output = choose_output(
            request.output, lock, overwrite=request.overwrite, writes_best=chooses
        )
    initial = None if request.init_from is None else read_checkpoint(request.init_from)
    plan = load_data(config, request, console, output)
    if lock is not None:
        plan.output.reserve(lock, with_best=plan.chooses)
    if initial is None:
        return plan
    return with_initial_weights(plan, initial)


def with_initial_weights(plan: Plan, initial: Checkpoint) -> Plan:
    """Start a run from other weights; CheckpointError where they are no such network's."""
    wanted = [weight.shape for stage in plan.architecture.walk() for weight in stage.weights]
    found = [values.shape for values in initial.weights]
    if wanted != found:
        raise CheckpointError(
            str(initial.path),
            f"its weights {found} do not fit this network's {wanted}",
            "use the config that it was trained with",
        )
    return replace(
        plan,
        initial_weights=initial.weights,
        init_from=escape_name(str(initial.path)),
        init_weights_sha256=hash_weights(initial.weights),
    )


def _prepare_resumed(request: Request, path: Path, console: Output, lock: RunLock | None) -> Plan:
    """Plan to go on with a run: its own config rules."""
    _refuse_other_flags(request)
    output = OutputFile.nowhere()
    if not request.follows:  # first: another run may be about to replace the file
        output = continue_output(path, lock)
    checkpoint = read_checkpoint(path, "all", "ours" if request.force else "foreign")
    record = checkpoint.record
    if record is None or checkpoint.state is None:
        raise _refuse_resuming(checkpoint)
    for warning in checkpoint.warnings:
        console.warn(warning)
    config = extend_run(record.config, request, record.progress.epoch)
    if rest := describe_rest(config, record.config):
        console.warn(f"{path}: {rest}")
    before = record.environment
    request = replace(request, devices=request.devices or before.devices)
    plan = load_recorded_data(config, request, console, output)
    if lock is not None:
        output.reserve(lock, with_best=plan.chooses)
    try:
        check_same_data(plan, record, path)
    except DataError as error:
        if not request.force:
            hint = f"{error.hint}, or go on with these by --force"
            raise DataError(error.where, error.what, hint) from None
        console.warn(f"{error.where}: {error.what}: going on with it by --force")
    plan = replace(plan, threads=before.threads)
    if differences := list_differences(before, plan.describe_environment()):
        console.warn(f"cannot promise the same bits: {', '.join(differences)}")
    if request.more is not None or request.flags.get("--epochs", ("", None))[1] is not None:
        checkpoint = replace(checkpoint, state=checkpoint.state.without_stop())
    return replace(
        plan,
        start=checkpoint,
        init_from=record.init_from,
        init_weights_sha256=record.init_weights_sha256,
    )


def _refuse_other_flags(request: Request) -> None:
    """A run that is resumed is what it was; UsageError."""
    given = [flag for flag, (_, text) in request.flags.items() if text is not None]
    given += ["--set"] * bool(request.assignments) + ["CONFIG"] * (request.source is not None)
    given += ["--output"] * (request.output is not None)
    given += ["--init-from"] * (request.init_from is not None)
    given += ["--overwrite"] * request.overwrite
    if foreign := [flag for flag in given if flag != "--epochs"]:
        raise UsageError(
            foreign[0],
            "a resumed run goes on in its own file with its own config",
            "give only --epochs or --more with --resume",
        )


def _refuse_resuming(checkpoint: Checkpoint) -> CheckpointError:
    """Say why there is nothing to go on with, and what can be done instead."""
    path = str(checkpoint.path)
    weights = f"from its weights: mnistcli train CONFIG --init-from {quote(path)}"
    if checkpoint.is_changed:
        hint = f"go on with it all the same by --force, or start a new run {weights}"
        return CheckpointError(path, CHANGED, hint)
    what = "no run of mnistcli's to go on with"
    return CheckpointError(path, what, f"start a new one {weights}")
