"""Read a .h5 file of mnistcli or Keras: parsed in a sandboxed process, validated here.

`read_checkpoint` returns a `Checkpoint`: the network, and for a file of mnistcli's its run.
`parse_metadata` returns what `ls` shows of a file, read without its arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from mnistcli.checkpoints.checksum import RESTORE_HINT
from mnistcli.checkpoints.record import Record, RunMetadata, make_damaged_record_error, parse_record
from mnistcli.checkpoints.record_rules import check_record
from mnistcli.checkpoints.run_state import (
    Array,
    CallbackStates,
    LayerState,
    NamedArray,
    NetworkState,
    Progress,
    RunState,
)
from mnistcli.checkpoints.untrusted.keras_config import parse_model_config, parse_training_config
from mnistcli.checkpoints.untrusted.protocol import (
    CALLBACK_WEIGHTS_GROUP,
    DURATIONS,
    HISTORY_GROUP,
    OPTIMIZER_GROUP,
    SAVE_HINT,
    FileContents,
    FileMetadata,
    MetricRange,
    WeightShapes,
    measure_range,
    quote,
    split_arrays,
)
from mnistcli.checkpoints.untrusted.sandbox import ArraySelection, ParserOutput, ParserProcess
from mnistcli.config.schema import TrainingConfig
from mnistcli.errors import CheckpointError, pluralize
from mnistcli.metrics.losses import AnyLoss
from mnistcli.models.architecture import Architecture
from mnistcli.models.layers import Shape

MAX_NAMES_SHOWN = 3
CHANGED = "changed since mnistcli wrote it (its checksum is gone)"

ChangedFile = Literal["foreign", "ours"]
"""How a file is treated that was changed since mnistcli wrote it: as a Keras file, or as a run."""
_TREATMENTS = {"foreign": "treated as a foreign file", "ours": "taken as it is by --force"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        path: as the user gave it.
        architecture: the network.
        weights: float32 arrays in `Architecture.iter_layers` order; empty if none were read.
        loss: the loss that the network was compiled with, or why it is not known.
        record: the record of the run; None for a file of Keras' or a changed one.
        progress: how far the run has come; its defaults without a record.
        state: the whole run, to continue from; None without a record, or if not `all` arrays
            were read.
        warnings: one line for each, to be shown to the user.
        is_changed: whether the file holds a run, and was changed since mnistcli wrote it.
    """

    path: Path
    architecture: Architecture
    weights: tuple[Array, ...]
    loss: AnyLoss
    record: Record | None
    progress: Progress
    state: RunState | None
    warnings: tuple[str, ...] = ()
    is_changed: bool = False


@dataclass(frozen=True)
class CheckpointMetadata:
    """A checkpoint without its arrays.

    Attributes:
        parameters: number of the network's parameters.
        keras_version: of the Keras that saved the file; empty if the file does not say.
        record: the record of the run; None for a file of Keras' or a changed one.
        history: a range for each metric.
        warm_epoch_s: median seconds of the epochs after the first; None without epochs.
        is_changed: whether the file holds a run, and was changed since mnistcli wrote it.
    """

    parameters: int
    keras_version: str
    record: RunMetadata | None
    history: Mapping[str, MetricRange]
    warm_epoch_s: float | None
    is_changed: bool


def read_checkpoint(
    path: Path, selection: ArraySelection = "weights", changed_as: ChangedFile = "foreign"
) -> Checkpoint:
    """Return the contents of a checkpoint.

    Args:
        path: of a Keras whole-model .h5 file.
        selection: which arrays are read: `none`, the network's `weights`, or `all`, the
            optimizer's too.
        changed_as: how a run is treated that was changed since mnistcli wrote it: as a `foreign`
            file without a record, or as one of `ours`.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged or refused.
    """
    return parse_checkpoint(path, ParserProcess(path, selection).result(), changed_as)


def parse_checkpoint(
    path: Path, output: ParserOutput, changed_as: ChangedFile = "foreign"
) -> Checkpoint:
    """Validate what a `ParserProcess` read; see `read_checkpoint`."""
    where = str(path)
    contents, groups = _unpack(output, where)
    shapes = contents.weight_shapes
    architecture = parse_model_config(contents.model_config, where, tuple(shapes.values()))
    history = groups.pop(HISTORY_GROUP, {})
    optimizer = groups.pop(OPTIMIZER_GROUP, {})
    callback_weights = groups.pop(CALLBACK_WEIGHTS_GROUP, {})
    layers: tuple[LayerState, ...] = ()
    if output.selection != "none":
        shapes = {name: tuple(v.shape for v in arrays.values()) for name, arrays in groups.items()}
    _check_shapes(architecture, shapes, where)
    if output.selection != "none":
        layers = tuple(_match_arrays(architecture, groups, where))
    is_changed = contents.record is not None and contents.checksum != "valid"
    warnings: tuple[str, ...] = ()
    record = None
    if is_changed:
        warnings = (f"{where}: {CHANGED}: {_TREATMENTS[changed_as]}",)
    if contents.record is not None and (not is_changed or changed_as == "ours"):
        record = parse_record(contents.record, Record, where)
        architecture = architecture.with_precision("float32")  # whatever it was trained in
    loss = parse_training_config(contents.training_config, where)
    progress = Progress()
    if record is not None:
        progress = _make_progress(record, history, where)
        best = record.early_stopping.best_epoch if record.early_stopping is not None else None
        ranges = {name: measure_range(v.astype(float), best) for name, v in history.items()}
        check_record(record, architecture, ranges, loss, where)
    state = None
    if record is not None and output.selection == "all":
        kept = tuple(
            _check_weight(name, values, where) for name, values in callback_weights.items()
        )
        state = _make_state(contents, record, progress, layers, optimizer, kept)
        _check_state(state, architecture, record.config.training, where)
    return Checkpoint(
        path=path,
        architecture=architecture,
        weights=tuple(array.values for layer in layers for array in layer.weights),
        loss=loss,
        record=record,
        progress=progress,
        state=state,
        warnings=warnings,
        is_changed=is_changed,
    )


