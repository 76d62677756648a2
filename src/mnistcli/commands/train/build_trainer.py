"""Loads TensorFlow, connects the workers of a run, and builds its trainer where it begins."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mnistcli.available_memory import read_available_memory
from mnistcli.checkpoints.checksum import RESTORE_HINT
from mnistcli.checkpoints.record import list_differences
from mnistcli.checkpoints.run_state import hash_weights
from mnistcli.commands.train.request import RunPlan
from mnistcli.errors import CheckpointError, ResourceError, UsageError
from mnistcli.models.memory import format_bytes
from mnistcli.tensorflow_import import load_backend
from mnistcli.training.xla_cache import check_xla_flags

if TYPE_CHECKING:
    from mnistcli.training.distributed.cluster import Cluster
    from mnistcli.training.distributed.strategies import Strategy
    from mnistcli.training.trainer import Trainer

TIMEOUT_VARIABLE = "MNISTCLI_WORKERS_TIMEOUT"
DEFAULT_TIMEOUT_S = 300.0
_LOG = logging.getLogger(__name__)


def build_trainer(
    plan: RunPlan, *, checkpoint_interval_s: float = 3.0, chunk_duration_s: float = 1.0
) -> Trainer:
    """Return the trainer of a run, at its first step or where the resumed checkpoint left it.

    Args:
        plan: the run.
        checkpoint_interval_s: as for `Trainer`.
        chunk_duration_s: as for `Trainer`.

    Raises:
        CheckpointError: that checkpoint's arrays are another network's.
        ResourceError: there are fewer devices, or other workers did not come.
        UsageError: another worker was started with another run.
    """
    strategy = load_strategy(plan)
    from mnistcli.training.trainer import Trainer

    trainer = Trainer(
        plan.config,
        plan.architecture,
        plan.train,
        plan.validation,
        plan.preprocessing,
        strategy,
        checkpoint_interval_s=checkpoint_interval_s,
        chunk_duration_s=chunk_duration_s,
    )
    if plan.initial_weights is not None:
        trainer.assign_weights(plan.initial_weights)
    return resume_trainer(trainer, plan)


def resume_trainer(trainer: Trainer, plan: RunPlan) -> Trainer:
    """Restore the checkpoint that a plan begins with, if there is one.

    Raises:
        CheckpointError: that checkpoint's arrays are another network's.
    """
    if plan.start is not None and plan.start.state is not None:
        try:
            trainer.restore(plan.start.state)
        except ValueError as error:
            what = "its arrays are not those of the network that its config describes"
            raise CheckpointError(str(plan.start.path), what, RESTORE_HINT) from error
    return trainer


def load_strategy(plan: RunPlan) -> Strategy:
    """Load TensorFlow, set its number of threads, and return where the run is trained.

    Raises:
        ResourceError: there are fewer devices, other workers did not come, TensorFlow runs with
            another number of threads in this process, or would end it over its flags.
        UsageError: another worker was started with another run.
    """
    _log_plan(plan)
    check_xla_flags(plan.xla_cache)
    load_backend()
    from mnistcli.training.distributed.strategies import make_strategy, set_thread_count

    try:
        set_thread_count(plan.threads)
    except RuntimeError as error:
        what = f"it runs in this process already, and not with {plan.threads} threads"
        raise ResourceError("TensorFlow", what, "train in a new process") from error
    if plan.cluster is not None:
        return _connect_workers(plan, plan.cluster)
    return make_strategy(plan.devices, plan.placement)


def _connect_workers(plan: RunPlan, cluster: Cluster) -> Strategy:
    """Return the strategy of all workers together, once all are there and mean the same run."""
    from mnistcli.training.distributed.strategies import connect_workers, translate_worker_errors

    timeout_s = _read_timeout(os.environ.get(TIMEOUT_VARIABLE, ""))
    strategy = connect_workers(cluster, plan.devices, timeout_s, plan.placement)
    with translate_worker_errors(cluster):
        _compare_runs(plan, cluster, strategy)
    return strategy


def _read_timeout(text: str) -> float:
    """Return for how many seconds the other workers are waited for; UsageError."""
    if not text:
        return DEFAULT_TIMEOUT_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 1e6:
        what = f"expected a number of seconds, received {text!r}"
        raise UsageError(TIMEOUT_VARIABLE, what, f"unset it for {DEFAULT_TIMEOUT_S:g}")
    return seconds


def _compare_runs(plan: RunPlan, cluster: Cluster, strategy: Strategy) -> None:
    """Refuse to train different runs together; UsageError."""
    for name, text in _describe_run(plan):
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
        found = strategy.all_gather(number)
        other = next((k for k, theirs in enumerate(found) if theirs != found[0]), None)
        if other is not None:
            addresses = f"{cluster.addresses[0]} and {cluster.addresses[other]}"
            what = f"{addresses} were started with different {name}"
            raise UsageError("workers", what, "start the same command on the same files everywhere")


def _describe_run(plan: RunPlan) -> Iterator[tuple[str, str]]:
    """Yield the name and a text of each thing that has to be the same on all workers."""
    yield "versions", repr(sorted(plan.describe_environment().versions.items()))
    yield "numbers of devices", str(plan.devices)
    # Data may be in different places on each machine; their contents come next.
    yield "configs", plan.config.model_dump_json(exclude={"dataset": {"path"}})
    yield "data", str(plan.dataset.identity.sha256)
    yield "first weights", str(plan.init_weights_sha256)
    state = None if plan.start is None else plan.start.state
    begun = "" if state is None else f"{state.progress} {hash_weights(state.network.weights)}"
    yield "checkpoints to go on from", begun


def _log_plan(plan: RunPlan) -> None:
    _LOG.info("config: %s", plan.config.model_dump_json())
    available = read_available_memory()
    known = "unknown" if available is None else format_bytes(available)
    needs = plan.memory.describe()
    _LOG.info("memory: needs %s, rows %s; available: %s", needs, plan.placement, known)
    environment = plan.describe_environment()
    _LOG.info("environment: %s", environment.model_dump_json())
    if plan.init_from is not None and plan.start is None:
        _LOG.info("first weights: %s, sha256 %s", plan.init_from, plan.init_weights_sha256)
    if plan.start is not None and plan.start.record is not None:
        progress, record = plan.start.progress, plan.start.record
        where = (plan.start.path, progress.epoch, progress.step, plan.config.training.epochs)
        _LOG.info("resumes %s after epoch %d and %d steps, up to epoch %d", *where)
        differences = list_differences(record.environment, environment)
        _LOG.info("differences to where it was made: %s", ", ".join(differences) or "none")
