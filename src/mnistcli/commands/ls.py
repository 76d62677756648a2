"""`ls`: the data, model, epochs and scores of many checkpoints, from their metadata alone."""

from __future__ import annotations

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
)
from mnistcli.output.run_list import make_run_list

_BEST = {"loss": "lowest", "accuracy": "highest"}  # by the end of a metric's name


def list_checkpoints(
    found: Sequence[Path | CheckpointError], reader: MetadataReader, sort: str, *, reverse: bool
) -> ListResult:
    """List checkpoints in the order of a column, with a row for what is none.

    Args:
        found: files, and errors for those not found, as `find_checkpoints` returns them.
        reader: of the files' metadata.
        sort: name of a column or of a config key, or a unique end of it.
        reverse: highest first.

    Raises:
        UsageError: there is no column of the name to sort by.
    """
    paths = [file for file in found if isinstance(file, Path)]
    answers = dict(zip(paths, reader.results(), strict=True))
    listed = make_run_list(
        [
            _refuse_file(file)
            if isinstance(file, CheckpointError)
            else _describe_file(file, answers[file])
            for file in found
        ]
    )
    column = listed.find(sort)
    return ListResult(
        checkpoints=listed.sort(column, reverse=reverse),
        differing=listed.differing,
        sorted_by=column,
    )


def _describe_file(path: Path, answer: ParsedMetadata) -> ListedCheckpoint:
    if isinstance(answer, CheckpointError):
        return _refuse_file(answer, _find_time(path))
    try:
        return _describe_readable(path, parse_metadata(path, answer))
    except CheckpointError as error:
        return _refuse_file(error, _find_time(path))


def _refuse_file(error: CheckpointError, saved: datetime | None = None) -> ListedCheckpoint:
    return ListedCheckpoint(
        checkpoint=error.where, status="refused", reason=error.what, last={}, best={}, saved=saved
    )


def _find_time(path: Path) -> datetime | None:
    """Return the time of the last modification; None where the file is gone."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(microsecond=0)
    except OSError:
        return None


def _describe_readable(path: Path, file: CheckpointMetadata) -> ListedCheckpoint:
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
    config, progress = record.config, record.progress
    return ListedCheckpoint(
        checkpoint=str(path),
        status="run",
        reason="",
        dataset=DatasetResult(name=record.dataset.name, sha256=record.dataset.sha256),
        model=_describe_model(config.model),
        parameters=file.parameters,
        epochs=progress.epoch,
        planned_epochs=config.training.epochs,
        stopped_early=record.is_stopped_early,
        weights_epoch=record.weights_epoch,
        metrics={
            name: metric.last if record.restored_epoch is None else metric.at_best
            for name, metric in file.history.items()
        },
        last={name: metric.last for name, metric in file.history.items()},
        best=dict(_find_best(file.history)),
        test=record.test,
        seconds=SecondsResult(total=progress.elapsed_s, per_epoch=file.warm_epoch_s),
        saved=saved,
        config=config,
        trial=record.trial,
    )


def _find_best(history: Mapping[str, MetricRange]) -> Iterator[tuple[str, float | None]]:
    """Yield the highest accuracies and the lowest losses of all epochs."""
    for name, metric in history.items():
        for ending, side in _BEST.items():
            if name.endswith(ending):
                yield name, getattr(metric, side)


def _describe_model(model: Model) -> str:
    """Format a model as `softmax` or `mlp 256-128`."""
    if not isinstance(model, MlpModel):
        return model.type
    return f"{model.type} {'-'.join(map(_describe_hidden, model.hidden))}"


def _describe_hidden(layer: HiddenLayer) -> str:
    """Format a layer's units, with its own activation and dropout, if any."""
    own: list[Any] = [value for value in (layer.activation, layer.dropout) if value is not None]
    return f"{layer.units}({','.join(map(str, own))})" if own else str(layer.units)
