"""Where training steps run: on one device, on several, or on several machines.

As in `tf.distribute`, a strategy makes the network's variables, runs the steps, and exchanges
values between workers. The trainer does not know which one it has.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Protocol

import keras
import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy
from tensorflow.python.eager import context

from mnistcli.config.schema import TrainingConfig
from mnistcli.datasets.base import Split
from mnistcli.errors import ResourceError, UsageError, pluralize
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.memory import Placement
from mnistcli.training.compiled_epoch import (
    BatchTransform,
    ValidationEpoch,
    make_batch_transform,
    make_epoch,
    make_epoch_data,
    make_evaluation_settings,
)
from mnistcli.training.distributed.cluster import Cluster
from mnistcli.training.distributed.sharded_epoch import ShardedEpoch, ShardedValidation
from mnistcli.training.input_pipeline import EpochData

CHECK_INTERVAL_S = 5.0
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
    tf.errors.DeadlineExceededError,
)
_LOST_HINT = "see its messages, then go on: mnistcli train --resume FILE.h5"
_LOG = logging.getLogger(__name__)


class Epoch(Protocol):
    """Compiled steps on a training set."""

    @property
    def step_count(self) -> int:
        """Steps in an epoch, the partial last one included."""

    def compile(self, should_stop: Callable[[], bool]) -> bool:
        """Compile the steps; return False where a stop was asked for meanwhile."""

    def set_epoch(self, number: int) -> None:
        """Order the rows for the epoch `number`, from 0."""

    def prefetch_epoch(self, number: int) -> None:
        """Start to order the rows for a later epoch, while this one is trained."""

    def run(self, lo: int, hi: int) -> None:
        """Train on the steps lo to hi (exclusive) of the epoch that was set last."""


class Validation(Protocol):
    """Compiled steps that evaluate a split."""

    def evaluate(self) -> dict[str, float]:
        """Return Keras' metrics over the whole split; the network's metric sums start at 0."""


class Strategy(Protocol):
    """Where the steps of a run are run, and how its workers agree."""

    def scope(self) -> AbstractContextManager[object]:
        """Return the context in which the network has to be made and compiled."""

    def make_epoch(
        self,
        network: keras.Sequential,
        split: Split,
        preprocessing: Preprocessing,
        training: TrainingConfig,
    ) -> Epoch:
        """Return the steps that train on a split, uint8."""

    def make_validation(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> Validation:
        """Return the steps that evaluate a split, uint8."""

    # Each worker of a run has to call these three equally often, and in the same order.

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any worker."""

    def broadcast(self, number: int) -> int:
        """Return the chief's number, for decisions that depend on a clock."""

    def all_gather(self, number: int) -> tuple[int, ...]:
        """Return the numbers of all workers, in their order."""


class _OneProcess:
    """A strategy without other workers: nothing is exchanged."""

    def any(self, flag: bool) -> bool:
        """Return the flag."""
        return flag

    def broadcast(self, number: int) -> int:
        """Return the number."""
        return number

    def all_gather(self, number: int) -> tuple[int, ...]:
        """Return the number alone."""
        return (number,)


class SingleDeviceStrategy(_OneProcess):
    """One device, on which XLA compiles whole epochs.

    Args:
        placement: where rows are kept; results are bit-identical.
    """

    def __init__(self, placement: Placement = "resident") -> None:
        self._placement = placement

    def scope(self) -> AbstractContextManager[object]:
        """Return a context that changes nothing."""
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


class MirroredStrategy(_OneProcess):
    """Several devices of this machine, each with a copy of the network and a shard of each batch.

    Args:
        strategy: TensorFlow's, which joins them.
        placement: where rows are kept; results are bit-identical.
    """

    def __init__(self, strategy: tf.distribute.Strategy, placement: Placement = "resident") -> None:
        self._strategy, self._placement = strategy, placement

    def scope(self) -> AbstractContextManager[object]:
        """Return the context in which variables are made on every device."""
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
        transform = make_batch_transform(network, split, preprocessing, training)
        data = self._make_data(network, split, training)
        return ShardedEpoch(self._strategy, network, data, transform, training.batch_size)

    def make_validation(
        self, network: keras.Sequential, split: Split, preprocessing: Preprocessing, loss: str
    ) -> Validation:
        """Return the program that takes each batch in shards."""
        transform = BatchTransform(network, preprocessing, loss)
        settings = make_evaluation_settings(split)
        data = self._make_data(network, split, settings)
        return ShardedValidation(self._strategy, network, data, transform, settings.batch_size)

    def _make_data(
        self, network: keras.Sequential, split: Split, training: TrainingConfig
    ) -> EpochData:
        """Keep the rows in main memory, from which each device gets its shards."""
        with tf.device("CPU:0"):
            return make_epoch_data(network, split, training, self._placement)


class MultiWorkerStrategy(MirroredStrategy):
    """Processes that each hold a copy of the network and take a shard of each batch.

    Args:
        strategy: TensorFlow's, which joins them.
        cluster: the workers, and which of them this one is.
        placement: where this worker's rows are kept; results are bit-identical.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, cluster: Cluster, placement: Placement
    ) -> None:
        super().__init__(strategy, placement)
        self._cluster = cluster
        self._thread = ThreadPoolExecutor(1, "all_gather")

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any worker."""
        return any(self.all_gather(int(flag)))

    def broadcast(self, number: int) -> int:
        """Return the chief's number."""
        return self.all_gather(number)[0]

    def all_gather(self, number: int) -> tuple[int, ...]:
        """Return the numbers of all workers, in their order."""
        # In a thread: Python handles signals in its main thread while this waits for the others.
        return self._thread.submit(self._all_gather, number).result()

    def _all_gather(self, number: int) -> tuple[int, ...]:
        """Sum vectors in which each worker fills one element."""
        own = [0] * len(self._cluster.addresses)
        own[self._cluster.number] = number
        total = self._strategy.reduce(
            tf.distribute.ReduceOp.SUM, tf.constant(own, tf.int64), axis=None
        )
        return tuple(int(value) for value in total.numpy())


