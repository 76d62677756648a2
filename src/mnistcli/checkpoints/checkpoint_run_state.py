"""A file's arrays and its record become the run as it was; arrays of another run are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mnistcli.checkpoints.checksum import COPY_HINT
from mnistcli.checkpoints.record import Record
from mnistcli.checkpoints.run_state import (
    Array,
    CallbackStates,
    LayerState,
    NamedArray,
    NetworkState,
    Progress,
    RunState,
)
from mnistcli.checkpoints.untrusted.contents import Contents
from mnistcli.checkpoints.untrusted.protocol import show
from mnistcli.config.schema import TrainingConfig
from mnistcli.errors import CheckpointError
from mnistcli.models.architecture import Architecture
from mnistcli.models.layers import Dropout, Shape
from mnistcli.models.memory import count_slots

_ARRAYS_OF_NADAM = 1  # the product of its momentum schedule


def join_state(
    contents: Contents,
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
        raise CheckpointError(where, what, COPY_HINT)
    for array in state.network.optimizer:
        if array.values.dtype != np.float32 and array.values.shape != ():
            what = f"{show(array.name)} holds {array.values.dtype}, not float32"
            raise CheckpointError(where, what, COPY_HINT)
        if not np.isfinite(array.values).all():
            what = f"{show(array.name)} holds numbers that are not finite"
            raise CheckpointError(where, what, COPY_HINT)
    _check_beside(state, architecture, where)


def _count_shapes(architecture: Architecture, training: TrainingConfig) -> Counter[Shape]:
    """Count the optimizer's arrays by shape: its own numbers, and slots for each weight.

    Their order is Keras' matter; a run that goes on compares it variable by variable.
    """
    numbers = 1 + (training.schedule is None)  # the step, and a learning rate that is stored
    numbers += _ARRAYS_OF_NADAM * (training.optimizer.name == "nadam")
    shapes: Counter[Shape] = Counter({(): numbers})
    slots = count_slots(training.optimizer)
    for stage in architecture.walk():
        for weight in stage.weights:
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
        raise CheckpointError(where, what, COPY_HINT)
    drawing = sum(isinstance(layer, Dropout) and layer.rate > 0 for layer in architecture.layers)
    if len(state.network.generators) != drawing:
        what = f"{len(state.network.generators)} random generators for {drawing} dropout layers"
        raise CheckpointError(where, what, COPY_HINT)
