"""A .h5 file, ours or anyone's, becomes a `Checkpoint`: parsed in the child, checked here.

A file's arrays and its record become the run as it was; arrays of another run are refused.

What a survey's child says of a file becomes a `CheckpointMetadata`, checked as any checkpoint is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from mnistcli.checkpoints.checksum import RESTORE_HINT
from mnistcli.checkpoints.record import Record, RunMetadata, make_damaged_record_error, parse_record
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
    FileContents,
    FileMetadata,
    MetricRange,
    quote,
    split_arrays,
)
from mnistcli.checkpoints.untrusted.sandbox import ArraySelection, ParserOutput, ParserProcess
from mnistcli.config.schema import TrainingConfig
from mnistcli.errors import CheckpointError
from mnistcli.metrics.scores import LossSpec
from mnistcli.models.architecture import Architecture
from mnistcli.models.layers import Dropout, Shape


def join_state(
    contents: FileContents,
    record: Record,
    progress: Progress,
    layers: tuple[LayerState, ...],
    optimizer: Mapping[str, Array],
    kept: tuple[NamedArray, ...],
) -> RunState:
    """Put the run together as it was when it was saved.

    Args:
        contents: Keras' descriptions.
        record: config, generators, metrics, counters.
        progress: how far it had come.
        layers: the network's arrays.
        optimizer: the optimizer's, in its own order.
        kept: the weights that callbacks keep, none or one for each of the network's.
    """
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
    callbacks = CallbackStates(record.early_stopping, record.reduce_on_plateau, kept)
    return replace(RunState(network, progress), callbacks=callbacks)


def check_state(
    state: RunState, architecture: Architecture, training: TrainingConfig, where: str
) -> None:
    """Refuse a run that could not go on.

    Args:
        state: as it was read.
        architecture: the network in the file.
        training: the record's; it says which arrays the optimizer keeps.
        where: the file, for messages.

    Raises:
        CheckpointError: what stands beside the network's weights is not what belongs to them.
    """
    name = training.optimizer.name
    found = Counter(array.values.shape for array in state.network.optimizer)
    if found != _count_shapes(architecture, training):
        what = f"its optimizer's arrays are not those that {name} keeps for this network"
        raise CheckpointError(where, what, RESTORE_HINT)
    for array in state.network.optimizer:
        if array.values.dtype != np.float32 and array.values.shape != ():
            what = f"{quote(array.name)} holds {array.values.dtype}, not float32"
            raise CheckpointError(where, what, RESTORE_HINT)
        if not np.isfinite(array.values).all():
            what = f"{quote(array.name)} holds numbers that are not finite"
            raise CheckpointError(where, what, RESTORE_HINT)
    _check_beside(state, architecture, where)


def _count_shapes(architecture: Architecture, training: TrainingConfig) -> Counter[Shape]:
    """Count the optimizer's arrays by shape: its own numbers, and slots for each weight.

    Their order is Keras' matter; a run that goes on compares it variable by variable.
    """
    numbers = 1 + (training.schedule is None)  # the step, and a learning rate that is stored
    numbers += training.optimizer.extra_scalars
    shapes: Counter[Shape] = Counter({(): numbers})
    slots = training.optimizer.slots
    for node in architecture.iter_layers():
        for weight in node.weights:
            shapes[weight.shape] += slots * weight.trainable
    return +shapes


def _check_beside(state: RunState, architecture: Architecture, where: str) -> None:
    """Weights that callbacks keep are as many as the network's, generators as its dropouts."""
    stopping = state.callbacks.early_stopping
    kept = [array.values.shape for array in state.callbacks.weights]
    if (kept or (stopping is not None and stopping.is_restored)) and kept != [
        values.shape for values in state.network.weights
    ]:
        what = "the weights that early stopping keeps are not this network's"
        raise CheckpointError(where, what, RESTORE_HINT)
    drawing = sum(isinstance(layer, Dropout) and layer.rate > 0 for layer in architecture.layers)
    if len(state.network.generators) != drawing:
        what = f"{len(state.network.generators)} random generators for {drawing} dropout layers"
        raise CheckpointError(where, what, RESTORE_HINT)


