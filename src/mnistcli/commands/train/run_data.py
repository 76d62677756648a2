"""Reads the data of a run, and plans what follows from them: shapes, memory, preprocessing."""

from __future__ import annotations

from pathlib import Path

from mnistcli.checkpoints.environment import count_processors
from mnistcli.checkpoints.limits import check_run_size
from mnistcli.checkpoints.record import Record
from mnistcli.commands.open_dataset import choose_splits, open_dataset
from mnistcli.commands.train.build_trainer import begin_loading
from mnistcli.commands.train.request import OutputFile, name_output
from mnistcli.commands.train.run_plan import Plan, Request
from mnistcli.config.data_rules import check_class_count
from mnistcli.config.schema import Config, FilesConfig
from mnistcli.config.validation_errors import to_problem
from mnistcli.datasets.base import DatasetInfo, SplitName
from mnistcli.datasets.registry import get_info, resolve_dataset
from mnistcli.errors import ConfigError, DataError, UsageError
from mnistcli.models.architecture import plan_architecture
from mnistcli.models.available_memory import read_available_memory
from mnistcli.models.input_scaling import fit_preprocessing
from mnistcli.models.memory import MemoryEstimate, Placement, check_memory, estimate_memory
from mnistcli.output.terminal import Output

BOTH_SPLITS: frozenset[SplitName] = frozenset({"train", "test"})


def load_data(config: Config, request: Request, console: Output, output: OutputFile | None) -> Plan:
    """Read the data, and plan what follows from them; nothing large is held before it fits."""
    memory, placement = plan_memory(config, request)
    if placement == "streamed" and not request.streams:
        console.note("the training set does not fit into memory: it is streamed, to the same bits")
    programs = None if request.dry_run else begin_loading()
    dataset = open_dataset(config.dataset, BOTH_SPLITS, request.data_dir, console)
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
        raise ConfigError([to_problem(f.what, f.hint, where, f.path) for f in faults])


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
