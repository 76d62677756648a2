"""The training set's rows in the order of an epoch, as tensors that programs take batches from."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import keras
import tensorflow as tf

from mnistcli.config.schema import TrainingConfig
from mnistcli.datasets.base import Split
from mnistcli.datasets.mapped import release
from mnistcli.datasets.order import draw_order

_Tensors = tuple[tf.Tensor, tf.Tensor]


@dataclass(frozen=True)
class Window:
    """Rows in order, and the steps to run on them.

    Attributes:
        images: uint8 [rows, *the network's input], of one static shape in the whole run.
        labels: uint8 [rows].
        lo: first step, counted from the window's first row.
        hi: the step before which to stop, counted likewise.
    """

    images: tf.Tensor
    labels: tf.Tensor
    lo: int
    hi: int


class Rows(Protocol):
    """A training set that hands out its rows in the order of any epoch.

    Whoever implements it decides where the rows lie; their order, and so the bits of what is
    learned from them, is `draw_order`'s.
    """

    def __len__(self) -> int:
        """Count the rows."""

    def arrange(self, number: int) -> None:
        """Bring the rows into the order of the epoch `number`, from 0."""

    def arrange_next(self, number: int) -> None:
        """Begin to do so for a later epoch, while this one is trained."""

    def take(self, lo: int, hi: int) -> Iterator[Window]:
        """Yield windows that hold the steps lo to hi of the epoch arranged last, in order.

        `take(0, 0)` gives one to trace programs on, of which no step is to be run.
        """


def count_steps(rows: Rows, batch_size: int) -> int:
    """Return the steps of an epoch, the one with the partial last batch included."""
    return -(-len(rows) // batch_size)


def walk_steps(rows: Rows, batch_size: int, lo: int, hi: int) -> Iterator[tuple[int, Window]]:
    """Yield windows with the steps lo to hi (exclusive), and the rows of each of their batches.

    Batches of one window are of one size: the smaller last one has a window of its own.
    """
    full, rest = divmod(len(rows), batch_size)
    if lo < min(hi, full):
        for window in rows.take(lo, min(hi, full)):
            yield batch_size, window
    if hi > full:
        for window in rows.take(full, hi):
            yield rest, window


class ResidentRows:
    """A training set on the device: one window, the whole epoch, put in order by one gather.

    Args:
        network: built; its inputs' shape counts.
        split: uint8 images.
        training: whether rows are shuffled, and the seed of the order.
    """

    def __init__(self, network: keras.Sequential, split: Split, training: TrainingConfig) -> None:
        self._rows = place_rows(network, split)
        self._training = training
        self._arranged = self._rows
        self._background = ThreadPoolExecutor(1, "gather")
        self._next: tuple[int, Future[_Tensors]] | None = None

    def __len__(self) -> int:
        return len(self._rows[1])

    def arrange(self, number: int) -> None:
        """Put all rows in order, or wait until that is done."""
        if self._next is not None and self._next[0] == number:
            self._arranged = self._next[1].result()
        else:
            self._arranged = self._gather(number)
        self._next = None

    def arrange_next(self, number: int) -> None:
        """Begin in the background."""
        self._next = number, self._background.submit(self._gather, number)

    def take(self, lo: int, hi: int) -> Iterator[Window]:
        """Yield the one window that there is."""
        yield Window(*self._arranged, lo, hi)

    def _gather(self, number: int) -> _Tensors:
        """Copy the rows into an epoch's order; without shuffling that is the file's."""
        if not self._training.shuffle:
            return self._rows
        images, labels = self._rows
        order = draw_order(self._training.seed, number, len(self))
        return tf.gather(images, order), tf.gather(labels, order)


def place_rows(network: keras.Sequential, split: Split) -> _Tensors:
    """Copy a split to the device: images uint8 [count, *the network's input], labels [count]."""
    images = split.images.reshape(len(split), *network.input_shape[1:])
    placed = tf.constant(images), tf.constant(split.labels)
    release(split.images)
    return placed
