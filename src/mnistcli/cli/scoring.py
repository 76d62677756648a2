"""Logits of a checkpoint become a score, by the loss that it was trained with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnistcli.cli.trained_model import TrainedModel
from mnistcli.datasets.dataset import Split
from mnistcli.evaluation import LossSpec, Score, evaluate_logits
from mnistcli.regularization import compute_penalty


def score_logits(model: TrainedModel, logits: NDArray[np.floating], split: Split) -> Score:
    """Return how a checkpoint fared on examples.

    Args:
        model: with its weights.
        logits: of the examples, [n, units].
        split: the examples.

    Raises:
        DataError: there are none, or their classes are not the network's.
    """
    checkpoint = model.checkpoint
    return evaluate_logits(
        logits,
        split.labels,
        checkpoint.architecture.head,
        checkpoint.loss or LossSpec("sparse_categorical_crossentropy"),
        model.class_names,
        compute_penalty(checkpoint.architecture, checkpoint.weights),
    )
