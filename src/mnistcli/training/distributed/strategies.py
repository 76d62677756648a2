"""One step on several devices: what each does with its shard of a batch, and the loop over steps.

Keras' own `train_step` takes the mean of each shard and then of those means, clips each shard's
gradient before the sum, and counts penalties and metrics accordingly: that is the batch's only
where all shards are of one size. So the step is written out here, with Keras' forward pass, loss,
metrics and optimizer: what is learned from a batch is what one device learns from it, but for the
rounding of sums.

`strategy.run` works inside an AutoGraph loop over the steps, and nowhere inside a `tf.while_loop`
or XLA: it is another program than that of `epoch`, with other bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from mnistcli.training.batches import BatchMaker
from mnistcli.training.rows import Window

_Step = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], None]


class ShardedStep:
    """What each replica does with its shard of a batch; called by `strategy.run`.

    Args:
        network: compiled under the strategy.
        batches: makes network input of raw rows.
    """

    def __init__(self, network: keras.Sequential, batches: BatchMaker) -> None:
        self._network, self._batches = network, batches

    def train(
        self, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, size: tf.Tensor
    ) -> None:
        """Learn from the batch of `size` rows that begins at row `start`."""
        inputs, encoded, weights = self._cut(images, labels, start, size)
        variables = self._network.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self._network(inputs, training=True)
            share = self._network.compute_loss(inputs, encoded, outputs, weights, training=True)
        gradients = tape.gradient(share, variables)
        *gradients, loss = _sum_over_replicas([*gradients, share])
        self._network.optimizer.apply(gradients, variables)
        self._count(inputs, encoded, outputs, loss, size)

    def test(self, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> None:
        """Add the batch of `size` rows that begins at row `start` to the metrics."""
        inputs, encoded, weights = self._cut(images, labels, start, size)
        outputs = self._network(inputs, training=False)
        share = self._network.compute_loss(inputs, encoded, outputs, weights, training=False)
        (loss,) = _sum_over_replicas([share])
        self._count(inputs, encoded, outputs, loss, size)

    def _cut(
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
        with tf.device("CPU:0"):  # where the rows lie: of these only the shard is to travel
            rows = tf.slice(images, [start + lo, *rest], [hi - lo, *images.shape[1:]])
            classes = tf.slice(labels, [start + lo], [hi - lo])
        inputs, encoded, *given = self._batches.cut(rows, classes, tf.constant(0), hi - lo)
        weight = tf.cast((hi - lo) * count, tf.float32) / tf.cast(size, tf.float32)
        return inputs, encoded, weight * (given[0] if given else tf.ones([hi - lo]))

    def _count(
        self,
        inputs: tf.Tensor,
        encoded: tf.Tensor,
        outputs: tf.Tensor,
        loss: tf.Tensor,
        size: tf.Tensor,
    ) -> None:
        """Add a batch to the sums of which metrics are made.

        The loss is the whole batch's: the first replica alone counts it, so that its sum is one
        number, which a checkpoint keeps and gives back with all its bits. What the others count
        are whole numbers.
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
    step = tf.autograph.experimental.do_not_convert(step)

    @tf.function  # type: ignore[untyped-decorator]
    def run(
        images: tf.Tensor, labels: tf.Tensor, lo: tf.Tensor, hi: tf.Tensor, size: tf.Tensor
    ) -> None:
        for i in tf.range(lo, hi):  # AutoGraph's: see above
            strategy.run(step, args=(images, labels, i * batch_size, size))

    return run


def call_program(
    program: tf.types.experimental.PolymorphicFunction, window: Window, size: int
) -> None:
    """Run what `make_loop` returned on a window's steps, each of a batch of `size` rows."""
    numbers = [tf.constant(number) for number in (window.lo, window.hi, size)]
    program(window.images, window.labels, *numbers)


def sum_before_clipping(optimizer: keras.optimizers.Optimizer) -> None:
    """Let an optimizer take gradients that are summed already.

    Keras' own would sum them over the replicas, after it has clipped those of each replica: to
    clip a batch's gradient it has to be whole.
    """
    optimizer._all_reduce_sum_gradients = list


def _sum_over_replicas(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Sum tensors over the replicas, all in one go."""
    context = tf.distribute.get_replica_context()
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors)))
