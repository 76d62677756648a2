"""Plans a run: its config, its data, and what follows from them; TensorFlow is not needed for it.

Everything that can be refused is refused here, before a long run begins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from mnistcli.available_memory import read_available_memory
from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.reader import Checkpoint, read_checkpoint
from mnistcli.checkpoints.record import check_run_size, count_processors
from mnistcli.checkpoints.run_state import hash_weights
from mnistcli.commands.open_dataset import choose_splits, open_dataset
from mnistcli.commands.train.request import (
    OutputFile,
    RunPlan,
    TrainArguments,
    choose_output,
    name_output,
    selects_best,
)
from mnistcli.config.allowed_values import KEYS_OF_FLAGS
from mnistcli.config.cross_field_rules import check_class_count
from mnistcli.config.loading import LoadedConfig, load_config, resolve_document
from mnistcli.config.overrides import Override, parse_assignment
from mnistcli.config.schema import Config
from mnistcli.config.serialization import list_value_paths
from mnistcli.config.validation_errors import format_path
from mnistcli.config.yaml_reader import parse_yaml
from mnistcli.datasets.base import BOTH_SPLITS
from mnistcli.datasets.registry import get_info, resolve_dataset
from mnistcli.errors import (
    CheckpointError,
    ConfigError,
    Problem,
    ResourceError,
    UsageError,
    escape_name,
    make_printable,
    quote_words,
)
from mnistcli.models.architecture import Architecture, plan_architecture
from mnistcli.models.input_scaling import fit_preprocessing
from mnistcli.models.memory import (
    MemoryEstimate,
    Placement,
    check_memory,
    estimate_memory,
)
from mnistcli.output.logs import note
from mnistcli.output.results import ConfigResult
from mnistcli.output.terminal import ProgressMode
from mnistcli.process_limits import check_tensorflow_start
from mnistcli.tensorflow_import import start_loading
from mnistcli.training.tensorboard_writer import check_tensorboard_directory
from mnistcli.training.xla_cache import XlaCache, open_xla_cache
from mnistcli.user_folders import find_cache

MOST_DEVICES = 16  # of a machine with fewer processors: a copy of the network and its program each
_SET = "--set"


@dataclass(frozen=True)
class Capacity:
    """What a run takes.

    Attributes:
        architecture: what the config's model block means for the data.
        memory: what the run will need at its peak.
        placement: where the rows of the training set are kept.
    """

    architecture: Architecture
    memory: MemoryEstimate
    placement: Placement


def parse_overrides(
    flags: Mapping[str, str | None], assignments: Iterable[str]
) -> tuple[Override, ...]:
    """Parse flags and the arguments of `--set`, whose values are YAML.

    Args:
        flags: those of `KEYS_OF_FLAGS` with the text as typed, None where it was not given.
        assignments: the texts after `--set`.

    Raises:
        ConfigError: values of flags are no YAML; all problems at once.
        UsageError: an assignment is no key=value.
    """
    overrides, problems = [], []
    for flag, text in flags.items():
        if text is None:
            continue
        key = KEYS_OF_FLAGS[flag]
        try:
            overrides.append(Override(key, parse_assignment(f"{key}={text}").value, flag))
        except UsageError as error:
            is_list = flag == "--hidden"  # its brackets are not the user's
            hint = "separate numbers by commas: --hidden 64,32" if is_list else error.hint
            problems.append(Problem(flag, error.what, hint))
    if problems:
        raise ConfigError(problems)
    return (*overrides, *(parse_assignment(text) for text in assignments))


def resolve_config(arguments: TrainArguments) -> LoadedConfig:
    """Return the config that arguments mean, and note what overrides change beyond their keys."""
    overrides = list(_list_overrides(arguments))
    if arguments.document is None:
        loaded = load_config(arguments.config, overrides)
    else:
        document = parse_yaml(arguments.document, "config")
        loaded = resolve_document("config", "config", document, overrides)
    for notice in loaded.notices:
        note(notice)
    return loaded


def explain_config(arguments: TrainArguments) -> tuple[LoadedConfig, ConfigResult]:
    """Resolve a config, and say where each of its values comes from.

    Raises:
        ConfigError: there is no such config.
        UsageError: the run is a resumed one, whose config is in its checkpoint.
    """
    if arguments.resume is not None:
        command = quote_words("mnistcli", "summary", arguments.resume, "--json")
        hint = f"see the config there: {command}"
        raise UsageError("--print-config", "a resumed run has its checkpoint's config", hint)
    loaded = resolve_config(arguments)
    origins = {
        format_path(path): make_printable(loaded.tree.describe_source(path))
        for path in list_value_paths(loaded.config)
    }
    return loaded, ConfigResult(config=loaded.config, origins=origins)


def check_tensorboard(arguments: TrainArguments) -> None:
    """Check that event files can be written, where they are asked for; ResourceError."""
    if arguments.tensorboard is not None:
        check_tensorboard_directory(arguments.tensorboard)


def prepare_run(
    arguments: TrainArguments, lock: RunLock, progress: ProgressMode = "none"
) -> RunPlan:
    """Return the plan of a new run or of one that is resumed.

    Args:
        arguments: of the command.
        lock: is given the files that the run will write.
        progress: how downloads are shown.

    Raises:
        UsageError, ConfigError, DataError, CheckpointError, ResourceError: it cannot begin.
    """
    writing = lock if arguments.is_chief and not arguments.dry_run else None
    if arguments.resume is not None:
        from mnistcli.commands.train.resume import plan_resumed_run

        return plan_resumed_run(arguments, arguments.resume, writing, progress)
    if arguments.more is not None:
        raise UsageError("--more", "it adds epochs to a run", "name the run: --resume FILE.h5")
    if arguments.force:
        what = "it goes on with a run that has changed"
        raise UsageError("--force", what, "name the run: --resume FILE.h5")
    return _plan_new_run(arguments, writing, progress)


def load_data(
    config: Config,
    arguments: TrainArguments,
    output: OutputFile,
    progress: ProgressMode = "none",
    *,
    capacity: Capacity | None = None,
    required_arrays: Mapping[str, str] | None = None,
) -> RunPlan:
    """Read the data of a run, while TensorFlow is loaded, and plan what follows from them.

    Args:
        config: the experiment.
        arguments: where the data are, how they are kept, and on what the run is trained.
        output: where the checkpoint goes.
        progress: how downloads are shown.
        capacity: what `plan_capacity` returns for the config, where that is known.
        required_arrays: as for `open_dataset`.

    Raises:
        DataError: the data are missing or invalid.
        ResourceError, ConfigError: as `plan_capacity`.
    """
    needs = capacity or plan_capacity(config, arguments)
    if needs.placement == "streamed" and not arguments.stream:
        note("the training set does not fit into memory: it is streamed, to the same bits")
    xla_cache = None if arguments.dry_run else start_loading_tensorflow()
    dataset = open_dataset(
        config.dataset, BOTH_SPLITS, arguments.data_dir, progress, required_arrays
    )
    resolved = resolve_dataset(config.dataset, dataset)
    config = config.model_copy(update={"dataset": resolved})
    train, validation = choose_splits(config, dataset)
    return RunPlan(
        config=config,
        dataset=dataset,
        architecture=needs.architecture,
        preprocessing=fit_preprocessing(
            config.dataset.normalization, dataset.train.images, dataset.info.max_value
        ),
        train=train,
        validation=validation,
        output=output,
        threads=count_processors(),
        memory=needs.memory,
        placement=needs.placement,
        xla_cache=xla_cache,
        tensorboard=arguments.tensorboard,
        devices=arguments.devices or 1,
        cluster=arguments.cluster,
    )


def plan_capacity(config: Config, arguments: TrainArguments) -> Capacity:
    """Plan the network and the memory of a run; rows that do not fit into memory are streamed.

    Raises:
        ResourceError: it fits neither memory nor a file, asks for too many devices, or needs more
            than this process may take.
        ConfigError: it does not fit the number of classes.
    """
    devices = arguments.devices or 1
    most = max(MOST_DEVICES, count_processors())
    if devices > most:
        what = f"{devices} devices are more than this machine can be divided into"
        raise ResourceError("--devices", what, f"give --devices {most} or less")
    info = get_info(config.dataset)
    if issues := check_class_count(config, len(info.class_names)):
        raise ConfigError([issue.to_problem(info.title) for issue in issues])
    network = plan_architecture(config.model, info.image_shape, len(info.class_names))
    check_run_size(network, config.training)
    available = read_available_memory()
    estimate = estimate_memory(config, network, info, devices)
    fits = available is None or estimate.total <= available
    if fits and not arguments.stream:
        capacity = Capacity(network, estimate, "resident")
    else:
        streamed = estimate_memory(config, network, info, devices, "streamed")
        check_memory(min(estimate, streamed, key=lambda e: e.total), available)
        capacity = Capacity(network, streamed, "streamed")
    if "tensorflow" not in sys.modules:
        check_tensorflow_start(capacity.memory.total)
    return capacity


def start_loading_tensorflow() -> XlaCache | None:
    """Load TensorFlow in the background, and return the cache of its compiled programs."""
    xla_cache = open_xla_cache(find_cache(os.environ) / "programs")
    start_loading()
    return xla_cache


def with_initial_weights(plan: RunPlan, initial: Checkpoint) -> RunPlan:
    """Start a run from other weights; CheckpointError where they are another network's."""
    wanted = [weight.shape for layer in plan.architecture.iter_layers() for weight in layer.weights]
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