@dataclass(frozen=True)
class CheckpointMetadata:
    """A checkpoint without its arrays.

    Attributes:
        parameters: of the network.
        keras_version: that saved the file; empty where it does not say.
        record: what it knows of its run; null for a file of Keras' or one changed since.
        history: a range for each metric.
        warm_epoch_s: median seconds of an epoch once compiled; null before there is one.
        is_changed: it holds a run, and was changed since mnistcli wrote it.
    """

    parameters: int
    keras_version: str
    record: RunMetadata | None
    history: Mapping[str, MetricRange]
    warm_epoch_s: float | None
    is_changed: bool


def parse_metadata(path: Path, line: Mapping[str, Any]) -> CheckpointMetadata:
    """Check what the child found, and give it its types; CheckpointError where it is refused."""
    where = str(path)
    try:
        excerpt = _make_adapter().validate_python(line)
    except ValueError:
        raise CheckpointError(where, "damaged: it was not read completely", RESTORE_HINT) from None
    is_changed = excerpt.record is not None and excerpt.checksum != "valid"
    record = None
    if excerpt.record is not None and not is_changed:
        record = parse_record(excerpt.record, RunMetadata, where)
    return CheckpointMetadata(
        parameters=_count_parameters(excerpt.model_config, where),
        keras_version=quote(excerpt.keras_version)[1:-1] if excerpt.keras_version else "",
        record=record,
        history=excerpt.history if record is not None else {},
        warm_epoch_s=excerpt.warm_epoch_s,
        is_changed=is_changed,
    )


@cache
def _make_adapter() -> TypeAdapter[FileMetadata]:
    """Building one takes as long as reading a file."""
    return TypeAdapter(FileMetadata)


def _count_parameters(model_config: str, where: str) -> int:
    """Read Keras' description of a network; CheckpointError where it is refused."""
    try:
        return _count_cached(model_config)
    except CheckpointError as error:
        raise CheckpointError(where, error.what, error.hint) from None


@lru_cache(64)
def _count_cached(model_config: str) -> int:
    """The runs of one experiment share few networks."""
    return parse_model_config(model_config, "").parameter_count


Unsealed = Literal["foreign", "ours"]
_TAKEN_FOR = {"foreign": "treated as a foreign file", "ours": "taken as it is by --force"}
CHANGED = "changed since mnistcli wrote it (its checksum is gone)"

_SAVE_HINT = "save the whole model again with model.save('model.h5')"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        path: as the user gave it.
        architecture: the network.
        weights: float32 arrays in `Architecture.iter_layers` order; empty if none were read.
        loss: the loss it was compiled with; null where the file does not say.
        record: the run; null for a file of Keras' or one changed since it was written.
        progress: how far the run has come; at the beginning without a record.
        state: the whole run, to go on from; null unless `all` was asked for and there is a record.
        warnings: what the user should hear about this file; one line each.
        is_changed: it holds a run, and was changed since mnistcli wrote it.
    """

    path: Path
    architecture: Architecture
    weights: tuple[Array, ...]
    loss: LossSpec | None
    record: Record | None
    progress: Progress
    state: RunState | None
    warnings: tuple[str, ...] = ()
    is_changed: bool = False


def read_checkpoint(
    path: Path, wanted: ArraySelection = "weights", unsealed: Unsealed = "foreign"
) -> Checkpoint:
    """Return what a checkpoint holds.

    Args:
        path: of a Keras whole-model .h5 file.
        wanted: which arrays: `none`, the network's `weights`, or `all`, the optimizer's too.
        unsealed: what a run is taken for that was changed since mnistcli wrote it: a `foreign`
            file without a record, or one of `ours` all the same.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged or refused.
    """
    return parse_checkpoint(path, ParserProcess(path, wanted).result(), unsealed)


def parse_checkpoint(
    path: Path, parsed: ParserOutput, unsealed: Unsealed = "foreign"
) -> Checkpoint:
    """Check what the child found, and give it its types; CheckpointError where it is refused."""
    where = str(path)
    contents, groups = _unpack(parsed, where)
    architecture = parse_model_config(contents.model_config, where)
    history = groups.pop(HISTORY_GROUP, {})
    optimizer = groups.pop(OPTIMIZER_GROUP, {})
    kept = groups.pop(CALLBACK_WEIGHTS_GROUP, {})
    layers: tuple[LayerState, ...] = ()
    if parsed.selection != "none":
        layers = tuple(_match_arrays(architecture, groups, where))
    is_changed = contents.record is not None and contents.checksum != "valid"
    warnings: tuple[str, ...] = ()
    record = None
    if is_changed:
        warnings = (f"{where}: {CHANGED}: {_TAKEN_FOR[unsealed]}",)
    if contents.record is not None and (not is_changed or unsealed == "ours"):
        record = _read_record(contents.record, architecture, where)
    progress = _read_progress(record, history, where) if record else Progress()
    state = None
    if record is not None and parsed.selection == "all":
        weights = tuple(_read_weight(name, values, where) for name, values in kept.items())
        state = join_state(contents, record, progress, layers, optimizer, weights)
        check_state(state, architecture, record.config.training, where)
    return Checkpoint(
        path=path,
        architecture=architecture,
        weights=tuple(array.values for layer in layers for array in layer.weights),
        loss=parse_training_config(contents.training_config, where),
        record=record,
        progress=progress,
        state=state,
        warnings=warnings,
        is_changed=is_changed,
    )


def _unpack(parsed: ParserOutput, where: str) -> tuple[FileContents, dict[str, dict[str, Array]]]:
    """Check the child's line, and sort the arrays by the group and the name they stand under."""
    groups: dict[str, dict[str, Array]] = {}
    try:
        contents = TypeAdapter(FileContents).validate_python(parsed.line)
        for header, values in zip(
            contents.arrays, split_arrays(contents.arrays, parsed.arrays), strict=True
        ):
            groups.setdefault(header.group, {})[header.name] = values
    except ValueError:
        raise CheckpointError(where, "damaged: it was not read completely", RESTORE_HINT) from None
    return contents, groups


