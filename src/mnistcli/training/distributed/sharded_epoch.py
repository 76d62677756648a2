"""Epochs on several devices: each batch is cut into shards, one per device.

Keras' own `train_step` takes the mean of each shard and then of those means, clips each shard's
gradient before the sum, and counts penalties and metrics accordingly, which is correct only where
all shards have the same size. So the step is written out here, with Keras' forward pass, loss,
metrics and optimizer: the update is the one of a single device, up to the rounding of sums.
`strategy.run` does not work under XLA; so the program is not that of `compiled_epoch`, and its
results are not bit-identical to those of one device.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from mnistcli.training.compiled_epoch import BatchTransform
from mnistcli.training.input_pipeline import EpochData, Window, count_steps, iter_steps

_LOG = logging.getLogger(__name__)

_Step = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], None]


class ShardedStep:
    """What each replica does with its shard of a batch; called by `strategy.run`.

    Args:
        network: compiled under the strategy.
        transform: makes network input of raw rows.
    """

    def __init__(self, network: keras.Sequential, transform: BatchTransform) -> None:
        self._network, self._transform = network, transform

    def train(
        self, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, size: tf.Tensor
    ) -> None:
        """Train on the batch of `size` rows that begins at row `start`."""
        inputs, encoded, weights = self._make_shard(images, labels, start, size)
        variables = self._network.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self._network(inputs, training=True)
            share = self._network.compute_loss(inputs, encoded, outputs, weights, training=True)
        gradients = tape.gradient(share, variables)
        *gradients, loss = _sum_over_replicas([*gradients, share])
        self._network.optimizer.apply(gradients, variables)
        self._update_metrics(inputs, encoded, outputs, loss, size)

    def test(self, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> None:
        """Add the batch of `size` rows that begins at row `start` to the metrics."""
        inputs, encoded, weights = self._make_shard(images, labels, start, size)
        outputs = self._network(inputs, training=False)
        share = self._network.compute_loss(inputs, encoded, outputs, weights, training=False)
        (loss,) = _sum_over_replicas([share])
        self._update_metrics(inputs, encoded, outputs, loss, size)

    def _make_shard(
        self, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, size: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return this replica's shard, which may be empty: inputs, labels, weights [rows].

        Keras divides a shard's loss by its rows and by the number of replicas; the weights turn
        that into the shard's part of the whole batch's mean. Penalties it divides by the number
        of replicas alone, and so they count once.
        """
        context = tf.distribute.get_replica_context()
        number, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
        lo, hi = size * number // count, size * (number + 1) // count
        rest = [0] * (len(images.shape) - 1)
        with tf.device("CPU:0"):  # where the rows are: only the shard is copied
            rows = tf.slice(images, [start + lo, *rest], [hi - lo, *images.shape[1:]])
            classes = tf.slice(labels, [start + lo], [hi - lo])
        inputs, encoded, *given = self._transform.make_batch(rows, classes, tf.constant(0), hi - lo)
        weight = tf.cast((hi - lo) * count, tf.float32) / tf.cast(size, tf.float32)
        return inputs, encoded, weight * (given[0] if given else tf.ones([hi - lo]))

    def _update_metrics(
        self,
        inputs: tf.Tensor,
        encoded: tf.Tensor,
        outputs: tf.Tensor,
        loss: tf.Tensor,
        size: tf.Tensor,
    ) -> None:
        """Add a batch to the metric sums.

        Only the first replica counts the loss, which is the whole batch's: so its sum is one
        number, which a checkpoint can restore bit for bit. The other sums are whole numbers.
        """
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        self._network.metrics[0].update_state(loss, tf.where(number == 0, size, 0))
        self._network.compute_metrics(inputs, encoded, outputs)


