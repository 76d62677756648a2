"""Several processes, on one machine or on many, as the place where epochs run.

Who trains together: what `TF_CONFIG` says, which Kubernetes' operators and launchers set.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import tensorflow as tf
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tensorflow.python.distribute import collective_all_reduce_strategy
from tensorflow.python.eager import context

from mnistcli.errors import ResourceError, UsageError
from mnistcli.models.memory import Placement
from mnistcli.training.distributed.strategies import SeveralDevices, check_gpu_count

VARIABLE = "TF_CONFIG"
_EXAMPLE = (
    'write {"cluster": {"worker": ["host0:2222", "host1:2222"]},'
    ' "task": {"type": "worker", "index": 0}}, or unset it'
)
_CHIEF, _WORKER = "chief", "worker"


@dataclass(frozen=True)
class Cluster:
    """The workers of a run, of which this process is one.

    Attributes:
        addresses: host:port of each worker, at least two; the first is the chief's, who alone
            writes and answers.
        number: of this worker, from 0.
    """

    addresses: tuple[str, ...]
    number: int

    @property
    def is_chief(self) -> bool:
        """Tell whether this process writes and answers."""
        return self.number == 0

    @property
    def others(self) -> str:
        """Name the other workers, for messages."""
        found = [a for number, a in enumerate(self.addresses) if number != self.number]
        return ", ".join(found[:3]) + (", …" if len(found) > 3 else "")


class _Task(BaseModel):
    """Which of the cluster's processes this is."""

    model_config = ConfigDict(strict=False)
    type: str
    index: int = Field(ge=0)


class _TFConfig(BaseModel):
    """The variable's shape; other keys are other programs'."""

    cluster: dict[str, tuple[str, ...]] = {}
    task: _Task = _Task(type=_WORKER, index=0)


def read_cluster(environment: Mapping[str, str]) -> Cluster | None:
    """Return the cluster that a process belongs to; null where it trains alone.

    Args:
        environment: of the process. Without the variable, or where that names a single worker,
            it trains alone.

    Raises:
        UsageError: the variable is malformed, or names a cluster that cannot train together.
    """
    text = environment.get(VARIABLE, "")
    if not text.strip():
        return None
    config = _parse(text)
    if unknown := sorted(set(config.cluster) - {_CHIEF, _WORKER}):
        what = f"its cluster has tasks of the type {unknown[0]!r}, known are chief and worker"
        raise UsageError(VARIABLE, what, "leave them out: there are no parameter servers here")
    chiefs, workers = (config.cluster.get(kind, ()) for kind in (_CHIEF, _WORKER))
    if len(chiefs) > 1:
        raise UsageError(VARIABLE, f"its cluster has {len(chiefs)} chiefs", "name one")
    kind, index = config.task.type, config.task.index
    if config.cluster and index >= len(config.cluster.get(kind, ())):
        raise UsageError(VARIABLE, f"its cluster has no {kind} {index}, its task", _EXAMPLE)
    addresses = (*chiefs, *workers)
    if len(addresses) < 2:
        return None
    if len(set(addresses)) < len(addresses):
        raise UsageError(VARIABLE, "two of its workers have the same address", _EXAMPLE)
    return Cluster(addresses, index if kind == _CHIEF else len(chiefs) + index)


def _parse(text: str) -> _TFConfig:
    """Read the variable; UsageError where it is no such JSON."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise UsageError(VARIABLE, "it is not a JSON object", _EXAMPLE)
    try:
        return _TFConfig.model_validate(parsed)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(VARIABLE, f"{place}: {first['msg'].lower()}", _EXAMPLE) from None


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
