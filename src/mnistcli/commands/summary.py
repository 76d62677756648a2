"""`summary`: the layers and parameters of a network, and the training facts of a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

from mnistcli.checkpoints import is_checkpoint
from mnistcli.checkpoints.reader import Checkpoint, parse_checkpoint
from mnistcli.checkpoints.record import Record
from mnistcli.checkpoints.untrusted.sandbox import ParserProcess
from mnistcli.config.schema import Config
from mnistcli.errors import UsageError
from mnistcli.models.architecture import Architecture, plan_architecture
from mnistcli.output.logs import warn
from mnistcli.output.results import (
    DatasetResult,
    LayerResult,
    SecondsResult,
    SummaryResult,
    TrainingFacts,
    WeightResult,
    WeightsSummaryResult,
)


def summarize(
    source: str | os.PathLike[str] | ParserProcess | Config, *, weights: bool = False
) -> SummaryResult:
    """Summarize the network of a checkpoint or of a config.

    Args:
        source: a checkpoint, or the child that reads it already; a YAML file or a recipe's name;
            or a config.
        weights: return the arrays of a checkpoint too, as a `WeightsSummaryResult`.

    Raises:
        CheckpointError: it is missing, damaged or refused.
        ConfigError: there is no such config, or something in it is wrong.
        UsageError: a config's weights were asked for.
    """
    if isinstance(source, str | os.PathLike) and is_checkpoint(source):
        source = ParserProcess(Path(source), "weights" if weights else "none")
    if isinstance(source, ParserProcess):
        checkpoint = parse_checkpoint(source.path, source.result())
        for warning in checkpoint.warnings:
            warn(warning)
        return describe_checkpoint(checkpoint, weights=weights)
    if weights:
        name = "it" if isinstance(source, Config) else source
        hint = "give a checkpoint: mnistcli summary MODEL.h5 --weights"
        raise UsageError("--weights", f"{name} is a config and has no weights yet", hint)
    return _summarize_config(source)


def _summarize_config(source: str | os.PathLike[str] | Config) -> SummaryResult:
    from mnistcli.config.loading import load_config
    from mnistcli.datasets.registry import get_info

    config = source if isinstance(source, Config) else load_config(os.fspath(source)).config
    info = get_info(config.dataset)
    return summarize_plan(plan_architecture(config.model, info.image_shape, len(info.class_names)))


def describe_checkpoint(checkpoint: Checkpoint, *, weights: bool = False) -> SummaryResult:
    """Return the layer table of a checkpoint and the training facts of its run."""
    record = checkpoint.record
    training = describe_training(record, checkpoint) if record is not None else None
    summary = summarize_plan(checkpoint.architecture, training)
    if not weights:
        return summary
    return WeightsSummaryResult(**dict(summary), weights=_list_weights(checkpoint))


def summarize_plan(
    architecture: Architecture, training: TrainingFacts | None = None
) -> SummaryResult:
    """Return the layer table of a network, with the training facts of its run, if any."""
    layers = tuple(
        LayerResult(
            name=node.layer.name,
            type=node.layer.type,
            output_shape=(None, *node.output_shape),
            parameters=node.parameter_count,
        )
        for node in architecture.iter_layers()
    )
    return SummaryResult(
        layers=layers,
        total_parameters=architecture.parameter_count,
        trainable_parameters=architecture.trainable_count,
        training=training,
    )


def describe_training(record: Record, checkpoint: Checkpoint) -> TrainingFacts:
    """Return the training facts of a checkpoint: data, config, epochs, metrics, seconds."""
    return TrainingFacts(
        dataset=DatasetResult(name=record.dataset.name, sha256=record.dataset.sha256),
        known_as=record.dataset.known_as,
        config=record.config,
        epochs=record.progress.epoch,
        step=record.progress.step,
        planned_epochs=record.config.training.epochs,
        stopped_early=record.is_stopped_early,
        weights_epoch=record.weights_epoch,
        metrics=checkpoint.progress.find_metrics(record.weights_epoch),
        last=checkpoint.progress.last_metrics,
        test=record.test,
        seconds=SecondsResult(
            total=record.progress.elapsed_s, per_epoch=checkpoint.progress.warm_epoch_s
        ),
        environment=record.environment,
        class_names=record.class_names,
    )


def _list_weights(checkpoint: Checkpoint) -> tuple[WeightResult, ...]:
    arrays = iter(checkpoint.weights)
    return tuple(
        WeightResult(
            layer=node.layer.name,
            name=weight.name,
            shape=weight.shape,
            values=next(arrays).tolist(),
        )
        for node in checkpoint.architecture.iter_layers()
        for weight in node.weights
    )
