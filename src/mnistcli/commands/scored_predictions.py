"""Runs a checkpoint on examples, for what shows them: pictures and reports."""

from __future__ import annotations

import numpy as np

from mnistcli.commands.trained_model import TrainedModel
from mnistcli.datasets.base import Split
from mnistcli.metrics.scores import Score, class_probabilities, predict_classes
from mnistcli.models.numpy_inference import compute_probabilities
from mnistcli.output.plots.plot_kinds import Predictions


def predict_examples(model: TrainedModel, examples: Split) -> tuple[Predictions, Score]:
    """Return what the network makes of examples, and how well.

    Raises:
        DataError: there are none, or their classes are not the network's.
    """
    architecture = model.checkpoint.architecture
    logits = model.run(examples.images)
    score = model.score(examples, logits)
    outputs = compute_probabilities(architecture, logits)
    predictions = Predictions(
        images=model.brighten(examples.images),
        rows=np.arange(len(examples)),
        probabilities=class_probabilities(outputs),
        classes=predict_classes(outputs),
        truth=examples.labels,
        labels=model.class_names,
    )
    return predictions, score
