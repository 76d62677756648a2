"""Accuracy, metrics per class, the confusion matrix and the misclassified images. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mnistcli.config.schema import Activation
from mnistcli.errors import DataError
from mnistcli.metrics.losses import LossSpec, sum_losses
from mnistcli.models.activations import apply_activation


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class.

    Attributes:
        label: the class's name.
        precision: share of the images predicted as this class that are correct, 0 to 1; None
            where there are none.
        recall: share of this class's images that are predicted correctly, 0 to 1; None where
            there are none.
        f1: harmonic mean of the two, 0 to 1; None where both are None.
        support: number of images of this class.
    """

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class Score(BaseModel):
    """Metrics of a network on labelled images.

    Attributes:
        count: number of images.
        loss: mean loss over the images, plus the weights' penalty; NaN where logits are NaN.
        accuracy: share of correct predictions, 0 to 1.
        per_class: metrics per class, in class order.
        confusion: counts [true class][predicted class], both in class order.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null", defer_build=True)

    count: int
    loss: float
    accuracy: float = Field(ge=0, le=1)
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Misclassified:
    """An image whose predicted class is not the true one.

    Attributes:
        row: its index in the split.
        true_class: its class.
        predicted: the predicted class.
        probability: that of the predicted class, 0 to 1.
    """

    row: int
    true_class: int
    predicted: int
    probability: float


def predict_classes(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the class of each row as int64 [n].

    Args:
        probabilities: [n, units]; the largest wins, the first of several equal ones; a single
            unit stands for class 1 and decides above 0.5.
    """
    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] > 0.5).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=1), np.int64)


def class_probabilities(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one column a class, [n, classes]; of a single unit p, the columns 1 - p and p."""
    if probabilities.shape[1] == 1:
        return np.concatenate([1 - probabilities, probabilities], axis=1)
    return probabilities


def evaluate_logits(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    head: Activation,
    loss: LossSpec,
    class_names: Sequence[str],
    penalty: float = 0.0,
) -> Score:
    """Evaluate a network's logits against the true classes.

    Args:
        logits: [n, units], what the output activation is applied to.
        labels: class indices [n]; for one unit 0 or 1.
        head: the output activation.
        loss: what the network was trained with.
        class_names: one a class, in class order.
        penalty: regularization loss, added to the mean (`mnistcli.models.numpy_inference`).

    Raises:
        DataError: there are no images, or their classes are not the network's.
    """
    _check_classes(logits.shape[1], labels, len(class_names))
    true_classes = labels.astype(np.int64)
    with np.errstate(all="ignore"):  # the caller sees a loss that is not finite
        predicted = predict_classes(apply_activation(head, logits))
        mean_loss = sum_losses(logits, true_classes, head, loss) / len(logits) + penalty
    confusion = _count_confusion(true_classes, predicted, len(class_names))
    return Score(
        count=len(logits),
        loss=mean_loss,
        accuracy=int(confusion.trace()) / len(logits),
        per_class=_score_classes(confusion, class_names),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def find_misclassified(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], limit: int
) -> tuple[Misclassified, ...]:
    """Return the misclassified images, those with the highest probability first.

    Args:
        probabilities: one column a class, [n, classes].
        labels: class indices [n].
        limit: the largest number of images that is returned.
    """
    predicted = probabilities.argmax(axis=1)
    confidences = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-confidences[wrong], kind="stable")][:limit]
    return tuple(
        Misclassified(int(row), int(labels[row]), int(predicted[row]), float(confidences[row]))
        for row in surest
    )


def _check_classes(units: int, labels: NDArray[np.integer], class_count: int) -> None:
    if len(labels) == 0:
        raise DataError("labels", "there are no examples to evaluate", "choose a larger split")
    network_classes = 2 if units == 1 else units
    if network_classes != class_count:
        raise DataError(
            "network",
            f"it tells {network_classes} classes apart, the data has {class_count}",
            "use the data set that it was trained on",
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= class_count:
        wrong = low if low < 0 else high
        raise DataError(
            "labels",
            f"a label is {wrong}, expected 0 to {class_count - 1}",
            "use the data set that the network was trained on",
        )


def _count_confusion(
    true_classes: NDArray[np.int64], predicted: NDArray[np.int64], class_count: int
) -> NDArray[np.int64]:
    counts = np.bincount(true_classes * class_count + predicted, minlength=class_count**2)
    return counts.reshape(class_count, class_count)


def _score_classes(
    confusion: NDArray[np.int64], class_names: Sequence[str]
) -> tuple[ClassScore, ...]:
    hits = confusion.diagonal().tolist()
    predicted, support = confusion.sum(axis=0).tolist(), confusion.sum(axis=1).tolist()
    return tuple(
        ClassScore(
            label=label,
            precision=_divide(hits[k], predicted[k]),
            recall=_divide(hits[k], support[k]),
            f1=_divide(2 * hits[k], predicted[k] + support[k]),
            support=support[k],
        )
        for k, label in enumerate(class_names)
    )


def _divide(part: int, whole: int) -> float | None:
    return part / whole if whole else None
