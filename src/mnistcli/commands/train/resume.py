"""Plans how a run goes on: `train --resume`, `--more` and `--force`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote

from mnistcli.checkpoints.checksum import RESTORE_HINT
from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.reader import CHANGED, Checkpoint, read_checkpoint
from mnistcli.checkpoints.record import Record, count_processors, list_differences
from mnistcli.checkpoints.run_state import RunState
from mnistcli.commands.train.prepare import load_data
from mnistcli.commands.train.request import (
    OutputFile,
    RunPlan,
    TrainArguments,
    continue_output,
    selects_best,
)
from mnistcli.config.loading import load_config
from mnistcli.config.overrides import Override
from mnistcli.config.schema import Config, Cosine, FilesConfig
from mnistcli.errors import CheckpointError, DataError, ResourceError, UsageError, pluralize
from mnistcli.output.logs import warn
from mnistcli.output.terminal import ProgressMode

MOST_THREADS = 256  # of a machine with fewer processors


def plan_resumed_run(
    arguments: TrainArguments, path: Path, lock: RunLock | None, progress: ProgressMode
) -> RunPlan:
    """Plan to go on with the run in a checkpoint, in its own file and with its own config.

    Args:
        arguments: of the command.
        path: the checkpoint.
        lock: is given the files that the run will write; None where it writes none.
        progress: how downloads are shown.

    Raises:
        CheckpointError: the file holds no run, or has changed and `force` is not given.
        DataError: the data have changed, and `force` is not given.
        UsageError: other settings are given.
        ResourceError: another run writes the file, or it is not writable.
    """
    _refuse_other_flags(arguments)
    output = OutputFile.disabled()
    if arguments.is_chief:  # first: another run may be about to replace the file
        output = continue_output(path, lock)
    checkpoint = read_checkpoint(path, "all", "ours" if arguments.force else "foreign")
    record, state = checkpoint.record, checkpoint.state
    if record is None or state is None:
        raise _make_not_resumable_error(checkpoint)
    for warning in checkpoint.warnings:
        warn(warning)
    config = _extend(record.config, arguments, record.progress.epoch)
    if rest := _describe_schedule_end(config, record.config):
        warn(f"{path}: {rest}")
    if lock is not None and selects_best(config):
        output.reserve(lock, with_best=True)
    before = record.environment
    arguments = replace(arguments, devices=arguments.devices or before.devices)
    plan = load_recorded_data(config, record, arguments, output, progress)
    _check_step(plan, record, path)
    _check_data(plan, record, path, arguments)
    if not arguments.force:
        _check_optimizer_steps(plan, state, path)
    plan = replace(plan, threads=before.threads)
    if differences := list_differences(before, plan.describe_environment()):
        warn(f"cannot promise the same bits: {', '.join(differences)}")
    if arguments.more is not None or arguments.find_override("--epochs") is not None:
        checkpoint = replace(checkpoint, state=state.without_stop())
    return replace(
        plan,
        start=checkpoint,
        init_from=record.init_from,
        init_weights_sha256=record.init_weights_sha256,
    )


def load_recorded_data(
    config: Config,
    record: Record,
    arguments: TrainArguments,
    output: OutputFile,
    progress: ProgressMode,
) -> RunPlan:
    """Load the data that a run recorded; your own images from where they are now.

    The record may name any folder of this machine: what lies there is read only where it is what
    the run was trained on, unless the user names it (`data`) or says that it has changed (`force`).

    Raises:
        UsageError: `data` is given, and the run was trained on a published data set.
        ResourceError: the run asks for more threads or devices than this machine has.
        DataError, ConfigError: as `load_data`.
    """
    most, threads = max(MOST_THREADS, count_processors()), record.environment.threads
    if threads > most:
        what = f"the run was trained with {threads} threads, this machine runs at most {most}"
        raise ResourceError("threads", what, "go on with it on a machine like its own")
    if arguments.data is not None:
        if not isinstance(config.dataset, FilesConfig):
            what = f"the run was trained on {config.dataset.name}"
            raise UsageError("--data", what, "name a folder of its files with --data-dir")
        moved = config.dataset.model_copy(update={"path": str(arguments.data)})
        config = config.model_copy(update={"dataset": moved})
    is_named = arguments.data is not None or arguments.force
    required = None if is_named else record.dataset.arrays
    return load_data(config, arguments, output, progress, required_arrays=required)


def check_same_data(plan: RunPlan, record: Record, path: Path) -> None:
    """Refuse other data than those that the run in a checkpoint was trained on; DataError."""
    identity = plan.dataset.identity
    if identity.sha256 != record.dataset.sha256:
        what = f"not the {plan.dataset.info.title} that {path} was trained on"
        flag = "--data" if isinstance(plan.config.dataset, FilesConfig) else "--data-dir"
        raise DataError(identity.location, what, f"point {flag} to the data of that run")


def _check_data(plan: RunPlan, record: Record, path: Path, arguments: TrainArguments) -> None:
    """Refuse other data than the run's, or warn of them under --force; DataError."""
    try:
        check_same_data(plan, record, path)
    except DataError as error:
        if not arguments.force:
            hint = f"{error.hint}, or go on with these by --force"
            raise DataError(error.where, error.what, hint) from None
        warn(f"{error.where}: {error.what}: going on with it by --force")


