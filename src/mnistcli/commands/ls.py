"""List checkpoints: the files that a command line names, and what their metadata say."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnistcli.checkpoints.reader import CHANGED, CheckpointMetadata, parse_metadata
from mnistcli.checkpoints.untrusted.protocol import MetricRange
from mnistcli.checkpoints.untrusted.sandbox import MetadataReader, ParsedMetadata
from mnistcli.config.schema import HiddenLayer, MlpModel, Model
from mnistcli.errors import CheckpointError
from mnistcli.output.results import (
    DatasetResult,
    ListedCheckpoint,
    ListResult,
    SecondsResult,
    TestResult,
)
from mnistcli.output.run_list import make_run_list

SUFFIXES = (".h5", ".hdf5")


def find_files(paths: Sequence[Path]) -> list[Path | CheckpointError]:
    """Return files, and the checkpoints in folders, each once; an error for what is not there."""
    found: dict[Path, Path | CheckpointError] = {}
    for path in paths:
        try:
            files = _list_folder(path) if path.is_dir() else [path]
            path.lstat()
        except FileNotFoundError:
            error = CheckpointError(str(path), "no such file or folder", "correct the path")
            found[path] = error
            continue
        except OSError as system:
            hint = "see who may, with ls -ld"
            found[path] = CheckpointError(str(path), f"cannot be read: {system.strerror}", hint)
            continue
        for file in files:
            found.setdefault(file, file)
    return list(found.values())


def _list_folder(folder: Path) -> list[Path]:
    """List the checkpoints in a folder; those that are being written are hidden files."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES)
            and not entry.name.startswith(".")
            and not entry.is_dir()
        ]
    return [folder / name for name in sorted(names)]


_MADE_BETTER = {"loss": "lowest", "accuracy": "highest"}  # by the end of a metric's name


def list_checkpoints(
    found: Sequence[Path | CheckpointError], reader: MetadataReader, sort: str, *, reverse: bool
) -> ListResult:
    """Return what was read of files, in the order of a column, those not found included.

    Args:
        found: as `find_files` returned it.
        reader: of those that were found.
        sort: name of a column or of a config key, or a unique end of it.
        reverse: highest first.

    Raises:
        UsageError: there is no column of the name to sort by.
    """
    paths = [file for file in found if isinstance(file, Path)]
    answers = dict(zip(paths, reader.results(), strict=True))
    listed = make_run_list(
        [
            refuse_file(file)
            if isinstance(file, CheckpointError)
            else describe_file(file, answers[file])
            for file in found
        ]
    )
    column = listed.find(sort)
    return ListResult(
        checkpoints=listed.sort(column, reverse=reverse),
        differing=listed.differing,
        sorted_by=column,
    )


def describe_file(path: Path, answer: ParsedMetadata) -> ListedCheckpoint:
    """Return what is known of a file, from what was read of it."""
    if isinstance(answer, CheckpointError):
        return refuse_file(answer, _find_time(path))
    try:
        return _describe_readable(path, parse_metadata(path, answer))
    except CheckpointError as error:
        return refuse_file(error, _find_time(path))


def refuse_file(error: CheckpointError, saved: datetime | None = None) -> ListedCheckpoint:
    """Return the row of a file that could not be read."""
    return ListedCheckpoint(
        checkpoint=error.where, status="refused", reason=error.what, last={}, best={}, saved=saved
    )


def _find_time(path: Path) -> datetime | None:
    """Return when a file was last written; None where it is gone."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(microsecond=0)
    except OSError:
        return None


def _describe_readable(path: Path, file: CheckpointMetadata) -> ListedCheckpoint:
    """Return the row of a file that could be read."""
    record, saved = file.record, _find_time(path)
    if record is None:
        by = f"saved by Keras {file.keras_version}" if file.keras_version else "saved by others"
        return ListedCheckpoint(
            checkpoint=str(path),
            status="changed" if file.is_changed else "foreign",
            reason=CHANGED if file.is_changed else f"foreign: {by}, without a run of mnistcli's",
            parameters=file.parameters,
            last={},
            best={},
            saved=saved,
        )
    config, progress, test = record.config, record.progress, record.test
    return ListedCheckpoint(
        checkpoint=str(path),
        status="run",
        reason="",
        dataset=DatasetResult(name=record.dataset.name, sha256=record.dataset.sha256),
        model=describe_model(config.model),
        parameters=file.parameters,
        epochs=progress.epoch,
        planned_epochs=config.training.epochs,
        last={name: metric.last for name, metric in file.history.items()},
        best=dict(_find_best(file.history)),
        test=test and TestResult(loss=test.loss, accuracy=test.accuracy),
        seconds=SecondsResult(total=progress.elapsed_s, per_epoch=file.warm_epoch_s),
        saved=saved,
        config=config,
        trial=record.trial,
    )


def _find_best(history: Mapping[str, MetricRange]) -> Iterator[tuple[str, float | None]]:
    """Return the highest accuracies and the lowest losses."""
    for name, metric in history.items():
        for ending, side in _MADE_BETTER.items():
            if name.endswith(ending):
                yield name, getattr(metric, side)


def describe_model(model: Model) -> str:
    """Write a network as `softmax` or `mlp 256-128`."""
    if not isinstance(model, MlpModel):
        return model.type
    return f"{model.type} {'-'.join(map(_describe_hidden, model.hidden))}"


def _describe_hidden(layer: HiddenLayer) -> str:
    """Write a layer's units, and what it has of its own."""
    own: list[Any] = [value for value in (layer.activation, layer.dropout) if value is not None]
    return f"{layer.units}({','.join(map(str, own))})" if own else str(layer.units)
