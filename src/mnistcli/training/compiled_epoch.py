"""One epoch as one compiled function.

The data set stays on the device as uint8, or comes to it in windows. A permutation puts its rows
in order; then one XLA program runs Keras' own `train_step` for the steps lo to hi and leaves
weights, optimizer and metrics in the network's variables. lo and hi are tensors, so that a whole
epoch and a piece of one are the same program, and give the same bits.

How a batch is made of raw rows, inside the compiled program.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mnistcli.config.schema import ClassWeight, TrainingConfig
from mnistcli.datasets.base import Split
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.memory import Placement
from mnistcli.training.compile_model import encode_labels
from mnistcli.training.input_pipeline import (
    ResidentRows,
    Rows,
    StreamedRows,
    Window,
    count_steps,
    walk_steps,
)


class BatchMaker:
    """Turns raw rows into what a network's train_step and test_step take.

    Args:
        network: built; its inputs' shape and its number of output units count.
        preprocessing: raw pixels to network input.
        loss: decides the form of the labels.
        class_weights: float32 [classes], what an example of each class counts; null: all alike.
    """

    def __init__(
        self,
        network: keras.Sequential,
        preprocessing: Preprocessing,
        loss: str,
        class_weights: NDArray[np.float32] | None = None,
    ) -> None:
        self._preprocessing = preprocessing
        self._loss = loss
        self._units = int(network.output_shape[-1])
        self._class_weights = None if class_weights is None else tf.constant(class_weights)

    def cut(
        self, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, size: int | tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Return `size` rows from `start` on: network input, encoded labels, weights if any."""
        rest = [0] * (len(images.shape) - 1)
        rows = tf.slice(images, [start, *rest], [size, *images.shape[1:]])
        inputs = tf.cast(rows, tf.float32)
        if self._preprocessing.offset != 0:
            inputs -= np.float32(self._preprocessing.offset)
        if self._preprocessing.scale != 1:
            inputs /= np.float32(self._preprocessing.scale)
        classes = tf.slice(labels, [start], [size])
        encoded = encode_labels(classes, self._loss, self._units)
        if self._class_weights is None:
            return inputs, encoded
        return inputs, encoded, tf.gather(self._class_weights, tf.cast(classes, tf.int32))


def make_batches(
    network: keras.Sequential, split: Split, preprocessing: Preprocessing, training: TrainingConfig
) -> BatchMaker:
    """Return what makes batches of a training set, its classes weighed as the config says."""
    weights = weigh_classes(training.class_weight, split, int(network.output_shape[-1]))
    return BatchMaker(network, preprocessing, training.loss, weights)