def parse_metadata(path: Path, line: Mapping[str, Any]) -> CheckpointMetadata:
    """Validate what a `MetadataReader` read of a file.

    Raises:
        CheckpointError: the file is damaged or refused.
    """
    where = str(path)
    try:
        metadata = _make_metadata_adapter().validate_python(line)
    except ValueError:
        raise CheckpointError(where, "damaged: it was not read completely", RESTORE_HINT) from None
    is_changed = metadata.record is not None and metadata.checksum != "valid"
    shapes = tuple(metadata.weight_shapes.values())
    architecture = _parse_model_config(metadata.model_config, shapes, where)
    record = None
    if metadata.record is not None and not is_changed:
        record = parse_record(metadata.record, RunMetadata, where)
        check_record(record, architecture, metadata.history, None, where)
    return CheckpointMetadata(
        parameters=architecture.parameter_count,
        keras_version=quote(metadata.keras_version)[1:-1] if metadata.keras_version else "",
        record=record,
        history={n: m for n, m in metadata.history.items() if record and n != DURATIONS},
        warm_epoch_s=metadata.warm_epoch_s,
        is_changed=is_changed,
    )


@cache
def _make_metadata_adapter() -> TypeAdapter[FileMetadata]:
    return TypeAdapter(FileMetadata)  # takes as long as reading a file


def _parse_model_config(model_config: str, weight_shapes: WeightShapes, where: str) -> Architecture:
    try:
        return _parse_model_config_cached(model_config, weight_shapes)
    except CheckpointError as error:
        raise CheckpointError(where, error.what, error.hint) from None


@lru_cache(64)
def _parse_model_config_cached(model_config: str, weight_shapes: WeightShapes) -> Architecture:
    return parse_model_config(model_config, "", weight_shapes)


def _unpack(output: ParserOutput, where: str) -> tuple[FileContents, dict[str, dict[str, Array]]]:
    """Validate the JSON line, and return the arrays by group and name."""
    groups: dict[str, dict[str, Array]] = {}
    try:
        contents = TypeAdapter(FileContents).validate_python(output.line)
        for header, values in zip(
            contents.arrays, split_arrays(contents.arrays, output.arrays), strict=True
        ):
            groups.setdefault(header.group, {})[header.name] = values
    except ValueError:
        raise CheckpointError(where, "damaged: it was not read completely", RESTORE_HINT) from None
    return contents, groups


def _check_shapes(
    architecture: Architecture, held: Mapping[str, Sequence[Shape]], where: str
) -> None:
    """Refuse a file with other arrays than its network needs; CheckpointError."""
    nodes = [node for node in architecture.iter_layers() if node.weights]
    names = [node.layer.name for node in nodes]
    if len(held) != len(names):
        what = f"the file holds arrays of {_format_names(list(held))}, its network has weights in"
        raise CheckpointError(where, f"{what} {_format_names(names)}", SAVE_HINT)
    for node, name, (group, found) in zip(nodes, names, held.items(), strict=True):
        shapes = [weight.shape for weight in node.weights]
        if list(found) != shapes:
            what = f"layer {name} needs arrays of shapes {_format_shapes(shapes)}"
            stored = "the file holds" if group == name else f"the file holds, as {quote(group)},"
            raise CheckpointError(where, f"{what}, {stored} {_format_shapes(found)}", SAVE_HINT)


def _match_arrays(
    architecture: Architecture, groups: Mapping[str, Mapping[str, Array]], where: str
) -> Iterator[LayerState]:
    """Yield each layer's arrays, which are paired with layers by their order, as Keras does.

    Raises:
        CheckpointError: one of them is not of finite numbers.
    """
    held = iter(groups.values())
    for node in architecture.iter_layers():
        arrays = next(held) if node.weights else {}
        weights = tuple(_check_weight(p, v, where) for p, v in arrays.items())
        yield LayerState(node.layer.name, weights)


