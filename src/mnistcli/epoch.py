"""One epoch as one compiled function.

The data set stays on the device as uint8. A permutation puts its rows in order (one
multi-threaded gather); then one XLA program runs Keras' own `train_step` for the steps lo to hi
and leaves weights, optimizer and metrics in the network's variables. lo and hi are tensors, so
that a whole epoch and a piece of one are the same program, and give the same bits.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from mnistcli.datasets.dataset import Split
from mnistcli.network import encode_labels
from mnistcli.preprocessing import Preprocessing

EVALUATION_BATCH_SIZE = 1000


class _ResidentData:
    """A split on the device, cut into batches inside the compiled program."""

    def __init__(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        loss: str,
        batch_size: int,
    ) -> None:
        shape = (len(split), *network.input_shape[1:])
        self.images = tf.constant(split.images.reshape(shape))
        self.labels = tf.constant(split.labels)
        self.batch_size = batch_size
        self.full_batch_count, self.remainder = divmod(len(split), batch_size)
        self._preprocessing = preprocessing
        self._loss = loss
        self._units = int(network.output_shape[-1])

    def cut(
        self, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, size: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `size` rows from `start` on as network input and encoded labels."""
        rest = [0] * (len(images.shape) - 1)
        rows = tf.slice(images, [start, *rest], [size, *images.shape[1:]])
        inputs = tf.cast(rows, tf.float32)
        if self._preprocessing.offset != 0:
            inputs -= np.float32(self._preprocessing.offset)
        if self._preprocessing.scale != 1:
            inputs /= np.float32(self._preprocessing.scale)
        return inputs, encode_labels(tf.slice(labels, [start], [size]), self._loss, self._units)


class TrainingEpoch:
    """The training set, resident, and the compiled program that learns from it.

    Args:
        network: compiled, its optimizer and metric variables built.
        split: the training set, uint8.
        preprocessing: applied to each batch inside the program.
        loss: name of the loss, which decides the form of the labels.
        batch_size: examples per step; the last step takes what is left.
    """

    def __init__(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        loss: str,
        batch_size: int,
    ) -> None:
        self._network = network
        self._data = _ResidentData(network, split, preprocessing, loss, batch_size)
        self._images, self._labels = self._data.images, self._data.labels
        self._run_full = tf.function(self._train_on_full_batches, jit_compile=True)
        self._run_partial = tf.function(self._train_on_remainder, jit_compile=True)

    @property
    def step_count(self) -> int:
        """Steps in an epoch, the partial last one included."""
        return self._data.full_batch_count + (self._data.remainder > 0)

    def arrange(self, order: np.ndarray | None) -> None:
        """Put the rows in the order of an epoch; None is the order of the file.

        Args:
            order: int [count], a permutation of the rows.
        """
        data = self._data
        if order is None:
            self._images, self._labels = data.images, data.labels
        else:
            indices = tf.constant(order, tf.int32)
            self._images = tf.gather(data.images, indices)
            self._labels = tf.gather(data.labels, indices)

    def run(self, lo: int, hi: int) -> None:
        """Train on the steps lo to hi (exclusive) of the order arranged last."""
        full = self._data.full_batch_count
        if lo < min(hi, full):
            self._run_full(self._images, self._labels, tf.constant(lo), tf.constant(min(hi, full)))
        if hi > full:
            self._run_partial(self._images, self._labels)

    def _train_on_full_batches(
        self, images: tf.Tensor, labels: tf.Tensor, lo: tf.Tensor, hi: tf.Tensor
    ) -> None:
        """Run train_step on whole batches in a loop that XLA compiles as one program."""

        def step(i: tf.Tensor) -> tf.Tensor:
            size = self._data.batch_size
            self._network.train_step(self._data.cut(images, labels, i * size, size))
            return i + 1

        tf.while_loop(lambda i: i < hi, step, [lo], parallel_iterations=1)

    def _train_on_remainder(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        """Run train_step on the rows that fill no whole batch."""
        start = tf.constant(self._data.full_batch_count * self._data.batch_size)
        self._network.train_step(self._data.cut(images, labels, start, self._data.remainder))


class ValidationEpoch:
    """A split to monitor, resident, and the compiled program that evaluates it with Keras."""

    def __init__(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> None:
        size = min(EVALUATION_BATCH_SIZE, len(split))
        self._network = network
        self._data = _ResidentData(network, split, preprocessing, loss, size)
        self._run = tf.function(self._test_all, jit_compile=True)

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