def weigh_classes(weights: ClassWeight, split: Split, units: int) -> NDArray[np.float32] | None:
    """Return what each class counts in the loss, float32 [classes]; null where all count 1.

    `balanced` gives a class n / (classes · its examples), as scikit-learn does: every class
    then weighs as much as any other, and the mean weight of an example is 1.
    """
    if weights is None:
        return None
    if weights != "balanced":
        return np.array(weights, np.float32)
    counts = np.bincount(split.labels, minlength=max(2, units))
    return (len(split) / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


EVALUATION_BATCH_SIZE = 1000
_LOG = logging.getLogger(__name__)

_Step = Callable[[tuple[tf.Tensor, ...]], object]

_POLL_S = 0.05  # between looks whether a stop has been asked for


class TrainingEpoch:
    """The compiled programs that learn from a training set.

    There are two: whole batches, and the smaller last batch where there is one, which differ in
    nothing but that static size.

    Args:
        network: compiled, its optimizer and metric variables built.
        rows: the training set.
        batches: makes batches of its rows, inside the programs.
        training: the batch size counts.
    """

    def __init__(
        self,
        network: keras.Sequential,
        rows: Rows,
        batches: BatchMaker,
        training: TrainingConfig,
    ) -> None:
        self._rows = rows
        self._batch_size = training.batch_size
        self._programs = _make_programs(network.train_step, rows, batches, training.batch_size)

    @property
    def step_count(self) -> int:
        """Steps in an epoch, the partial last one included."""
        return count_steps(self._rows, self._batch_size)

    def compile(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Compile the programs side by side, by calls that run no step.

        They are traced one after the other: so they get the same names in every process, by
        which compiled programs are found again.

        Args:
            should_stop: asked meanwhile whether to go on; a compiler cannot be interrupted, but
                nobody has to wait for it.

        Returns:
            Whether they are ready; false where a stop was asked for.
        """
        begin_s = time.perf_counter()
        (window,) = self._rows.take(0, 0)
        for program in self._programs.values():
            program.get_concrete_function(*_list_arguments(window))
        threads = ThreadPoolExecutor(len(self._programs), "compile")
        calls = {threads.submit(self._call, size, window) for size in self._programs}
        while wait(calls, _POLL_S).not_done:
            if should_stop():
                threads.shutdown(wait=False, cancel_futures=True)
                return False
        threads.shutdown()
        for call in calls:
            call.result()
        sizes, duration_s = list(self._programs), time.perf_counter() - begin_s
        _LOG.info("compiled the epoch in %.2f s, for batches of %s", duration_s, sizes)
        return True

    def set_epoch(self, number: int) -> None:
        """Put the rows in the order of the epoch `number`, from 0."""
        self._rows.set_epoch(number)

    def prefetch_epoch(self, number: int) -> None:
        """Begin to put the rows in the order of a later epoch, while this one is trained."""
        self._rows.prefetch_epoch(number)

    def run(self, lo: int, hi: int) -> None:
        """Train on the steps lo to hi (exclusive) of the order arranged last."""
        for size, window in walk_steps(self._rows, self._batch_size, lo, hi):
            self._call(size, window)

    def _call(self, size: int, window: Window) -> None:
        """Run the program for one size of batches."""
        self._programs[size](*_list_arguments(window))


def _make_programs(
    run_step: _Step, rows: Rows, batches: BatchMaker, batch_size: int
) -> dict[int, tf.types.experimental.PolymorphicFunction]:
    """Return a program for whole batches and one for the smaller last one, by their sizes."""
    full, rest = divmod(len(rows), batch_size)
    sizes = [batch_size] * (full > 0) + [rest] * (rest > 0)
    return {size: _make_program(run_step, batches, batch_size, size) for size in sizes}


def _make_program(
    run_step: _Step, batches: BatchMaker, batch_size: int, size: int
) -> tf.types.experimental.PolymorphicFunction:
    """Return the program that runs Keras' step on batches of one size."""

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def run_steps(images: tf.Tensor, labels: tf.Tensor, lo: tf.Tensor, hi: tf.Tensor) -> None:
        def step(i: tf.Tensor) -> tf.Tensor:
            run_step(batches.cut(images, labels, i * batch_size, size))
            return i + 1

        tf.while_loop(lambda i: i < hi, step, [lo], parallel_iterations=1)

    return run_steps


def _list_arguments(window: Window) -> tuple[tf.Tensor, ...]:
    """Return what the programs take: rows in order, and from which step to which."""
    return window.images, window.labels, tf.constant(window.lo), tf.constant(window.hi)


def make_rows(
    network: keras.Sequential, split: Split, training: TrainingConfig, placement: Placement
) -> Rows:
    """Put a training set where its rows are to lie."""
    kind = ResidentRows if placement == "resident" else StreamedRows
    return kind(network, split, training)


def read_in_order(split: Split) -> TrainingConfig:
    """Say how a split is read that is only monitored: in its own order, once at a time."""
    size = min(EVALUATION_BATCH_SIZE, len(split))
    return TrainingConfig(shuffle=False, batch_size=size, epochs=1)


def make_epoch(
    network: keras.Sequential,
    split: Split,
    preprocessing: Preprocessing,
    training: TrainingConfig,
    placement: Placement = "resident",
) -> TrainingEpoch:
    """Return the programs for a training set.

    Args:
        network: compiled, its optimizer and metric variables built.
        split: the training set, uint8.
        preprocessing: applied to each batch inside the programs.
        training: batch size, loss (which decides the form of the labels), class weights,
            shuffling and seed.
        placement: where the rows lie; the bits are the same.
    """
    batches = make_batches(network, split, preprocessing, training)
    rows = make_rows(network, split, training, placement)
    return TrainingEpoch(network, rows, batches, training)


class ValidationEpoch:
    """A split to monitor, and the compiled programs that evaluate it with Keras' `test_step`.

    Args:
        network: compiled.
        split: uint8 images.
        preprocessing: applied to each batch inside the programs.
        loss: decides the form of the labels.
        placement: where the rows lie; the bits are the same.
    """

    def __init__(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        loss: str,
        placement: Placement = "resident",
    ) -> None:
        self._network = network
        batches = BatchMaker(network, preprocessing, loss)
        in_order = read_in_order(split)
        self._batch_size = in_order.batch_size
        self._rows = make_rows(network, split, in_order, placement)
        self._programs = _make_programs(network.test_step, self._rows, batches, self._batch_size)
        (window,) = self._rows.take(0, 0)
        for program in self._programs.values():
            program.get_concrete_function(*_list_arguments(window))  # as in `compile`
        self._number = 0

    def evaluate(self) -> dict[str, float]:
        """Return Keras' metrics over the whole split; the network's metric sums start at 0."""
        self._network.reset_metrics()
        self._rows.set_epoch(self._number)
        self._number += 1
        step_count = count_steps(self._rows, self._batch_size)
        for size, window in walk_steps(self._rows, self._batch_size, 0, step_count):
            self._programs[size](*_list_arguments(window))
        return {name: float(value) for name, value in self._network.get_metrics_result().items()}