def _format_names(names: Sequence[str]) -> str:
    if not names:
        return "no layer"
    shown = ", ".join(map(quote, names[:MAX_NAMES_SHOWN])) + ", …" * (len(names) > MAX_NAMES_SHOWN)
    return f"{pluralize(len(names), 'layer')} ({shown})"


def _format_shapes(shapes: Sequence[Shape]) -> str:
    # No layer has more than four arrays.
    return ", ".join(map(str, shapes[:4])) + ", …" * (len(shapes) > 4) or "none"


def _check_weight(name: str, values: Array, where: str) -> NamedArray:
    """Return the weight as float32, to which half and double precision are converted."""
    if values.dtype.kind != "f":
        raise CheckpointError(where, f"{quote(name)} holds integers, not weights", SAVE_HINT)
    with np.errstate(over="ignore"):
        weight = values.astype(np.float32, copy=False)
    if not np.isfinite(weight).all():
        raise CheckpointError(
            where,
            f"{quote(name)} holds numbers that are not finite",
            "the run that saved it had diverged: use an earlier checkpoint",
        )
    return NamedArray(name, weight)


def _make_progress(record: Record, arrays: Mapping[str, Array], where: str) -> Progress:
    recorded = record.progress
    for name, values in arrays.items():
        if values.dtype.kind != "f" or values.shape != (recorded.epoch,):
            what = f"history: {quote(name)} holds no number for each of {recorded.epoch} epochs"
            raise make_damaged_record_error(where, what)
    history = {name: tuple(values.tolist()) for name, values in arrays.items()}
    durations_s = history.pop(DURATIONS, ())
    return Progress(recorded.epoch, recorded.step, history, durations_s, recorded.best_epoch)


def _make_state(
    contents: FileContents,
    record: Record,
    progress: Progress,
    layers: tuple[LayerState, ...],
    optimizer: Mapping[str, Array],
    callback_weights: tuple[NamedArray, ...],
) -> RunState:
    """Return the run as it was saved."""
    running = record.running
    with np.errstate(over="ignore"):
        metrics = {name: np.array(value, np.float32) for name, value in running.metrics.items()}
    network = NetworkState(
        layers=layers,
        optimizer=tuple(NamedArray(name, values) for name, values in optimizer.items()),
        generators=tuple(
            NamedArray(name, np.array(pair, np.int64)) for name, pair in running.generators.items()
        ),
        metrics=tuple(NamedArray(name, value) for name, value in metrics.items()),
        model_config=contents.model_config,
        training_config=contents.training_config or "",
    )
    return RunState(
        network,
        progress,
        CallbackStates(record.early_stopping, record.reduce_on_plateau, callback_weights),
    )


def _check_state(
    state: RunState, architecture: Architecture, training: TrainingConfig, where: str
) -> None:
    """Refuse a run that could not continue; CheckpointError."""
    found = Counter(array.values.shape for array in state.network.optimizer)
    if found != _count_optimizer_shapes(architecture, training):
        name = training.optimizer.name
        what = f"its optimizer's arrays are not those that {name} keeps for this network"
        raise CheckpointError(where, what, RESTORE_HINT)
    for array in state.network.optimizer:
        if array.values.dtype != np.float32 and array.values.shape != ():
            what = f"{quote(array.name)} holds {array.values.dtype}, not float32"
            raise CheckpointError(where, what, RESTORE_HINT)
        if not np.isfinite(array.values).all():
            what = f"{quote(array.name)} holds numbers that are not finite"
            raise CheckpointError(where, what, RESTORE_HINT)
    _check_callback_weights(state, where)
    progress, first = state.progress, state.network.optimizer[0].values
    steps = int(first) if first.shape == () else -1  # Keras' first variable counts the steps
    # with other data, which --force allows, an epoch's number of steps has changed
    if steps < progress.epoch + progress.step or (progress.epoch == 0 and steps != progress.step):
        what = f"after {progress.epoch} epochs and {progress.step} steps its optimizer has done"
        raise make_damaged_record_error(where, f"progress.step: {what} {quote(steps)}")


def _count_optimizer_shapes(architecture: Architecture, training: TrainingConfig) -> Counter[Shape]:
    # Their order is compared variable by variable when the state is restored.
    scalars = 1 + (training.schedule is None)  # the step, and a learning rate that is stored
    scalars += training.optimizer.extra_scalars
    shapes: Counter[Shape] = Counter({(): scalars})
    slots = training.optimizer.slots
    for node in architecture.iter_layers():
        for weight in node.weights:
            shapes[weight.shape] += slots * weight.trainable
    return +shapes


def _check_callback_weights(state: RunState, where: str) -> None:
    stopping = state.callbacks.early_stopping
    shapes = [array.values.shape for array in state.callbacks.weights]
    is_needed = bool(shapes) or (stopping is not None and stopping.is_restored)
    if is_needed and shapes != [values.shape for values in state.network.weights]:
        what = "the weights that early stopping keeps are not this network's"
        raise CheckpointError(where, what, RESTORE_HINT)