def _match_arrays(
    architecture: Architecture, groups: Mapping[str, Mapping[str, Array]], where: str
) -> Iterator[LayerState]:
    """Give each layer its arrays; refuse those that are not what the network's layers need."""
    nodes = list(architecture.iter_layers())
    names = {node.layer.name for node in nodes}
    if extra := next((name for name in groups if name not in names), None):
        what = f"the file holds arrays of {quote(extra)}, which is no layer of its network"
        raise CheckpointError(where, what, _SAVE_HINT)
    for node in nodes:
        name, arrays = node.layer.name, groups.get(node.layer.name, {})
        shapes = [weight.shape for weight in node.weights]
        found = [values.shape for values in arrays.values()]
        if found != shapes:
            what = f"layer {name} needs arrays of shapes {_list_shapes(shapes)}"
            raise CheckpointError(
                where, f"{what}, the file holds {_list_shapes(found)}", _SAVE_HINT
            )
        yield LayerState(name, tuple(_read_weight(p, v, where) for p, v in arrays.items()))


def _list_shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    """Show at most as many shapes as any layer has."""
    return ", ".join(map(str, shapes[:4])) + ", …" * (len(shapes) > 4) or "none"


def _read_weight(name: str, values: Array, where: str) -> NamedArray:
    """Keep float32 as it is; half and double precision become it."""
    if values.dtype.kind != "f":
        raise CheckpointError(where, f"{quote(name)} holds integers, not weights", _SAVE_HINT)
    with np.errstate(over="ignore"):
        weight = values.astype(np.float32, copy=False)
    if not np.isfinite(weight).all():
        raise CheckpointError(
            where,
            f"{quote(name)} holds numbers that are not finite",
            "the run that saved it had diverged: use an earlier checkpoint",
        )
    return NamedArray(name, weight)


def _read_progress(record: Record, arrays: Mapping[str, Array], where: str) -> Progress:
    """Turn the history's arrays into plain numbers, one a completed epoch."""
    at = record.progress
    if any(v.dtype.kind != "f" or v.shape != (at.epoch,) for v in arrays.values()):
        raise make_damaged_record_error(where)
    history = {name: tuple(values.tolist()) for name, values in arrays.items()}
    durations_s = history.pop(DURATIONS, ())
    return Progress(at.epoch, at.step, history, durations_s, at.best_epoch)


def _read_record(parts: Mapping[str, str], architecture: Architecture, where: str) -> Record:
    """Read the run, and see that it is this network's."""
    record = parse_record(parts, Record, where)
    if len(record.class_names) != max(2, architecture.output_shape[-1]):
        raise make_damaged_record_error(where)
    return record
