"""One epoch as one compiled function.

The data set stays on the device as uint8, or comes to it in windows. A permutation puts its rows
in order; then one XLA program runs Keras' own `train_step` for the steps lo to hi and leaves
weights, optimizer and metrics in the network's variables. lo and hi are tensors, so that a whole
epoch and a chunk of one are the same program, with bit-identical results.
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
    EpochData,
    InMemoryData,
    StreamingData,
    Window,
    count_steps,
    iter_steps,
)

EVALUATION_BATCH_SIZE = 1000
_POLL_S = 0.05  # between checks whether a stop has been requested
_LOG = logging.getLogger(__name__)

_Step = Callable[[tuple[tf.Tensor, ...]], object]


class BatchTransform:
    """Turns raw rows into what a network's `train_step` and `test_step` take.

    Args:
        network: built; the shape of its inputs and its number of output units are used.
        preprocessing: raw pixels to network input.
        loss: decides the form of the labels.
        class_weights: float32 [classes], the weight of an example of each class in the loss; None
            for equal weights.
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

    def make_batch(
        self, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, size: int | tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Return network input, encoded labels, and sample weights if there are class weights.

        Args:
            images: uint8 [rows, *the network's input].
            labels: uint8 [rows].
            start: the batch's first row.
            size: its number of rows.
        """
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


class TrainingEpoch:
    """The compiled programs that train on a data set.

    There are two: one for whole batches, and one for the smaller last batch where there is one.
    They differ only in that static size.

    Args:
        network: compiled, its optimizer and metric variables built.
        data: the training set.
        transform: makes batches of its rows, inside the programs.
        training: the batch size is used.
    """

    def __init__(
        self,
        network: keras.Sequential,
        data: EpochData,
        transform: BatchTransform,
        training: TrainingConfig,
    ) -> None:
        self._data = data
        self._batch_size = training.batch_size
        self._programs = _make_programs(network.train_step, data, transform, training.batch_size)

    @property
    def step_count(self) -> int:
        """Steps in an epoch, the partial last one included."""
        return count_steps(self._data, self._batch_size)

    def compile(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Compile the programs side by side, by calls that run no step.

        Args:
            should_stop: asked meanwhile; a compiler cannot be interrupted, but need not be waited
                for.

        Returns:
            Whether they are compiled; False where a stop was asked for.
        """
        begin_s = time.perf_counter()
        (window,) = self._data.iter_windows(0, 0)
        # Traced one after the other: so they get the same names in every process, by which
        # compiled programs are found again.
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
        """Order the rows for the epoch `number`, from 0."""
        self._data.set_epoch(number)

    def prefetch_epoch(self, number: int) -> None:
        """Start to order the rows for a later epoch, while this one is trained."""
        self._data.prefetch_epoch(number)

    def run(self, lo: int, hi: int) -> None:
        """Train on the steps lo to hi (exclusive) of the epoch that was set last."""
        for size, window in iter_steps(self._data, self._batch_size, lo, hi):
            self._call(size, window)

    def _call(self, size: int, window: Window) -> None:
        self._programs[size](*_list_arguments(window))


class ValidationEpoch:
    """The compiled programs that evaluate a split with Keras' `test_step`.

    Args:
        network: compiled.
        split: uint8 images.
        preprocessing: applied to each batch inside the programs.
        loss: decides the form of the labels.
        placement: where rows are kept; results are bit-identical.
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
        transform = BatchTransform(network, preprocessing, loss)
        settings = make_evaluation_settings(split)
        self._batch_size = settings.batch_size
        self._data = make_epoch_data(network, split, settings, placement)
        self._programs = _make_programs(network.test_step, self._data, transform, self._batch_size)
        (window,) = self._data.iter_windows(0, 0)
        for program in self._programs.values():
            program.get_concrete_function(*_list_arguments(window))  # as in `compile`
        self._number = 0

    def evaluate(self) -> dict[str, float]:
        """Return Keras' metrics over the whole split; the network's metric sums start at 0."""
        self._network.reset_metrics()
        self._data.set_epoch(self._number)
        self._number += 1
        step_count = count_steps(self._data, self._batch_size)
        for size, window in iter_steps(self._data, self._batch_size, 0, step_count):
            self._programs[size](*_list_arguments(window))
        return {name: float(value) for name, value in self._network.get_metrics_result().items()}


def make_epoch(
    network: keras.Sequential,
    split: Split,
    preprocessing: Preprocessing,
    training: TrainingConfig,
    placement: Placement = "resident",
) -> TrainingEpoch:
    """Return the programs that train on a split.

    Args:
        network: compiled, its optimizer and metric variables built.
        split: the training set, uint8.
        preprocessing: applied to each batch inside the programs.
        training: batch size, loss (which decides the form of the labels), class weights,
            shuffling and seed.
        placement: where rows are kept; results are bit-identical.
    """
    transform = make_batch_transform(network, split, preprocessing, training)
    data = make_epoch_data(network, split, training, placement)
    return TrainingEpoch(network, data, transform, training)


def make_batch_transform(
    network: keras.Sequential, split: Split, preprocessing: Preprocessing, training: TrainingConfig
) -> BatchTransform:
    """Return the transform of a training set, with the class weights of a config."""
    weights = compute_class_weights(training.class_weight, split, int(network.output_shape[-1]))
    return BatchTransform(network, preprocessing, training.loss, weights)


def compute_class_weights(
    weights: ClassWeight, split: Split, units: int
) -> NDArray[np.float32] | None:
    """Return the weight of each class in the loss, float32 [classes]; None where all are 1.

    `balanced` gives a class n / (classes · its examples), as scikit-learn does: every class then
    has the same total weight, and the mean weight of an example is 1.
    """
    if weights is None:
        return None
    if weights != "balanced":
        return np.array(weights, np.float32)
    counts = np.bincount(split.labels, minlength=max(2, units))
    return (len(split) / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


def make_epoch_data(
    network: keras.Sequential, split: Split, training: TrainingConfig, placement: Placement
) -> EpochData:
    """Return a training set in the memory that its rows are kept in."""
    kind = InMemoryData if placement == "resident" else StreamingData
    return kind(network, split, training)


def make_evaluation_settings(split: Split) -> TrainingConfig:
    """Return the settings with which a split is read for evaluation: unshuffled, once."""
    size = min(EVALUATION_BATCH_SIZE, len(split))
    return TrainingConfig(shuffle=False, batch_size=size, epochs=1)


def _make_programs(
    run_step: _Step, data: EpochData, transform: BatchTransform, batch_size: int
) -> dict[int, tf.types.experimental.PolymorphicFunction]:
    """Return a program for whole batches and one for the smaller last one, by their sizes."""
    full, rest = divmod(len(data), batch_size)
    sizes = [batch_size] * (full > 0) + [rest] * (rest > 0)
    return {size: _make_program(run_step, transform, batch_size, size) for size in sizes}


def _make_program(
    run_step: _Step, transform: BatchTransform, batch_size: int, size: int
) -> tf.types.experimental.PolymorphicFunction:
    """Return the program that runs Keras' step on batches of one size."""

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def run_steps(images: tf.Tensor, labels: tf.Tensor, lo: tf.Tensor, hi: tf.Tensor) -> None:
        def step(i: tf.Tensor) -> tf.Tensor:
            run_step(transform.make_batch(images, labels, i * batch_size, size))
            return i + 1

        tf.while_loop(lambda i: i < hi, step, [lo], parallel_iterations=1)

    return run_steps


def _list_arguments(window: Window) -> tuple[tf.Tensor, ...]:
    """Return a program's arguments: rows in order, and from which step to which."""
    return window.images, window.labels, tf.constant(window.lo), tf.constant(window.hi)
