"""Reads `TF_CONFIG`, which names the workers that train together; launchers set it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnistcli.errors import UsageError

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
        addresses: host:port of each worker, at least two; the first is the chief's, which alone
            writes and answers.
        number: of this worker, from 0.
    """

    addresses: tuple[str, ...]
    number: int

    @property
    def is_chief(self) -> bool:
        """Whether this process writes and answers."""
        return self.number == 0

    @property
    def others(self) -> str:
        """The addresses of the other workers, for messages."""
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
    """Return the cluster that a process belongs to; None where it trains alone.

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
    """Parse the variable; UsageError where it is not such JSON."""
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
