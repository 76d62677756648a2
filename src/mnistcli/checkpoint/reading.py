"""A .h5 file, ours or anyone's, becomes a `Checkpoint`: parsed in the child, checked here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mnistcli.architecture import Architecture
from mnistcli.checkpoint.model_config import parse_model_config
from mnistcli.checkpoint.process import Parsed, ParsingChild, Wanted
from mnistcli.checkpoint.record import DURATIONS, Record
from mnistcli.checkpoint.training_config import parse_training_config
from mnistcli.errors import CheckpointError
from mnistcli.evaluation import LossSpec
from mnistcli.state import Array, LayerState, NamedArray, NetworkState, Progress, RunState


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        path: as the user gave it.
        architecture: the network.
        weights: float32 arrays in `Architecture.walk` order; empty where none were asked for.
        loss: the loss it was compiled with; null where the file does not say.
        record: the run; null for a file of Keras' or one changed since it was written.
        progress: how far the run has come; at the beginning without a record.
        state: the whole run, to go on from; null unless `all` was asked for and there is a record.
        warnings: what the user should hear about this file; one line each.
    """

    path: Path
    architecture: Architecture
    weights: tuple[Array, ...]
    loss: LossSpec | None
    record: Record | None
    progress: Progress
    state: RunState | None
    warnings: tuple[str, ...] = ()


def read_checkpoint(path: Path, wanted: Wanted = "weights") -> Checkpoint:
    """Return what a checkpoint holds.

    Args:
        path: of a Keras whole-model .h5 file.
        wanted: which arrays: `none`, the network's `weights`, or `all`, the optimizer's too.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged or refused.
    """
    return interpret_checkpoint(path, ParsingChild(path, wanted).result())


def interpret_checkpoint(path: Path, parsed: Parsed) -> Checkpoint:
    """Check what the child found, and give it its types; CheckpointError where it is refused."""
    line, where = parsed.line, str(path)
    architecture = parse_model_config(line["model_config"], where)
    groups = _group_arrays(line["arrays"], parsed.arrays)
    history = groups.pop("/history", {})
    optimizer = groups.pop("/optimizer", {})
    layers = tuple(_match_arrays(architecture, groups, where)) if groups else ()
    record, warnings = _read_record(line, where)
    progress = _read_progress(record, history) if record else Progress()
    return Checkpoint(
        path=path,
        architecture=architecture,
        weights=tuple(array.values for layer in layers for array in layer.weights),
        loss=parse_training_config(line["training_config"], where),
        record=record,
        progress=progress,
        state=_join_state(line, record, progress, layers, optimizer) if record else None,
        warnings=warnings,
    )


def _group_arrays(headers: list[dict[str, Any]], data: memoryview) -> dict[str, dict[str, Array]]:
    """Cut the child's bytes into arrays, by the group and the name that they stand under."""
    groups: dict[str, dict[str, Array]] = {}
    start = 0
    for header in headers:
        dtype, shape = np.dtype(header["dtype"]), tuple(header["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        values = np.frombuffer(data, dtype, count, start).reshape(shape).copy()
        groups.setdefault(header["group"], {})[header["name"]] = values
        start += values.nbytes
    return groups


def _match_arrays(
    architecture: Architecture, groups: Mapping[str, Mapping[str, Array]], where: str
) -> Iterator[LayerState]:
    """Give each layer its arrays; refuse those that are not what the network's layers need."""
    for stage in architecture.walk():
        name, arrays = stage.layer.name, groups.get(stage.layer.name, {})
        shapes = [weight.shape for weight in stage.weights]
        if [values.shape for values in arrays.values()] != shapes:
            found = [values.shape for values in arrays.values()]
            raise CheckpointError(
                where, f"layer {name} needs arrays of shapes {shapes}, the file holds {found}"
            )
        for path, values in arrays.items():
            if values.dtype.kind != "f" or not np.isfinite(values).all():
                raise CheckpointError(
                    where,
                    f"{path} of layer {name} holds numbers that are not finite",
                    "the run that saved it had diverged: use an earlier checkpoint",
                )
        yield LayerState(name, tuple(_as_float32(path, v) for path, v in arrays.items()))


def _as_float32(name: str, values: Array) -> NamedArray:
    """Keep float32 as it is; half and double precision become it."""
    return NamedArray(name, values.astype(np.float32, copy=False))


def _read_progress(record: Record, arrays: Mapping[str, Array]) -> Progress:
    """Turn the history's arrays into plain numbers."""
    history = {n: tuple(float(v) for v in values.reshape(-1)) for n, values in arrays.items()}
    durations_s = history.pop(DURATIONS, ())
    at = record.progress
    return Progress(at.epoch, at.step, history, durations_s, at.best_epoch)


def _read_record(line: dict[str, Any], where: str) -> tuple[Record | None, tuple[str, ...]]:
    """Validate the record, and decide whether the file is still the one that was written."""
    texts = line["record"]
    if texts is None:
        return None, ()
    if line["seal"] != "intact":
        return None, (
            f"{where}: changed since mnistcli wrote it (its checksum is gone):"
            " treated as a foreign file",
        )
    try:
        version = json.loads(texts.get("format_version") or "null")
        if isinstance(version, int) and version > Record.model_fields["format_version"].default:
            raise CheckpointError(
                where, f"written by a later mnistcli (format {version})", "upgrade mnistcli"
            )
        document = "{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in texts.items()) + "}"
        return TypeAdapter(Record).validate_json(document), ()
    except (ValidationError, ValueError, RecursionError):
        raise CheckpointError(
            where, "its record of the run is damaged", "restore it from a copy, or train again"
        ) from None


def _join_state(
    line: dict[str, Any],
    record: Record,
    progress: Progress,
    layers: tuple[LayerState, ...],
    optimizer: Mapping[str, Array],
) -> RunState:
    """Put the run together as it was when it was saved."""
    running = record.running
    return RunState(
        NetworkState(
            layers=layers,
            optimizer=tuple(NamedArray(name, values) for name, values in optimizer.items()),
            generators=tuple(
                NamedArray(name, np.array(pair, np.int64))
                for name, pair in running.generators.items()
            ),
            metrics=tuple(
                NamedArray(name, np.array(value, np.float32))
                for name, value in running.metrics.items()
            ),
            model_config=line["model_config"],
            training_config=line["training_config"] or "",
        ),
        progress,
    )
