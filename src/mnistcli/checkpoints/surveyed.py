"""What a survey's child says of a file becomes a `SurveyedFile`, checked as any checkpoint is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mnistcli.checkpoints.checksum import COPY_HINT
from mnistcli.checkpoints.record import RecordExcerpt, parse_record
from mnistcli.checkpoints.untrusted.contents import Excerpt, MetricRange
from mnistcli.checkpoints.untrusted.model_config import parse_model_config
from mnistcli.checkpoints.untrusted.protocol import show
from mnistcli.errors import CheckpointError


@dataclass(frozen=True)
class SurveyedFile:
    """A checkpoint without its arrays.

    Attributes:
        parameters: of the network.
        keras_version: that saved the file; empty where it does not say.
        record: what it knows of its run; null for a file of Keras' or one changed since.
        history: a range for each metric.
        warm_epoch_s: median seconds of an epoch once compiled; null before there is one.
        is_changed: it holds a run, and was changed since mnistcli wrote it.
    """

    parameters: int
    keras_version: str
    record: RecordExcerpt | None
    history: Mapping[str, MetricRange]
    warm_epoch_s: float | None
    is_changed: bool


def interpret_excerpt(path: Path, line: Mapping[str, Any]) -> SurveyedFile:
    """Check what the child found, and give it its types; CheckpointError where it is refused."""
    where = str(path)
    try:
        excerpt = _make_adapter().validate_python(line)
    except ValueError:
        raise CheckpointError(where, "damaged: it was not read completely", COPY_HINT) from None
    is_changed = excerpt.record is not None and excerpt.seal != "intact"
    record = None
    if excerpt.record is not None and not is_changed:
        record = parse_record(excerpt.record, RecordExcerpt, where)
    return SurveyedFile(
        parameters=_count_parameters(excerpt.model_config, where),
        keras_version=show(excerpt.keras_version)[1:-1] if excerpt.keras_version else "",
        record=record,
        history=excerpt.history if record is not None else {},
        warm_epoch_s=excerpt.warm_epoch_s,
        is_changed=is_changed,
    )


@cache
def _make_adapter() -> TypeAdapter[Excerpt]:
    """Building one takes as long as reading a file."""
    return TypeAdapter(Excerpt)


def _count_parameters(model_config: str, where: str) -> int:
    """Read Keras' description of a network; CheckpointError where it is refused."""
    try:
        return _count_cached(model_config)
    except CheckpointError as error:
        raise CheckpointError(where, error.what, error.hint) from None


@lru_cache(64)
def _count_cached(model_config: str) -> int:
    """The runs of one experiment share few networks."""
    return parse_model_config(model_config, "").parameter_count