def _check_step(plan: RunPlan, record: Record, path: Path) -> None:
    """Refuse a run that stands beyond the end of an epoch; CheckpointError."""
    step, step_count = record.progress.step, plan.step_count
    if step > step_count:
        what = f"it stands after {step:,} steps of an epoch, which has {step_count:,} here"
        raise CheckpointError(str(path), what, RESTORE_HINT)


def _check_optimizer_steps(plan: RunPlan, state: RunState, path: Path) -> None:
    """Refuse a run whose optimizer has done other steps than its epochs have; CheckpointError.

    A run that --force let go on with other data may have: its epochs had another number of steps.
    """
    expected = state.progress.epoch * plan.step_count + state.progress.step
    done = int(state.network.optimizer[0].values)
    if done != expected:
        what = f"its optimizer has done {done:,} steps, its epochs have {expected:,}"
        raise CheckpointError(str(path), what, f"{RESTORE_HINT}, or go on all the same by --force")


def _extend(config: Config, arguments: TrainArguments, completed: int) -> Config:
    """Set the total number of epochs of a resumed run."""
    total, epochs = arguments.find_override("--epochs"), config.training.epochs
    if total is not None and arguments.more is not None:
        raise UsageError(
            "--more", "--epochs says the total already", "give one of --epochs and --more"
        )
    if arguments.more is not None:
        epochs = _check_epochs(Override("training.epochs", completed + arguments.more, "--more"))
    elif total is not None:
        epochs = _check_epochs(total)
        if epochs < completed:
            what = f"{epochs} is less than the {pluralize(completed, 'epoch')} done"
            raise UsageError("--epochs", what, "give a larger total, or --more N")
    training = config.training.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"training": training})


def _check_epochs(total: Override) -> int:
    """Check that a total has the bounds that it has in a config; ConfigError."""
    return load_config(None, [total]).config.training.epochs


def _describe_schedule_end(config: Config, before: Config) -> str:
    """Return a warning where a run goes on beyond its schedule; otherwise nothing."""
    schedule, epochs = config.training.schedule, config.training.epochs
    if not isinstance(schedule, Cosine) or schedule.epochs is None:
        return ""
    if epochs <= max(schedule.epochs, before.training.epochs):
        return ""
    rate = config.training.optimizer.learning_rate * schedule.alpha
    return (
        f"its cosine schedule ends after {schedule.epochs:g} epochs:"
        f" the rest train at its last learning rate, {rate:g}"
    )


def _refuse_other_flags(arguments: TrainArguments) -> None:
    """Refuse settings: a run that is resumed keeps its own; UsageError."""
    given = [override.flag for override in arguments.overrides]
    given += ["CONFIG"] * (arguments.config is not None or arguments.document is not None)
    given += ["--output"] * (arguments.output is not None)
    given += ["--init-from"] * (arguments.init_from is not None)
    given += ["--overwrite"] * arguments.overwrite
    if foreign := [flag for flag in given if flag != "--epochs"]:
        raise UsageError(
            foreign[0],
            "a resumed run goes on in its own file with its own config",
            "give only --epochs or --more with --resume",
        )


def _make_not_resumable_error(checkpoint: Checkpoint) -> CheckpointError:
    """Return the error that says why there is no run to resume, and what can be done instead."""
    path = str(checkpoint.path)
    weights = f"from its weights: mnistcli train CONFIG --init-from {quote(path)}"
    if checkpoint.is_changed:
        hint = f"go on with it all the same by --force, or start a new run {weights}"
        return CheckpointError(path, CHANGED, hint)
    what = "no run of mnistcli's to go on with"
    return CheckpointError(path, what, f"start a new one {weights}")
