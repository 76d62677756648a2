"""A .h5 file, ours or anyone's, becomes a `Checkpoint`: parsed in the child, checked here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter

from mnistcli.checkpoints.checkpoint_run_state import check_state, join_state
from mnistcli.checkpoints.checksum import COPY_HINT
from mnistcli.checkpoints.record import Record, parse_record, refuse_record
from mnistcli.checkpoints.run_state import Array, LayerState, NamedArray, Progress, RunState
from mnistcli.checkpoints.untrusted.contents import (
    DURATIONS,
    HISTORY_GROUP,
    KEPT_GROUP,
    OPTIMIZER_GROUP,
    Contents,
    cut_arrays,
)
from mnistcli.checkpoints.untrusted.model_config import parse_model_config
from mnistcli.checkpoints.untrusted.process import Parsed, ParsingChild, Wanted
from mnistcli.checkpoints.untrusted.protocol import show
from mnistcli.checkpoints.untrusted.training_config import parse_training_config
from mnistcli.errors import CheckpointError
from mnistcli.metrics.scores import LossSpec
from mnistcli.models.architecture import Architecture

Unsealed = Literal["foreign", "ours"]
_TAKEN_FOR = {"foreign": "treated as a foreign file", "ours": "taken as it is by --force"}
CHANGED = "changed since mnistcli wrote it (its checksum is gone)"

_SAVE_HINT = "save the whole model again with model.save('model.h5')"


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
        is_changed: it holds a run, and was changed since mnistcli wrote it.
    """

    path: Path
    architecture: Architecture
    weights: tuple[Array, ...]
    loss: LossSpec | None
    record: Record | None
    progress: Progress
    state: RunState | None
    warnings: tuple[str, ...] = ()
    is_changed: bool = False


def read_checkpoint(
    path: Path, wanted: Wanted = "weights", unsealed: Unsealed = "foreign"
) -> Checkpoint:
    """Return what a checkpoint holds.

    Args:
        path: of a Keras whole-model .h5 file.
        wanted: which arrays: `none`, the network's `weights`, or `all`, the optimizer's too.
        unsealed: what a run is taken for that was changed since mnistcli wrote it: a `foreign`
            file without a record, or one of `ours` all the same.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged or refused.
    """
    return interpret_checkpoint(path, ParsingChild(path, wanted).result(), unsealed)


def interpret_checkpoint(path: Path, parsed: Parsed, unsealed: Unsealed = "foreign") -> Checkpoint:
    """Check what the child found, and give it its types; CheckpointError where it is refused."""
    where = str(path)
    contents, groups = _unpack(parsed, where)
    architecture = parse_model_config(contents.model_config, where)
    history = groups.pop(HISTORY_GROUP, {})
    optimizer = groups.pop(OPTIMIZER_GROUP, {})
    kept = groups.pop(KEPT_GROUP, {})
    layers: tuple[LayerState, ...] = ()
    if parsed.wanted != "none":
        layers = tuple(_match_arrays(architecture, groups, where))
    is_changed = contents.record is not None and contents.seal != "intact"
    warnings: tuple[str, ...] = ()
    record = None
    if is_changed:
        warnings = (f"{where}: {CHANGED}: {_TAKEN_FOR[unsealed]}",)
    if contents.record is not None and (not is_changed or unsealed == "ours"):
        record = _read_record(contents.record, architecture, where)
    progress = _read_progress(record, history, where) if record else Progress()
    state = None
    if record is not None and parsed.wanted == "all":
        weights = tuple(_read_weight(name, values, where) for name, values in kept.items())
        state = join_state(contents, record, progress, layers, optimizer, weights)
        check_state(state, architecture, record.config.training, where)
    return Checkpoint(
        path=path,
        architecture=architecture,
        weights=tuple(array.values for layer in layers for array in layer.weights),
        loss=parse_training_config(contents.training_config, where),
        record=record,
        progress=progress,
        state=state,
        warnings=warnings,
        is_changed=is_changed,
    )


def _unpack(parsed: Parsed, where: str) -> tuple[Contents, dict[str, dict[str, Array]]]:
    """Check the child's line, and sort the arrays by the group and the name they stand under."""
    groups: dict[str, dict[str, Array]] = {}
    try:
        contents = TypeAdapter(Contents).validate_python(parsed.line)
        for header, values in zip(
            contents.arrays, cut_arrays(contents.arrays, parsed.arrays), strict=True
        ):
            groups.setdefault(header.group, {})[header.name] = values
    except ValueError:
        raise CheckpointError(where, "damaged: it was not read completely", COPY_HINT) from None
    return contents, groups


def _match_arrays(
    architecture: Architecture, groups: Mapping[str, Mapping[str, Array]], where: str
) -> Iterator[LayerState]:
    """Give each layer its arrays; refuse those that are not what the network's layers need."""
    stages = list(architecture.walk())
    names = {stage.layer.name for stage in stages}
    if extra := next((name for name in groups if name not in names), None):
        what = f"the file holds arrays of {show(extra)}, which is no layer of its network"
        raise CheckpointError(where, what, _SAVE_HINT)
    for stage in stages:
        name, arrays = stage.layer.name, groups.get(stage.layer.name, {})
        shapes = [weight.shape for weight in stage.weights]
        found = [values.shape for values in arrays.values()]
        if found != shapes:
            what = f"layer {name} needs arrays of shapes {_list_shapes(shapes)}"
            raise CheckpointError(
                where, f"{what}, the file holds {_list_shapes(found)}", _SAVE_HINT
            )
        yield LayerState(name, tuple(_read_weight(p, v, where) for p, v in arrays.items()))


def _list_shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    """Show at most as many shapes as any layer has."""
    return ", ".join(map(str, shapes[:4])) + ", …" * (len(shapes) > 4) or "none"


def _read_weight(name: str, values: Array, where: str) -> NamedArray:
    """Keep float32 as it is; half and double precision become it."""
    if values.dtype.kind != "f":
        raise CheckpointError(where, f"{show(name)} holds integers, not weights", _SAVE_HINT)
    with np.errstate(over="ignore"):
        weight = values.astype(np.float32, copy=False)
    if not np.isfinite(weight).all():
        raise CheckpointError(
            where,
            f"{show(name)} holds numbers that are not finite",
            "the run that saved it had diverged: use an earlier checkpoint",
        )
    return NamedArray(name, weight)


def _read_progress(record: Record, arrays: Mapping[str, Array], where: str) -> Progress:
    """Turn the history's arrays into plain numbers, one a completed epoch."""
    at = record.progress
    if any(v.dtype.kind != "f" or v.shape != (at.epoch,) for v in arrays.values()):
        raise refuse_record(where)
    history = {name: tuple(values.tolist()) for name, values in arrays.items()}
    durations_s = history.pop(DURATIONS, ())
    return Progress(at.epoch, at.step, history, durations_s, at.best_epoch)


def _read_record(parts: Mapping[str, str], architecture: Architecture, where: str) -> Record:
    """Read the run, and see that it is this network's."""
    record = parse_record(parts, Record, where)
    if len(record.class_names) != max(2, architecture.output_shape[-1]):
        raise refuse_record(where)
    return record
