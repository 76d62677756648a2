"""Everything about a run that can be known, checked or refused before TensorFlow is imported.

How far a resumed run is to go.

`train --print-config`: the config that a run would have, and where each value comes from.

Reads the data of a run, and plans what follows from them: shapes, memory, preprocessing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from shlex import quote

from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.reader import CHANGED, Checkpoint, read_checkpoint
from mnistcli.checkpoints.record import Record, check_run_size, count_processors, list_differences
from mnistcli.checkpoints.run_state import hash_weights
from mnistcli.commands.open_dataset import choose_splits, open_dataset
from mnistcli.commands.train.build_trainer import begin_loading
from mnistcli.commands.train.request import (
    OutputFile,
    Plan,
    Request,
    choose_output,
    continue_output,
    describe_rest,
    name_output,
)
from mnistcli.config.cross_field_rules import check_class_count
from mnistcli.config.loading import LoadedConfig, load_config
from mnistcli.config.overrides import Override, parse_assignment
from mnistcli.config.schema import Config, FilesConfig
from mnistcli.config.serialization import annotate_config, list_value_paths
from mnistcli.config.validation_errors import format_path
from mnistcli.datasets.base import BOTH_SPLITS, DatasetInfo
from mnistcli.datasets.registry import get_info, resolve_dataset
from mnistcli.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    Problem,
    UsageError,
    escape_name,
    make_printable,
)
from mnistcli.models.architecture import plan_architecture
from mnistcli.models.input_scaling import fit_preprocessing
from mnistcli.models.memory import (
    MemoryEstimate,
    Placement,
    check_memory,
    estimate_memory,
    read_available_memory,
)
from mnistcli.output.logs import suppress_notes
from mnistcli.output.results import ConfigResult
from mnistcli.output.terminal import Output


def extend_run(config: Config, request: Request, completed: int) -> Config:
    """Set the total number of epochs of a resumed run."""
    text = request.flags.get("--epochs", ("", None))[1]
    if text is not None and request.more is not None:
        raise UsageError(
            "--more", "--epochs says the total already", "give one of --epochs and --more"
        )
    epochs = config.training.epochs
    if request.more is not None:
        epochs = _check_epochs(completed + request.more, "--more")
    elif text is not None:
        epochs = _check_epochs(parse_assignment(f"epochs={text}").value, "--epochs")
        if epochs < completed:
            what = f"{epochs} is less than the {completed} epochs that are done"
            raise UsageError("--epochs", what, "give a larger total, or --more N")
    training = config.training.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"training": training})


def _check_epochs(value: object, flag: str) -> int:
    """A total has the bounds that it has in a config; ConfigError where it breaks them."""
    return load_config(None, [Override("training.epochs", value, flag)]).config.training.epochs


def print_resolved(request: Request) -> None:
    """Print the resolved config as YAML, or as JSON where that was asked for.

    Raises:
        ConfigError: there is no such config.
        UsageError: the run is a resumed one, whose config is in its checkpoint.
    """
    if request.resume is not None:
        hint = f"see the config there: mnistcli summary {request.resume} --json"
        raise UsageError("--print-config", "a resumed run has its checkpoint's config", hint)
    as_json = request.json or request.jsonl
    console = Output(quiet=request.quiet or as_json)
    loaded = load_request(request, console)
    if not as_json:
        text = annotate_config(loaded.config, loaded.tree)
        console.print_line(text.removesuffix("\n"))
        return
    origins = {
        format_path(path): make_printable(loaded.tree.describe_source(path))
        for path in list_value_paths(loaded.config)
    }
    console.print_json(ConfigResult(config=loaded.config, origins=origins))


def load_data(config: Config, request: Request, console: Output, output: OutputFile | None) -> Plan:
    """Read the data, and plan what follows from them; nothing large is held before it fits."""
    memory, placement = plan_memory(config, request)
    if placement == "streamed" and not request.streams:
        console.note("the training set does not fit into memory: it is streamed, to the same bits")
    programs = None if request.dry_run else begin_loading()
    with suppress_notes() if request.follows else nullcontext():
        dataset = open_dataset(config.dataset, BOTH_SPLITS, request.data_dir, console.progress)
    resolved = resolve_dataset(config.dataset, dataset)
    config = config.model_copy(update={"dataset": resolved})
    train, validation = choose_splits(config, dataset)
    normalization, info = config.dataset.normalization, dataset.info
    return Plan(
        config=config,
        dataset=dataset,
        architecture=plan_architecture(config.model, info.image_shape, len(info.class_names)),
        preprocessing=fit_preprocessing(normalization, dataset.train.images, info.max_value),
        train=train,
        validation=validation,
        output=output or name_output(config),
        threads=count_processors(),
        memory=memory,
        placement=placement,
        programs=programs,
        devices=request.devices or 1,
        cluster=request.cluster,
    )


def load_recorded_data(
    config: Config, request: Request, console: Output, output: OutputFile
) -> Plan:
    """Read the data that a run recorded, where they lie now; else as `load_data`."""
    return load_data(_move_data(config, request), request, console, output)


def plan_memory(config: Config, request: Request) -> tuple[MemoryEstimate, Placement]:
    """Say what a run will need; rows that do not fit into memory are streamed.

    Raises:
        ResourceError: it fits neither memory nor a file.
        ConfigError: it does not fit the number of classes.
    """
    info, devices = get_info(config.dataset), request.devices or 1
    _check_classes(config, info)
    network = plan_architecture(config.model, info.image_shape, len(info.class_names))
    check_run_size(network, config.training)
    available = read_available_memory()
    estimate = estimate_memory(config, network, info, devices)
    fits = available is None or estimate.total <= available
    if fits and not request.streams:
        return estimate, "resident"
    streamed = estimate_memory(config, network, info, devices, "streamed")
    check_memory(min(estimate, streamed, key=lambda e: e.total), available)
    return streamed, "streamed"


def _check_classes(config: Config, info: DatasetInfo) -> None:
    """Check what a config could not know before its data were looked at; ConfigError."""
    faults = check_class_count(config, len(info.class_names))
    if faults:
        where = info.title
        raise ConfigError([fault.to_problem(where) for fault in faults])


def _move_data(config: Config, request: Request) -> Config:
    """Look for a recorded run's own images where the command line says; UsageError."""
    if request.own_data is None:
        return config
    if not isinstance(config.dataset, FilesConfig):
        what = f"the run was trained on {config.dataset.name}"
        raise UsageError("--data", what, "name a folder of its files with --data-dir")
    moved = config.dataset.model_copy(update={"path": str(request.own_data)})
    return config.model_copy(update={"dataset": moved})


def check_same_data(plan: Plan, record: Record, path: Path) -> None:
    """Refuse other data than those that the run in a checkpoint was trained on; DataError."""
    identity = plan.dataset.identity
    if identity.sha256 != record.dataset.sha256:
        what = f"not the {plan.dataset.info.title} that {path} was trained on"
        flag = "--data" if isinstance(plan.config.dataset, FilesConfig) else "--data-dir"
        raise DataError(identity.location, what, f"point {flag} to the data of that run")


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
    wanted = [weight.shape for node in plan.architecture.iter_layers() for weight in node.weights]
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