def require_single_worker(flag: str, arguments: TrainArguments) -> None:
    """Refuse what one process does alone; UsageError where several were started."""
    if arguments.cluster is not None:
        from mnistcli.training.distributed.cluster import VARIABLE

        count = len(arguments.cluster.addresses)
        what = f"{VARIABLE} names {count} workers, and this takes one"
        raise UsageError(flag, what, f"start it once, without {VARIABLE}")


def _list_overrides(arguments: TrainArguments) -> Iterator[Override]:
    """Yield what flags set, your own images, and what `--set` sets."""
    flags = [override for override in arguments.overrides if override.flag != _SET]
    yield from flags
    if arguments.data is not None:
        if arguments.find_override("--dataset") is None:
            yield Override("dataset.name", "files", "--data")
        yield Override("dataset.path", str(arguments.data), "--data")
    yield from (override for override in arguments.overrides if override.flag == _SET)


def _plan_new_run(
    arguments: TrainArguments, lock: RunLock | None, progress: ProgressMode
) -> RunPlan:
    config = resolve_config(arguments).config.with_lengths()
    output = OutputFile.disabled()
    if arguments.output is not None and arguments.is_chief:
        output = choose_output(
            arguments.output,
            lock,
            overwrite=arguments.overwrite,
            writes_best=selects_best(config),
        )
    initial = None if arguments.init_from is None else read_checkpoint(arguments.init_from)
    plan = load_data(config, arguments, output, progress)
    if arguments.output is None and arguments.is_chief:
        plan = replace(plan, output=name_output(plan.config, lock))
    return plan if initial is None else with_initial_weights(plan, initial)
