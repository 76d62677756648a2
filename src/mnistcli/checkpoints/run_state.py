"""The state of a training run: its arrays and its progress, as plain data without Keras.

`training` captures a `RunState`, a checkpoint stores it, and a resumed run continues from it. The
arrays of two states are compared bit by bit with `compare_arrays`.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
History = dict[str, tuple[float, ...]]
"""One value per completed epoch for each metric."""


@dataclass(frozen=True)
class NamedArray:
    """A variable's values under its Keras path, `dense/kernel` for example."""

    name: str
    values: Array


@dataclass(frozen=True)
class LayerState:
    """The arrays of a layer, in Keras' order; none for Flatten or Dropout."""

    name: str
    weights: tuple[NamedArray, ...]


@dataclass(frozen=True)
class NetworkState:
    """Everything in a compiled network that training changes.

    Attributes:
        layers: one entry for each layer, in order.
        optimizer: the optimizer's variables in Keras' order (iteration, learning rate, slots).
        generators: an int64 [2] state for each Dropout layer with a rate above 0.
        metrics: running float32 sums of the current epoch (loss and accuracy).
        model_config: Keras' JSON description of the network.
        training_config: Keras' JSON description of loss, metrics and optimizer.
    """

    layers: tuple[LayerState, ...]
    optimizer: tuple[NamedArray, ...]
    generators: tuple[NamedArray, ...]
    metrics: tuple[NamedArray, ...]
    model_config: str
    training_config: str

    @property
    def weights(self) -> tuple[Array, ...]:
        """The arrays of all layers, in order."""
        return tuple(array.values for layer in self.layers for array in layer.weights)


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        epoch: completed epochs.
        step: optimizer steps done in the current epoch; 0 between epochs.
        history: of loss, accuracy, val_loss and val_accuracy; of learning_rate too if it changes.
        epoch_durations_s: wall seconds of each completed epoch.
        best_epoch: the epoch (from 1) with the lowest val_loss; 0 if there is none yet.
    """

    epoch: int = 0
    step: int = 0
    history: History = field(default_factory=dict)
    epoch_durations_s: tuple[float, ...] = ()
    best_epoch: int = 0

    @property
    def last_metrics(self) -> dict[str, float]:
        """Metrics of the last completed epoch."""
        return self.find_metrics(self.epoch)

    def find_metrics(self, epoch: int) -> dict[str, float]:
        """Return the metrics of a completed epoch, counted from 1; none for 0."""
        return {name: values[epoch - 1] for name, values in self.history.items() if epoch > 0}

    @property
    def warm_epoch_s(self) -> float | None:
        """Median seconds of the epochs after the first, which compiles; None without epochs."""
        warm = self.epoch_durations_s[1:] or self.epoch_durations_s
        return statistics.median(warm) if warm else None


@dataclass(frozen=True)
class EarlyStoppingState:
    """The state of Keras' EarlyStopping.

    Attributes:
        best: the best value so far; None before the first.
        best_epoch: the epoch of that value, from 0.
        wait: epochs since then.
        is_stopped: whether the callback has ended the run.
        is_restored: whether it has put the best weights back into the network.
    """

    best: float | None = None
    best_epoch: int = 0
    wait: int = 0
    is_stopped: bool = False
    is_restored: bool = False


@dataclass(frozen=True)
class ReduceLROnPlateauState:
    """The state of Keras' ReduceLROnPlateau; the learning rate is part of the optimizer's.

    Attributes:
        best: the best value so far; None before the first.
        wait: epochs since then.
        cooldown: coming epochs in which the callback does nothing.
    """

    best: float | None = None
    wait: int = 0
    cooldown: int = 0


@dataclass(frozen=True)
class CallbackStates:
    """The states of a run's Keras callbacks; None for those that it does not have.

    Attributes:
        early_stopping: its counters.
        reduce_on_plateau: its counters.
        weights: the best epoch's weights, for early stopping to restore. After it has restored
            them, those of the last epoch, from which a longer run continues.
    """

    early_stopping: EarlyStoppingState | None = None
    reduce_on_plateau: ReduceLROnPlateauState | None = None
    weights: tuple[NamedArray, ...] = ()


@dataclass(frozen=True)
class RunState:
    """A run at one moment, complete enough to continue from it."""

    network: NetworkState
    progress: Progress
    callbacks: CallbackStates = CallbackStates()

    def without_stop(self) -> RunState:
        """Return the state with early stopping's patience reset, so that the run can continue."""
        stopping = self.callbacks.early_stopping
        if stopping is None or not stopping.is_stopped:
            return self
        stopping = replace(stopping, wait=0, is_stopped=False)
        return replace(self, callbacks=replace(self.callbacks, early_stopping=stopping))


@dataclass(frozen=True)
class ArrayDifference:
    """An array that is not bit-identical in two runs.

    Attributes:
        name: its Keras path, or `history/<metric>`.
        size: number of values.
        differing: number of values that differ.
        max_abs_difference: the largest absolute difference; None if it is not finite, or if only
            one of the runs has an array of this shape.
    """

    name: str
    size: int
    differing: int
    max_abs_difference: float | None


def hash_weights(weights: Iterable[Array]) -> str:
    """Return the sha256 hex digest of the arrays' concatenated bytes, in C order."""
    digest = hashlib.sha256()
    for values in weights:
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def list_arrays(run: RunState) -> tuple[NamedArray, ...]:
    """Return the results of training: weights, optimizer, generators, then the histories."""
    # The metrics' sums are left out: they are reset with every epoch.
    network = run.network
    weights = [array for layer in network.layers for array in layer.weights]
    histories = [
        NamedArray(f"history/{name}", np.array(values, np.float64))
        for name, values in sorted(run.progress.history.items())
    ]
    return (*weights, *network.optimizer, *network.generators, *histories)


def compare_arrays(
    first: Sequence[NamedArray], second: Sequence[NamedArray]
) -> tuple[ArrayDifference, ...]:
    """Return the arrays that differ in any bit.

    Args:
        first: from `list_arrays`; gives the names.
        second: likewise. Arrays are paired by position, since some of Keras' names are numbered.
    """
    return tuple(_list_differences(first, second))


def _list_differences(
    first: Sequence[NamedArray], second: Sequence[NamedArray]
) -> Iterator[ArrayDifference]:
    for one, other in zip_longest(first, second):
        if one is None or other is None or not _is_comparable(one.values, other.values):
            alone = one or other
            yield ArrayDifference(alone.name, alone.values.size, alone.values.size, None)
        elif (difference := _measure(one.name, one.values, other.values)).differing:
            yield difference


def _is_comparable(one: Array, other: Array) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _view_bits(values: Array) -> NDArray[np.unsignedinteger]:
    # Compared as bits, NaN equals itself, and 0 is not -0.
    return np.ascontiguousarray(values).reshape(-1).view(f"u{values.dtype.itemsize}")


def _measure(name: str, one: Array, other: Array) -> ArrayDifference:
    distance: NDArray[np.float64] = np.abs(one.astype(np.float64) - other.astype(np.float64))
    differing = int(np.count_nonzero(_view_bits(one) != _view_bits(other)))
    largest = float(distance.max(initial=0.0))
    return ArrayDifference(name, one.size, differing, largest if np.isfinite(largest) else None)
