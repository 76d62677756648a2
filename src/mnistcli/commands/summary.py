"""What `summary` tells of a network and of the run behind it."""

from __future__ import annotations

from mnistcli.checkpoints.reader import Checkpoint
from mnistcli.checkpoints.record import Record
from mnistcli.models.architecture import Architecture
from mnistcli.output.results import (
    DatasetResult,
    LayerResult,
    SecondsResult,
    SummaryResult,
    TestResult,
    TrainingFacts,
    WeightResult,
    WeightsSummaryResult,
)


def summarize_plan(
    architecture: Architecture, training: TrainingFacts | None = None
) -> SummaryResult:
    """Return the layer table of a network, and what is known of its run."""
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


def add_weights(summary: SummaryResult, checkpoint: Checkpoint) -> WeightsSummaryResult:
    """Return a checkpoint's summary with its arrays."""
    return WeightsSummaryResult(
        layers=summary.layers,
        total_parameters=summary.total_parameters,
        trainable_parameters=summary.trainable_parameters,
        training=summary.training,
        weights=_list_weights(checkpoint),
    )


def describe_training(record: Record, checkpoint: Checkpoint) -> TrainingFacts:
    """Return where a checkpoint comes from and how far it has come."""
    test = record.test
    return TrainingFacts(
        dataset=DatasetResult(name=record.dataset.name, sha256=record.dataset.sha256),
        known_as=record.dataset.known_as,
        config=record.config,
        epochs=record.progress.epoch,
        step=record.progress.step,
        planned_epochs=record.config.training.epochs,
        last={name: values[-1] for name, values in checkpoint.progress.history.items() if values},
        test=TestResult(loss=test.loss, accuracy=test.accuracy) if test else None,
        seconds=SecondsResult(
            total=record.progress.elapsed_s, per_epoch=checkpoint.progress.warm_epoch_s
        ),
        environment=record.environment,
        class_names=record.class_names,
    )


def _list_weights(checkpoint: Checkpoint) -> tuple[WeightResult, ...]:
    """Return the network's arrays as nested lists."""
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
