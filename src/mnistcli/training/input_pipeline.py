"""A training set's rows in the order of an epoch, as tensors from which programs take batches.

They are kept in the device's memory, or streamed in windows through tf.data where they do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mnistcli.config.schema import TrainingConfig
from mnistcli.datasets.base import Split, shuffle_indices
from mnistcli.datasets.memory_map import advise_random_access, release_pages
from mnistcli.models.memory import WINDOW_BYTES, count_window_rows

_PARALLEL = 2  # windows gathered at the same time
_READY = 1  # windows prefetched
_ROWS_AT_ONCE = 512  # the system maps up to megabytes of a file around each row that is read

_Tensors = tuple[tf.Tensor, tf.Tensor]


@dataclass(frozen=True)
class Window:
    """Rows in order, and the steps to run on them.

    Attributes:
        images: uint8 [rows, *the network's input], of the same static shape in the whole run.
        labels: uint8 [rows].
        lo: first step, counted from the window's first row.
        hi: the step before which to stop, counted likewise.
    """

    images: tf.Tensor
    labels: tf.Tensor
    lo: int
    hi: int


class EpochData(Protocol):
    """A training set whose rows can be put in the order of any epoch.

    Implementations differ in where the rows are kept. The order is always that of
    `shuffle_indices`, so that results are bit-identical.
    """

    def __len__(self) -> int:
        """Count the rows."""

    def set_epoch(self, number: int) -> None:
        """Order the rows for the epoch `number`, from 0."""

    def prefetch_epoch(self, number: int) -> None:
        """Start to order the rows for a later epoch, while this one is trained."""

    def iter_windows(self, lo: int, hi: int) -> Iterator[Window]:
        """Yield windows with the steps lo to hi (exclusive) of the epoch that was set last.

        `iter_windows(0, 0)` yields one to trace programs on, of which no step is to be run.
        """


def count_steps(data: EpochData, batch_size: int) -> int:
    """Return the steps of an epoch, the one with the partial last batch included."""
    return -(-len(data) // batch_size)


def iter_steps(data: EpochData, batch_size: int, lo: int, hi: int) -> Iterator[tuple[int, Window]]:
    """Yield windows with the steps lo to hi (exclusive), and the rows of each of their batches.

    Batches of one window are of one size: the smaller last one has a window of its own.
    """
    full, rest = divmod(len(data), batch_size)
    if lo < min(hi, full):
        for window in data.iter_windows(lo, min(hi, full)):
            yield batch_size, window
    if hi > full:
        for window in data.iter_windows(full, hi):
            yield rest, window


class InMemoryData:
    """A training set on the device: an epoch is one window, put in order by one gather.

    Args:
        network: built; the shape of its inputs is used.
        split: uint8 images.
        training: whether rows are shuffled, and the seed of the order.
    """

    def __init__(self, network: keras.Sequential, split: Split, training: TrainingConfig) -> None:
        self._rows = place_on_device(network, split)
        self._training = training
        self._ordered = self._rows
        self._background = ThreadPoolExecutor(1, "gather")
        self._next: tuple[int, Future[_Tensors]] | None = None

    def __len__(self) -> int:
        return len(self._rows[1])

    def set_epoch(self, number: int) -> None:
        """Order all rows, or wait until that is done."""
        if self._next is not None and self._next[0] == number:
            self._ordered = self._next[1].result()
        else:
            self._ordered = self._gather(number)
        self._next = None

    def prefetch_epoch(self, number: int) -> None:
        """Start to order the rows in the background."""
        self._next = number, self._background.submit(self._gather, number)

    def iter_windows(self, lo: int, hi: int) -> Iterator[Window]:
        """Yield the one window that there is."""
        yield Window(*self._ordered, lo, hi)

    def _gather(self, number: int) -> _Tensors:
        """Copy the rows into an epoch's order; without shuffling that is the file's."""
        if not self._training.shuffle:
            return self._rows
        images, labels = self._rows
        order = shuffle_indices(self._training.seed, number, len(self))
        return tf.gather(images, order), tf.gather(labels, order)


def place_on_device(network: keras.Sequential, split: Split) -> _Tensors:
    """Copy a split to the device: images uint8 [count, *the network's input], labels [count]."""
    images = split.images.reshape(len(split), *network.input_shape[1:])
    placed = tf.constant(images), tf.constant(split.labels)
    release_pages(split.images)
    return placed


class StreamingData:
    """A training set of which some windows are in memory, in the same order as `InMemoryData`.

    A window is whole batches, so that each batch is the same rows as if all were resident; all
    windows have one shape, the last is filled up with zeros that no step reads. While one is
    trained on, the next are gathered, those of the next epoch too.

    Args:
        network: built; the shape of its inputs is used.
        split: uint8 images, in memory or mapped from a file.
        training: the batch size; whether rows are shuffled, and the seed of the order; epochs.
        window_bytes: approximate size of a window.
    """

    def __init__(
        self,
        network: keras.Sequential,
        split: Split,
        training: TrainingConfig,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self._images = split.images.reshape(len(split), *network.input_shape[1:])
        self._labels, self._training = split.labels, training
        row_bytes, size = self._images[0].size + 1, training.batch_size
        self._rows = count_window_rows(size, row_bytes, len(split), window_bytes)
        self._window_count = -(-len(split) // self._rows)
        self._number = 0
        self._held: tuple[int, _Tensors] | None = None
        self._stream: Iterator[_Tensors] = iter(())
        self._following = self._end = -1
        self._order_of = lru_cache(2)(self._make_order)
        if training.shuffle:
            advise_random_access(split.images)

    def __len__(self) -> int:
        return len(self._labels)

    def set_epoch(self, number: int) -> None:
        """Select the epoch whose windows are read."""
        self._number = number

    def prefetch_epoch(self, number: int) -> None:
        """Do nothing: the stream goes on into the next epoch."""

    def iter_windows(self, lo: int, hi: int) -> Iterator[Window]:
        """Yield one window after the other."""
        if hi == 0:
            yield Window(*self._make_blank(), 0, 0)
        steps = self._rows // self._training.batch_size
        while lo < hi:
            index = lo // steps
            first, end = index * steps, min(hi, (index + 1) * steps)
            tensors = self._fetch(self._number * self._window_count + index)
            yield Window(*tensors, lo - first, end - first)
            lo = end

    def _make_blank(self) -> _Tensors:
        """Return an empty window, on which a program is traced without reading data."""
        shape = (self._rows, *self._images.shape[1:])
        return tf.zeros(shape, tf.uint8), tf.zeros(self._rows, tf.uint8)

    def _fetch(self, position: int) -> _Tensors:
        """Return a window, counted through all epochs; a new stream begins where it jumps."""
        if self._held is None or self._held[0] != position:
            if position != self._following or position == self._end:
                self._stream = self._open_stream(position)
            self._held = None  # its memory is for the next one
            self._held = position, next(self._stream)
            self._following = position + 1
        return self._held[1]

    def _open_stream(self, position: int) -> Iterator[_Tensors]:
        """Gather windows from a position on, some ahead, to the end of the run."""
        planned = self._training.epochs * self._window_count
        self._end = max(planned, position + self._window_count)

        def gather(place: tf.Tensor) -> _Tensors:
            images, labels = tf.numpy_function(self._gather, [place], (tf.uint8, tf.uint8))
            images.set_shape((self._rows, *self._images.shape[1:]))
            labels.set_shape((self._rows,))
            return images, labels

        places = tf.data.Dataset.range(position, self._end)
        windows = places.map(gather, num_parallel_calls=_PARALLEL, deterministic=True)
        return iter(windows.prefetch(_READY))

    def _gather(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Copy a window's rows together: read in the file's order, put into the epoch's."""
        number, index = divmod(int(position), self._window_count)
        chosen = self._order_of(number)[index * self._rows : (index + 1) * self._rows]
        images = np.zeros((self._rows, *self._images.shape[1:]), np.uint8)
        labels = np.zeros(self._rows, np.uint8)
        labels[: len(chosen)] = self._labels[chosen]
        by_place = np.argsort(chosen)
        for start in range(0, len(chosen), _ROWS_AT_ONCE):
            part = by_place[start : start + _ROWS_AT_ONCE]
            images[part] = self._images[chosen[part]]
            release_pages(self._images)
        return images, labels

    def _make_order(self, number: int) -> NDArray[np.int32]:
        """Return an epoch's order of all rows; without shuffling that is the file's."""
        if not self._training.shuffle:
            return np.arange(len(self), dtype=np.int32)
        return shuffle_indices(self._training.seed, number, len(self))
