"""Two runs side by side: whether they have the same bits, and how far apart they are.

A run at one moment: its arrays and how far it has come. Plain data, so that no one needs Keras.
`training` produces it, `checkpoint` stores it, and a run that is resumed starts from it.
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


@dataclass(frozen=True)
class NamedArray:
    """One variable under its Keras path, `dense/kernel` for example."""

    name: str
    values: Array


@dataclass(frozen=True)
class LayerState:
    """The arrays of one layer, in Keras' order; none for Flatten or Dropout."""

    name: str
    weights: tuple[NamedArray, ...]


@dataclass(frozen=True)
class NetworkState:
    """Everything in a compiled network that training changes.

    Attributes:
        layers: one entry a layer, in order.
        optimizer: the optimizer's variables in its own order (iteration, learning rate, slots).
        generators: one int64 [2] state for each Dropout layer that draws.
        metrics: running float32 sums of the epoch under way (loss and accuracy).
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
        """All layers' arrays in one row."""
        return tuple(array.values for layer in self.layers for array in layer.weights)


History = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        epoch: epochs completed.
        step: optimizer steps done in the epoch under way; 0 between epochs.
        history: one value per completed epoch for each of loss, accuracy, val_loss, val_accuracy;
            for learning_rate too where it changes.
        epoch_durations_s: wall seconds of each completed epoch.
        best_epoch: the epoch (from 1) with the lowest val_loss; 0 before there is one.
    """

    epoch: int = 0
    step: int = 0
    history: History = field(default_factory=dict)
    epoch_durations_s: tuple[float, ...] = ()
    best_epoch: int = 0

    @property
    def last_metrics(self) -> dict[str, float]:
        """Metrics of the last completed epoch."""
        return {name: values[-1] for name, values in self.history.items()}

    @property
    def warm_epoch_s(self) -> float | None:
        """Median seconds of an epoch once compiled: all but the first; null before there is one."""
        warm = self.epoch_durations_s[1:] or self.epoch_durations_s
        return statistics.median(warm) if warm else None


@dataclass(frozen=True)
class StoppingState:
    """What Keras' EarlyStopping remembers.

    Attributes:
        best: the best value so far; null before there is one.
        best_epoch: the epoch that gave it, from 0.
        wait: epochs since.
        is_stopped: it has ended the run.
        is_restored: the run has ended with the best weights in the network.
    """

    best: float | None = None
    best_epoch: int = 0
    wait: int = 0
    is_stopped: bool = False
    is_restored: bool = False


@dataclass(frozen=True)
class PlateauState:
    """What Keras' ReduceLROnPlateau remembers; the learning rate itself is the optimizer's.

    Attributes:
        best: the best value so far; null before there is one.
        wait: epochs since.
        cooldown: epochs to come in which it does nothing.
    """

    best: float | None = None
    wait: int = 0
    cooldown: int = 0


@dataclass(frozen=True)
class CallbackStates:
    """What the callbacks of a run remember; null for those that it does not have.

    Attributes:
        early_stopping: counters.
        reduce_on_plateau: counters.
        weights: the best epoch's, for early stopping to restore; once it has restored them, the
            last epoch's, from which the run would go on.
    """

    early_stopping: StoppingState | None = None
    reduce_on_plateau: PlateauState | None = None
    weights: tuple[NamedArray, ...] = ()


@dataclass(frozen=True)
class RunState:
    """A run at one moment, complete enough to go on from it."""

    network: NetworkState
    progress: Progress
    callbacks: CallbackStates = CallbackStates()

    def without_stop(self) -> RunState:
        """Return the run as one that early stopping has not ended: its patience begins anew."""
        stopping = self.callbacks.early_stopping
        if stopping is None or not stopping.is_stopped:
            return self
        stopping = replace(stopping, wait=0, is_stopped=False)
        return replace(self, callbacks=replace(self.callbacks, early_stopping=stopping))


@dataclass(frozen=True)
class ArrayDifference:
    """An array that has not the same bits in two runs.

    Attributes:
        name: its Keras path, or `history/<metric>`.
        size: how many numbers it holds.
        differing: how many of them differ.
        max_abs_difference: the largest distance; null where it is not finite, or where only one
            of the runs has such an array.
    """

    name: str
    size: int
    differing: int
    max_abs_difference: float | None


def hash_weights(weights: Iterable[Array]) -> str:
    """Return the sha256 hex digest of all arrays' bytes, one after the other, in C order."""
    digest = hashlib.sha256()
    for values in weights:
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def list_arrays(run: RunState) -> tuple[NamedArray, ...]:
    """Return all that training has made: weights, optimizer, generators, then the histories.

    The sums of the epoch under way are left out: they begin anew with every epoch.
    """
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
    """Return the arrays that differ in any bit; none where the runs are the same.

    Args:
        first: from `list_arrays`; its names are used.
        second: likewise; arrays are paired by their place, as Keras numbers some names.
    """
    return tuple(_list_differences(first, second))


def _list_differences(
    first: Sequence[NamedArray], second: Sequence[NamedArray]
) -> Iterator[ArrayDifference]:
    """Pair the arrays and go through them."""
    for one, other in zip_longest(first, second):
        if one is None or other is None or not _is_alike(one.values, other.values):
            alone = one or other
            yield ArrayDifference(alone.name, alone.values.size, alone.values.size, None)
        elif (difference := _measure(one.name, one.values, other.values)).differing:
            yield difference


def _is_alike(one: Array, other: Array) -> bool:
    """Tell whether there is anything to compare number by number."""
    return one.shape == other.shape and one.dtype == other.dtype


def _view_bits(values: Array) -> NDArray[np.unsignedinteger]:
    """Look at numbers as bits, where not-a-number equals itself, and 0 is not -0."""
    return np.ascontiguousarray(values).reshape(-1).view(f"u{values.dtype.itemsize}")


def _measure(name: str, one: Array, other: Array) -> ArrayDifference:
    """Say how far two arrays of one shape are apart."""
    distance: NDArray[np.float64] = np.abs(one.astype(np.float64) - other.astype(np.float64))
    differing = int(np.count_nonzero(_view_bits(one) != _view_bits(other)))
    largest = float(distance.max(initial=0.0))
    return ArrayDifference(name, one.size, differing, largest if np.isfinite(largest) else None)