def set_thread_count(count: int) -> None:
    """Set the number of TensorFlow's threads; it affects the rounding of results.

    Raises:
        RuntimeError: TensorFlow has started with another number.
    """
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def make_strategy(device_count: int, placement: Placement = "resident") -> Strategy:
    """Return the strategy that runs on the first devices of this machine.

    GPUs where there are any; otherwise the processor is divided into as many devices, which share
    its threads.

    Args:
        device_count: at least 1; in one process always the same, or less than at first.
        placement: where rows are kept; results are bit-identical.

    Raises:
        ResourceError: there are fewer GPUs.
    """
    if device_count == 1:
        return SingleDeviceStrategy(placement)
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        _check_gpu_count(device_count, len(gpus))
        names = [f"GPU:{number}" for number in range(device_count)]
        return MirroredStrategy(tf.distribute.MirroredStrategy(names), placement)
    _divide_processor(device_count)
    names = [f"CPU:{number}" for number in range(device_count)]
    # Its default for several CPUs is meant for several machines, and knows one group a process.
    adder = tf.distribute.ReductionToOneDevice()
    return MirroredStrategy(tf.distribute.MirroredStrategy(names, adder), placement)


def connect_workers(
    cluster: Cluster, device_count: int, timeout_s: float, placement: Placement
) -> Strategy:
    """Return the strategy of all workers together, once all are there.

    Args:
        cluster: the workers, and which of them this one is; TensorFlow reads it from `TF_CONFIG`
            again.
        device_count: GPUs that each worker uses; without any it is its processor.
        timeout_s: how long to wait for the others.
        placement: where this worker's rows are kept; each has all of them.

    Raises:
        ResourceError: a worker did not come, or this worker's own address cannot be used.
        UsageError: more than one device is wanted of a worker without GPUs.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        _check_gpu_count(device_count, len(gpus))
        tf.config.set_visible_devices(gpus[:device_count], "GPU")
    elif device_count > 1:
        what = "a worker without GPUs trains on its processor, which is one device"
        raise UsageError("--devices", what, "leave it out, or start more workers")
    _configure_health_checks(timeout_s)
    # In a thread, so that this one handles signals meanwhile.
    connecting = ThreadPoolExecutor(1, "connect").submit(_connect, has_gpus=bool(gpus))
    try:
        strategy = connecting.result()
    except RuntimeError as error:
        what = f"not all of {cluster.others} were there after {timeout_s:g} s"
        hint = "start the same command on every worker, with addresses that reach each other"
        raise ResourceError("workers", what, hint) from error
    except tf.errors.OpError as error:
        what = f"cannot begin at {cluster.addresses[cluster.number]}: {error.message[:200]}"
        hint = "see whether the port is in use, and the address this machine's"
        raise ResourceError("workers", what, hint) from error
    _LOG.info("joined %d workers as number %d", len(cluster.addresses), cluster.number)
    return MultiWorkerStrategy(strategy, cluster, placement)


@contextlib.contextmanager
def translate_worker_errors(cluster: Cluster | None) -> Iterator[None]:
    """Raise ResourceError for what TensorFlow raises when a worker is gone.

    Args:
        cluster: None for a run of one process, whose errors are left as they are.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if cluster is None or not _is_lost_worker(error):
            raise
        what = f"one of {cluster.others} is gone, or out of reach"
        raise ResourceError("workers", what, _LOST_HINT) from error


def _is_lost_worker(error: tf.errors.OpError) -> bool:
    return isinstance(error, _LOST) or "Collective ops is aborted" in error.message


def _check_gpu_count(asked: int, present: int) -> None:
    if asked > present:
        gpus = pluralize(present, "GPU")
        what = f"{pluralize(asked, 'device')} asked for, and this machine has {gpus}"
        hint = f"give --devices {present} or less, or hide them: CUDA_VISIBLE_DEVICES=-1"
        raise ResourceError("--devices", what, hint)


def _divide_processor(count: int) -> None:
    """Split the processor into `count` devices or more; RuntimeError once TensorFlow runs."""
    (processor,) = tf.config.list_physical_devices("CPU")
    existing = tf.config.get_logical_device_configuration(processor) or [None]
    if len(existing) < count:
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        tf.config.set_logical_device_configuration(processor, parts)


def _configure_health_checks(timeout_s: float) -> None:
    """Configure TensorFlow's health checks of the workers.

    By default a service of its coordinator does: that waits for the others for ever, holding
    Python's lock, and takes SIGTERM for itself. These have no public settings.
    """
    context.context().configure_coordination_service("")
    if not _LOG.isEnabledFor(logging.DEBUG):
        tf.get_logger().setLevel(logging.CRITICAL)  # `translate_worker_errors` reports them
    extended = collective_all_reduce_strategy.CollectiveAllReduceExtended
    extended._check_health_initial_timeout = timeout_s
    extended._check_health_interval = CHECK_INTERVAL_S


def _connect(*, has_gpus: bool) -> tf.distribute.Strategy:
    """Wait for the other workers."""
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.AUTO if has_gpus else kinds.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
