"""Two runs side by side: whether they have the same bits, and how far apart they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.run_state import Array, NamedArray, RunState


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


def compare_runs(
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