def make_loop(
    strategy: tf.distribute.Strategy, step: _Step, batch_size: int
) -> tf.types.experimental.PolymorphicFunction:
    """Return the program that takes steps on all replicas.

    Args:
        strategy: runs a step on each of its replicas.
        step: takes rows in order, the batch's first row and its number of rows.
        batch_size: from one batch's first row to the next one's.

    Returns:
        Takes images, labels, the first step, the step before which to stop, and the number of
        rows of each batch.
    """

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def run(
        images: tf.Tensor, labels: tf.Tensor, lo: tf.Tensor, hi: tf.Tensor, size: tf.Tensor
    ) -> None:
        def take_step(i: tf.Tensor) -> tuple[tf.Tensor]:
            strategy.run(step, args=(images, labels, i * batch_size, size))
            return (i + 1,)

        tf.while_loop(lambda i: i < hi, take_step, [lo], parallel_iterations=1)

    return run


def call_program(
    program: tf.types.experimental.PolymorphicFunction, window: Window, size: int
) -> None:
    """Run what `make_loop` returned on a window's steps, each of a batch of `size` rows."""
    numbers = [tf.constant(number) for number in (window.lo, window.hi, size)]
    program(window.images, window.labels, *numbers)


def sum_before_clipping(optimizer: keras.optimizers.Optimizer) -> None:
    """Make an optimizer accept gradients that are already summed.

    Keras' own would sum them over the replicas, after it has clipped those of each replica: to
    clip a batch's gradient it has to be whole.
    """
    optimizer._all_reduce_sum_gradients = list


def _sum_over_replicas(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Sum tensors over the replicas, in one all-reduce."""
    context = tf.distribute.get_replica_context()
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors)))


class ShardedEpoch:
    """The program that learns from a training set on all devices of a strategy.

    One program takes batches of any size: without XLA, shapes need not be static.

    Args:
        strategy: holds the network's copies.
        network: compiled under the strategy, its optimizer and metric variables built.
        data: the training set, in this machine's own memory.
        transform: makes shards of its rows.
        batch_size: rows of a step, over all devices.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        network: keras.Sequential,
        data: EpochData,
        transform: BatchTransform,
        batch_size: int,
    ) -> None:
        self._data, self._batch_size = data, batch_size
        sum_before_clipping(network.optimizer)
        step = ShardedStep(network, transform)
        self._program = make_loop(strategy, step.train, batch_size)

    @property
    def step_count(self) -> int:
        """Steps in an epoch, the partial last one included."""
        return count_steps(self._data, self._batch_size)

    def compile(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Trace the program, by a call that runs no step; always true.

        Args:
            should_stop: not asked: there is no compiler to wait for.
        """
        del should_stop
        begin_s = time.perf_counter()
        (window,) = self._data.iter_windows(0, 0)
        self._call(self._batch_size, window)
        _LOG.info("traced the epoch in %.2f s", time.perf_counter() - begin_s)
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
        """Run the program for batches of one size."""
        call_program(self._program, window, size)


class ShardedValidation:
    """A split to monitor, and the program that evaluates it on all devices of a strategy.

    Args:
        strategy: holds the network's copies.
        network: as for `ShardedEpoch`.
        data: the split, in its own order.
        transform: makes shards of them.
        batch_size: rows of a step, over all devices.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        network: keras.Sequential,
        data: EpochData,
        transform: BatchTransform,
        batch_size: int,
    ) -> None:
        self._network, self._data, self._batch_size = network, data, batch_size
        self._program = make_loop(strategy, ShardedStep(network, transform).test, batch_size)
        self._number = 0

    def evaluate(self) -> dict[str, float]:
        """Return Keras' metrics over the whole split; the network's metric sums start at 0."""
        self._network.reset_metrics()
        self._data.set_epoch(self._number)
        self._number += 1
        step_count = count_steps(self._data, self._batch_size)
        for size, window in iter_steps(self._data, self._batch_size, 0, step_count):
            call_program(self._program, window, size)
        return {name: float(value) for name, value in self._network.get_metrics_result().items()}
