"""Where a run's epochs run: on one device, compiled whole, or on several, in shards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import keras
import tensorflow as tf

from mnistcli.batches import BatchMaker, weigh_classes
from mnistcli.config.models import TrainingConfig
from mnistcli.datasets.dataset import Split
from mnistcli.epoch import EVALUATION_BATCH_SIZE, ValidationEpoch, make_epoch
from mnistcli.errors import ResourceError
from mnistcli.preprocessing import Preprocessing
from mnistcli.rows import ResidentRows, place_rows
from mnistcli.sharded_epoch import ShardedEpoch, ShardedValidation


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

    def decide(self, number: int) -> int:
        """Return the number that holds for all who run this run; each asks as often as any."""


class OneDevice:
    """One device, and whole epochs compiled by XLA."""

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
        return make_epoch(network, split, preprocessing, training)

    def make_validation(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> Validation:
        """Return the compiled program."""
        return ValidationEpoch(network, split, preprocessing, loss)

    def decide(self, number: int) -> int:
        """Nobody else is there."""
        return number


class SeveralDevices:
    """Several devices of this machine, each with a copy of the network and a shard of each batch.

    Args:
        strategy: joins them.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy

    def open(self) -> AbstractContextManager[object]:
        """Let variables be made on every device."""
        scope: AbstractContextManager[object] = self._strategy.scope()
        return scope

    def make_epoch(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        training: TrainingConfig,
    ) -> Epoch:
        """Return the program that takes each batch in shards."""
        weights = weigh_classes(training.class_weight, split, int(network.output_shape[-1]))
        batches = BatchMaker(network, preprocessing, training.loss, weights)
        with tf.device("CPU:0"):
            rows = ResidentRows(network, split, training)
        return ShardedEpoch(self._strategy, network, rows, batches, training.batch_size)

    def make_validation(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> Validation:
        """Return the program that takes each batch in shards."""
        batches = BatchMaker(network, preprocessing, loss)
        with tf.device("CPU:0"):
            rows = place_rows(network, split)
        size = min(EVALUATION_BATCH_SIZE, len(split))
        return ShardedValidation(self._strategy, network, rows, batches, size)

    def decide(self, number: int) -> int:
        """Nobody else is there."""
        return number


def open_devices(count: int) -> Engine:
    """Return the engine that runs on the first `count` devices of this machine.

    GPUs where there are any; else the processor is taken for so many devices, which share its
    threads. One device is the compiled epoch of always.

    Args:
        count: at least 1; in one process always the same, or less than at first.

    Raises:
        ResourceError: there are GPUs, but not so many.
    """
    if count == 1:
        return OneDevice()
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if count > len(gpus):
            what = f"{count} devices were asked for, this machine has {len(gpus)} GPUs"
            hint = f"give --devices {len(gpus)} or less, or hide them: CUDA_VISIBLE_DEVICES=-1"
            raise ResourceError("--devices", what, hint)
        names = [f"GPU:{number}" for number in range(count)]
        return SeveralDevices(tf.distribute.MirroredStrategy(names))
    _divide_processor(count)
    names = [f"CPU:{number}" for number in range(count)]
    # Its default for several CPUs is meant for several machines, and knows one group a process.
    adder = tf.distribute.ReductionToOneDevice()
    return SeveralDevices(tf.distribute.MirroredStrategy(names, adder))


def _divide_processor(count: int) -> None:
    """Make at least so many devices of the processor; RuntimeError once TensorFlow has started."""
    (processor,) = tf.config.list_physical_devices("CPU")
    existing = tf.config.get_logical_device_configuration(processor) or [None]
    if len(existing) < count:
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        tf.config.set_logical_device_configuration(processor, parts)
