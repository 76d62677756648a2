"""The machine's threads, and several of its devices as the place where epochs run."""

from __future__ import annotations

from contextlib import AbstractContextManager

import keras
import tensorflow as tf

from mnistcli.config.schema import TrainingConfig
from mnistcli.datasets.base import Split
from mnistcli.errors import ResourceError
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.memory import Placement
from mnistcli.training.batches import BatchMaker, make_batches
from mnistcli.training.compiled_epoch import make_rows, read_in_order
from mnistcli.training.distributed.engine import Engine, Epoch, OneDevice, Validation
from mnistcli.training.distributed.sharded_epoch import ShardedEpoch, ShardedValidation
from mnistcli.training.rows import Rows


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
