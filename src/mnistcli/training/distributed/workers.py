"""Several processes, on one machine or on many, as the place where epochs run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy
from tensorflow.python.eager import context

from mnistcli.errors import ResourceError, UsageError
from mnistcli.models.memory import Placement
from mnistcli.training.distributed.cluster import Cluster
from mnistcli.training.distributed.strategies import SeveralDevices, check_gpu_count

_LOG = logging.getLogger(__name__)
CHECK_INTERVAL_S = 5.0
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
    tf.errors.DeadlineExceededError,
)
_LOST_HINT = "see its own messages; then go on with the last checkpoint: train --resume"


class SeveralWorkers(SeveralDevices):
    """Processes that each hold a copy of the network and take a shard of each batch.

    Args:
        strategy: joins them.
        cluster: they, and which of them this one is.
        placement: where this one's rows lie; the bits are the same.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, cluster: Cluster, placement: Placement
    ) -> None:
        super().__init__(strategy, placement)
        self._cluster = cluster

    def exchange(self, number: int) -> tuple[int, ...]:
        """Return everybody's number: a sum of vectors in which each fills its own place."""
        own = [0] * len(self._cluster.addresses)
        own[self._cluster.number] = number
        total = self.strategy.reduce(
            tf.distribute.ReduceOp.SUM, tf.constant(own, tf.int64), axis=None
        )
        return tuple(int(value) for value in total.numpy())


def join_workers(
    cluster: Cluster, devices: int, patience_s: float, placement: Placement
) -> SeveralWorkers:
    """Return the engine of all workers together, once all are there.

    Args:
        cluster: they, and which of them this one is; TensorFlow reads it from `TF_CONFIG` again.
        devices: GPUs that each worker uses; without any it is its processor.
        patience_s: how long to wait for the others.
        placement: where this worker's rows lie; each has all of them.

    Raises:
        ResourceError: somebody did not come, or this worker's own address cannot be used.
        UsageError: more than one device is wanted of a worker without GPUs.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        check_gpu_count(devices, len(gpus))
        tf.config.set_visible_devices(gpus[:devices], "GPU")
    elif devices > 1:
        what = "a worker without GPUs trains on its processor, which is one device"
        raise UsageError("--devices", what, "leave it out, or start more workers")
    _choose_watch(patience_s)
    # Elsewhere, so that signals are heard here meanwhile.
    joining = ThreadPoolExecutor(1, "join").submit(_join, has_gpus=bool(gpus))
    try:
        strategy = joining.result()
    except RuntimeError as error:
        what = f"not all of {cluster.others} were there after {patience_s:g} s"
        hint = "start the same command on every worker, with addresses that reach each other"
        raise ResourceError("workers", what, hint) from error
    except tf.errors.OpError as error:
        what = f"cannot begin at {cluster.addresses[cluster.number]}: {error.message[:200]}"
        hint = "see whether the port is in use, and the address this machine's"
        raise ResourceError("workers", what, hint) from error
    _LOG.info("joined %d workers as number %d", len(cluster.addresses), cluster.number)
    return SeveralWorkers(strategy, cluster, placement)


def _choose_watch(patience_s: float) -> None:
    """Let TensorFlow watch over workers by its own checks of their health.

    By default a service of its coordinator does: that waits for the others for ever, holding
    Python's lock, and takes SIGTERM for itself. These have no public settings.
    """
    context.context().configure_coordination_service("")
    if not _LOG.isEnabledFor(logging.DEBUG):
        tf.get_logger().setLevel(logging.CRITICAL)  # what they find is said by `explain_loss`
    extended = collective_all_reduce_strategy.CollectiveAllReduceExtended
    extended._check_health_initial_timeout = patience_s
    extended._check_health_interval = CHECK_INTERVAL_S


def _join(*, has_gpus: bool) -> tf.distribute.Strategy:
    """Wait for the others."""
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.AUTO if has_gpus else kinds.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


@contextlib.contextmanager
def explain_loss(cluster: Cluster | None) -> Iterator[None]:
    """Say in our words what TensorFlow raises when a worker is gone; ResourceError.

    Args:
        cluster: null for a run of one process, whose errors are none of this.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if cluster is None or not _is_loss(error):
            raise
        what = f"one of {cluster.others} is gone, or out of reach"
        raise ResourceError("workers", what, _LOST_HINT) from error


def _is_loss(error: tf.errors.OpError) -> bool:
    """Tell the loss of a worker from other failures."""
    return isinstance(error, _LOST) or "Collective ops is aborted" in error.message
