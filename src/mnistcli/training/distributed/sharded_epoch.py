"""An epoch on several devices: each batch is cut into shards, one a device."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from mnistcli.training.batches import BatchMaker
from mnistcli.training.distributed.strategies import (
    ShardedStep,
    call_program,
    make_loop,
    sum_before_clipping,
)
from mnistcli.training.rows import Rows, Window, count_steps, walk_steps

_LOG = logging.getLogger(__name__)


class ShardedEpoch:
    """The program that learns from a training set on all devices of a strategy.

    One program takes batches of any size: without XLA, shapes need not be static.

    Args:
        strategy: holds the network's copies.
        network: compiled under the strategy, its optimizer and metric variables built.
        rows: the training set, in this machine's own memory.
        batches: makes shards of its rows.
        batch_size: rows of a step, over all devices.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        network: keras.Sequential,
        rows: Rows,
        batches: BatchMaker,
        batch_size: int,
    ) -> None:
        self._rows, self._batch_size = rows, batch_size
        sum_before_clipping(network.optimizer)
        step = ShardedStep(network, batches)
        self._program = make_loop(strategy, step.train, batch_size)

    @property
    def step_count(self) -> int:
        """Steps in an epoch, the partial last one included."""
        return count_steps(self._rows, self._batch_size)

    def compile(self, is_stopping: Callable[[], bool] = lambda: False) -> bool:
        """Trace the program, by a call that runs no step; always true.

        Args:
            is_stopping: not asked: there is no compiler to wait for.
        """
        del is_stopping
        begin_s = time.perf_counter()
        (window,) = self._rows.take(0, 0)
        self._call(self._batch_size, window)
        _LOG.info("traced the epoch in %.2f s", time.perf_counter() - begin_s)
        return True

    def arrange(self, number: int) -> None:
        """Put the rows in the order of the epoch `number`, from 0."""
        self._rows.arrange(number)

    def arrange_next(self, number: int) -> None:
        """Begin to put the rows in the order of a later epoch, while this one is trained."""
        self._rows.arrange_next(number)

    def run(self, lo: int, hi: int) -> None:
        """Train on the steps lo to hi (exclusive) of the order arranged last."""
        for size, window in walk_steps(self._rows, self._batch_size, lo, hi):
            self._call(size, window)

    def _call(self, size: int, window: Window) -> None:
        """Run the program for batches of one size."""
        call_program(self._program, window, size)


class ShardedValidation:
    """A split to monitor, and the program that evaluates it on all devices of a strategy.

    Args:
        strategy: holds the network's copies.
        network: as for `ShardedEpoch`.
        rows: the split, in its own order.
        batches: makes shards of them.
        batch_size: rows of a step, over all devices.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        network: keras.Sequential,
        rows: Rows,
        batches: BatchMaker,
        batch_size: int,
    ) -> None:
        self._network, self._rows, self._batch_size = network, rows, batch_size
        self._program = make_loop(strategy, ShardedStep(network, batches).test, batch_size)
        self._number = 0

    def evaluate(self) -> dict[str, float]:
        """Return Keras' metrics over the whole split; the network's metric sums start at 0."""
        self._network.reset_metrics()
        self._rows.arrange(self._number)
        self._number += 1
        step_count = count_steps(self._rows, self._batch_size)
        for size, window in walk_steps(self._rows, self._batch_size, 0, step_count):
            call_program(self._program, window, size)
        return {name: float(value) for name, value in self._network.get_metrics_result().items()}
