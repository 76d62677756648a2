"""Finds the other workers of a run, and makes sure that they mean the same run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mnistcli.checkpoints.run_comparison import hash_weights
from mnistcli.commands.train.run_plan import Plan
from mnistcli.errors import UsageError
from mnistcli.training.distributed.cluster import Cluster

if TYPE_CHECKING:
    from mnistcli.training.distributed.engine import Engine

PATIENCE_VARIABLE = "MNISTCLI_WORKERS_TIMEOUT"
PATIENCE_S = 300.0


def join_others(plan: Plan, cluster: Cluster) -> Engine:
    """Return the engine of all workers together, once all are there and mean the same run.

    Raises:
        ResourceError: somebody did not come, or this worker's address cannot be used.
        UsageError: somebody was started with another run.
    """
    from mnistcli.training.distributed.workers import explain_loss, join_workers

    patience_s = read_patience(os.environ.get(PATIENCE_VARIABLE, ""))
    engine = join_workers(cluster, plan.devices, patience_s, plan.placement)
    with explain_loss(cluster):
        _compare_runs(plan, cluster, engine)
    return engine


def read_patience(text: str) -> float:
    """Return for how many seconds the other workers are waited for; UsageError."""
    if not text:
        return PATIENCE_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 1e6:
        what = f"expected a number of seconds, received {text!r}"
        raise UsageError(PATIENCE_VARIABLE, what, f"unset it for {PATIENCE_S:g}")
    return seconds


def _compare_runs(plan: Plan, cluster: Cluster, engine: Engine) -> None:
    """Refuse to train together what is not the same; UsageError."""
    for name, text in _list_parts(plan):
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
        found = engine.exchange(number)
        other = next((k for k, theirs in enumerate(found) if theirs != found[0]), None)
        if other is not None:
            addresses = f"{cluster.addresses[0]} and {cluster.addresses[other]}"
            what = f"{addresses} were started with different {name}"
            raise UsageError("workers", what, "start the same command on the same files everywhere")


def _list_parts(plan: Plan) -> Iterator[tuple[str, str]]:
    """Name what has to be the same everywhere, each in a text."""
    yield "versions", repr(sorted(plan.describe_environment().versions.items()))
    yield "numbers of devices", str(plan.devices)
    # Where the data lie may be another place on each machine: what they are comes next.
    yield "configs", plan.config.model_dump_json(exclude={"dataset": {"path"}})
    yield "data", str(plan.dataset.identity.sha256)
    yield "first weights", str(plan.init_weights_sha256)
    state = None if plan.start is None else plan.start.state
    begun = "" if state is None else f"{state.progress} {hash_weights(state.network.weights)}"
    yield "checkpoints to go on from", begun
