"""One epoch as one compiled function.

The data set stays on the device as uint8. A permutation puts its rows in order (one
multi-threaded gather); then one XLA program runs Keras' own `train_step` for the steps lo to hi
and leaves weights, optimizer and metrics in the network's variables. lo and hi are tensors, so
that a whole epoch and a piece of one are the same program, and give the same bits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mnistcli.config.models import TrainingConfig
from mnistcli.datasets.dataset import Split
from mnistcli.preprocessing import Preprocessing
from mnistcli.resident_data import ResidentData, weigh_classes

EVALUATION_BATCH_SIZE = 1000
_LOG = logging.getLogger(__name__)

_POLL_S = 0.05  # between looks whether a stop has been asked for

_Rows = tuple[tf.Tensor, tf.Tensor]


class TrainingEpoch:
    """The training set, resident, and the compiled programs that learn from it.

    There are two: whole batches, and the smaller last batch where there is one, which differ in
    nothing but that static size.

    Args:
        network: compiled, its optimizer and metric variables built.
        split: the training set, uint8.
        preprocessing: applied to each batch inside the program.
        training: batch size, loss (which decides the form of the labels), class weights,
            shuffling and seed.
    """

    def __init__(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        training: TrainingConfig,
    ) -> None:
        self._network, self._training = network, training
        self._data = ResidentData(
            network,
            split,
            preprocessing,
            training.loss,
            training.batch_size,
            weigh_classes(training.class_weight, split, int(network.output_shape[-1])),
        )
        self._rows: _Rows = self._data.images, self._data.labels
        self._background = ThreadPoolExecutor(1, "gather")
        self._next: tuple[int, Future[_Rows]] | None = None
        whole, rest = self._data.full_batch_count > 0, self._data.remainder > 0
        sizes = [training.batch_size] * whole + [self._data.remainder] * rest
        self._programs = {size: self._make_program(size) for size in sizes}

    @property
    def step_count(self) -> int:
        """Steps in an epoch, the partial last one included."""
        return self._data.full_batch_count + (self._data.remainder > 0)

    @property
    def trace_count(self) -> int:
        """How often a program was traced: once each, however an epoch is cut into pieces."""
        return sum(p.experimental_get_tracing_count() for p in self._programs.values())

    def compile(self, is_stopping: Callable[[], bool] = lambda: False) -> bool:
        """Compile the programs side by side, by calls that run no step.

        They are traced one after the other: so they get the same names in every process, by
        which compiled programs are found again.

        Args:
            is_stopping: asked meanwhile whether to go on; a compiler cannot be interrupted, but
                nobody has to wait for it.

        Returns:
            Whether they are ready; false where a stop was asked for.
        """
        begin_s = time.perf_counter()
        for size in self._programs:
            self._programs[size].get_concrete_function(*self._arguments(0, 0))
        threads = ThreadPoolExecutor(len(self._programs), "compile")
        calls = {threads.submit(self._call, size, 0, 0) for size in self._programs}
        while wait(calls, _POLL_S).not_done:
            if is_stopping():
                threads.shutdown(wait=False, cancel_futures=True)
                return False
        threads.shutdown()
        for call in calls:
            call.result()
        sizes, duration_s = list(self._programs), time.perf_counter() - begin_s
        _LOG.info("compiled the epoch in %.2f s, for batches of %s", duration_s, sizes)
        return True

    def arrange(self, number: int) -> None:
        """Put the rows in the order of the epoch `number`, from 0."""
        if self._next is not None and self._next[0] == number:
            self._rows = self._next[1].result()
        else:
            self._rows = self._gather(number)
        self._next = None

    def arrange_next(self, number: int) -> None:
        """Begin to put the rows in the order of a later epoch, while this one is trained."""
        self._next = number, self._background.submit(self._gather, number)

    def _gather(self, number: int) -> _Rows:
        """Copy the rows into an epoch's order; without shuffling that is the file's."""
        data, training = self._data, self._training
        if not training.shuffle:
            return data.images, data.labels
        order = draw_order(training.seed, number, len(data.labels))
        return tf.gather(data.images, order), tf.gather(data.labels, order)

    def run(self, lo: int, hi: int) -> None:
        """Train on the steps lo to hi (exclusive) of the order arranged last."""
        full = self._data.full_batch_count
        if lo < min(hi, full):
            self._call(self._training.batch_size, lo, min(hi, full))
        if hi > full:
            self._call(self._data.remainder, full, hi)

    def _call(self, size: int, lo: int, hi: int) -> None:
        """Run the program for one size of batches on the steps lo to hi."""
        self._programs[size](*self._arguments(lo, hi))

    def _arguments(self, lo: int, hi: int) -> tuple[tf.Tensor, ...]:
        """Return what the programs take: the rows in order, and from which step to which."""
        return *self._rows, tf.constant(lo), tf.constant(hi)

    def _make_program(self, size: int) -> tf.types.experimental.PolymorphicFunction:
        """Return the program that trains on batches of one size."""

        @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
        def train(images: tf.Tensor, labels: tf.Tensor, lo: tf.Tensor, hi: tf.Tensor) -> None:
            def step(i: tf.Tensor) -> tf.Tensor:
                start = i * self._training.batch_size
                self._network.train_step(self._data.cut(images, labels, start, size))
                return i + 1

            tf.while_loop(lambda i: i < hi, step, [lo], parallel_iterations=1)

        return train


def draw_order(seed: int, number: int, count: int) -> NDArray[np.int32]:
    """Return the order of rows in the epoch `number` (from 0) of a run: int32 [count]."""
    order = np.random.default_rng([seed, number]).permutation(count)
    return order.astype(np.int32)


class ValidationEpoch:
    """A split to monitor, resident, and the compiled program that evaluates it with Keras."""

    def __init__(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> None:
        size = min(EVALUATION_BATCH_SIZE, len(split))
        self._network = network
        self._data = ResidentData(network, split, preprocessing, loss, size)
        self._run = tf.function(self._test_all, jit_compile=True, autograph=False)
        self._run.get_concrete_function(self._data.images, self._data.labels)  # as in `compile`

    def evaluate(self) -> dict[str, float]:
        """Return Keras' metrics over the whole split; the network's metric sums start at 0."""
        self._network.reset_metrics()
        self._run(self._data.images, self._data.labels)
        return {name: float(value) for name, value in self._network.get_metrics_result().items()}

    def _test_all(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        """Run test_step over the split as one program."""
        data = self._data

        def step(i: tf.Tensor) -> tf.Tensor:
            size = data.batch_size
            self._network.test_step(data.cut(images, labels, i * size, size))
            return i + 1

        tf.while_loop(
            lambda i: i < data.full_batch_count, step, [tf.constant(0)], parallel_iterations=1
        )
        if data.remainder:
            start = tf.constant(data.full_batch_count * data.batch_size)
            self._network.test_step(data.cut(images, labels, start, data.remainder))
