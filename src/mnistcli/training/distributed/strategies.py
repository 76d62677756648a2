"""The machine's threads, and several of its devices as the place where epochs run.

Where a run's epochs run, as its loop sees it; and the simplest such place, one device.

One step on several devices: what each does with its shard of a batch, and the loop over steps.
Keras' own `train_step` takes the mean of each shard and then of those means, clips each shard's
gradient before the sum, and counts penalties and metrics accordingly: that is the batch's only
where all shards are of one size. So the step is written out here, with Keras' forward pass, loss,
metrics and optimizer: what is learned from a batch is what one device learns from it, but for the
rounding of sums. `strategy.run` works inside an AutoGraph loop over the steps, and nowhere inside
a `tf.while_loop` or XLA: it is another program than that of `epoch`, with other bits.

An epoch on several devices: each batch is cut into shards, one a device.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import keras
import tensorflow as tf

from mnistcli.config.schema import TrainingConfig
from mnistcli.datasets.base import Split
from mnistcli.errors import ResourceError
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.memory import Placement
from mnistcli.training.compiled_epoch import (
    BatchMaker,
    ValidationEpoch,
    make_batches,
    make_epoch,
    make_rows,
    read_in_order,
)
from mnistcli.training.input_pipeline import Rows, Window, count_steps, walk_steps


class Epoch(Protocol):
    """What learns from a training set."""

    @property
    def step_count(self) -> int:
        """Steps in an epoch, the partial last one included."""

    def compile(self, is_stopping: Callable[[], bool]) -> bool:
        """Make ready; false where a stop was asked for meanwhile."""

    def arrange(self, number: int) -> None:
        """Put the rows in the order of the epoch `number`, from 0."""

    def arrange_next(self, number: int) -> None:
        """Begin to do so for a later epoch, while this one is trained."""

    def run(self, lo: int, hi: int) -> None:
        """Train on the steps lo to hi (exclusive) of the order arranged last."""


class Validation(Protocol):
    """What monitors a split."""

    def evaluate(self) -> dict[str, float]:
        """Return Keras' metrics over the whole split; the network's metric sums start at 0."""


class Engine(Protocol):
    """Where epochs run."""

    def open(self) -> AbstractContextManager[object]:
        """Return the context in which the network has to be made and compiled."""

    def make_epoch(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        training: TrainingConfig,
    ) -> Epoch:
        """Return what learns from a training set, uint8."""

    def make_validation(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> Validation:
        """Return what monitors a split, uint8."""

    def exchange(self, number: int) -> tuple[int, ...]:
        """Return everybody's number, in the order of workers; the same for all of them.

        Each that takes part in this run has to call it as often as any other.
        """


class OneDevice:
    """One device, and whole epochs compiled by XLA.

    Args:
        placement: where rows lie; the bits are the same.
    """

    def __init__(self, placement: Placement = "resident") -> None:
        self._placement = placement

    def open(self) -> AbstractContextManager[object]:
        """Change nothing."""
        return contextlib.nullcontext()

    def make_epoch(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        training: TrainingConfig,
    ) -> Epoch:
        """Return the compiled programs."""
        return make_epoch(network, split, preprocessing, training, self._placement)

    def make_validation(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> Validation:
        """Return the compiled programs."""
        return ValidationEpoch(network, split, preprocessing, loss, self._placement)

    def exchange(self, number: int) -> tuple[int, ...]:
        """Return the number: nobody else is there."""
        return (number,)


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


def set_thread_count(count: int) -> None:
    """Let TensorFlow use `count` threads; their number changes the last bits of results.

    Raises:
        RuntimeError: TensorFlow has started with another number.
    """
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


class SeveralDevices:
    """Several devices of this machine, each with a copy of the network and a shard of each batch.

    Args:
        strategy: joins them.
        placement: where rows lie; the bits are the same.
    """

    def __init__(self, strategy: tf.distribute.Strategy, placement: Placement = "resident") -> None:
        self.strategy, self._placement = strategy, placement

    def open(self) -> AbstractContextManager[object]:
        """Let variables be made on every device."""
        scope: AbstractContextManager[object] = self.strategy.scope()
        return scope

    def make_epoch(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        training: TrainingConfig,
    ) -> Epoch:
        """Return the program that takes each batch in shards."""
        batches = make_batches(network, split, preprocessing, training)
        rows = self._make_rows(network, split, training)
        return ShardedEpoch(self.strategy, network, rows, batches, training.batch_size)

    def make_validation(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> Validation:
        """Return the program that takes each batch in shards."""
        batches = BatchMaker(network, preprocessing, loss)
        in_order = read_in_order(split)
        rows = self._make_rows(network, split, in_order)
        return ShardedValidation(self.strategy, network, rows, batches, in_order.batch_size)

    def _make_rows(self, network: keras.Sequential, split: Split, training: TrainingConfig) -> Rows:
        """Keep rows in the machine's own memory, from which each device gets its shards."""
        with tf.device("CPU:0"):
            return make_rows(network, split, training, self._placement)

    def exchange(self, number: int) -> tuple[int, ...]:
        """Return the number: nobody else is there."""
        return (number,)


def open_devices(count: int, placement: Placement = "resident") -> Engine:
    """Return the engine that runs on the first `count` devices of this machine.

    GPUs where there are any; else the processor is taken for so many devices, which share its
    threads. One device is the compiled epoch of always.

    Args:
        count: at least 1; in one process always the same, or less than at first.
        placement: where rows lie; the bits are the same.

    Raises:
        ResourceError: there are GPUs, but not so many.
    """
    if count == 1:
        return OneDevice(placement)
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        check_gpu_count(count, len(gpus))
        names = [f"GPU:{number}" for number in range(count)]
        return SeveralDevices(tf.distribute.MirroredStrategy(names), placement)
    _divide_processor(count)
    names = [f"CPU:{number}" for number in range(count)]
    # Its default for several CPUs is meant for several machines, and knows one group a process.
    adder = tf.distribute.ReductionToOneDevice()
    return SeveralDevices(tf.distribute.MirroredStrategy(names, adder), placement)


def check_gpu_count(asked: int, present: int) -> None:
    """Refuse more devices than there are GPUs; ResourceError."""
    if asked > present:
        what = f"{asked} devices were asked for, this machine has {present} GPUs"
        hint = f"give --devices {present} or less, or hide them: CUDA_VISIBLE_DEVICES=-1"
        raise ResourceError("--devices", what, hint)


def _divide_processor(count: int) -> None:
    """Make at least so many devices of the processor; RuntimeError once TensorFlow has started."""
    (processor,) = tf.config.list_physical_devices("CPU")
    existing = tf.config.get_logical_device_configuration(processor) or [None]
    if len(existing) < count:
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        tf.config.set_logical_device_configuration(processor, parts)
