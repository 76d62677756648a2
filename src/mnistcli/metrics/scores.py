"""Accuracy, metrics per class, the confusion matrix and the misclassified images. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mnistcli.errors import DataError
from mnistcli.metrics.losses import AnyLoss, LossSpec, UnknownLoss, compute_mean_loss
from mnistcli.metrics.significance import compute_wilson_interval
from mnistcli.models.activations import apply_activation
from mnistcli.models.architecture import Head

MAX_CROSSENTROPY = 10.0  # above it, a network is shown what it was not trained on, or is ruined
MIN_COUNT = 20  # images, for their mean loss to tell


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
        loss: mean loss over the images, plus all penalties, as Keras computes it; None where it
            is not known.
        accuracy: share of correct predictions, 0 to 1.
        per_class: metrics per class, in class order.
        confusion: counts [true class][predicted class], both in class order.
        loss_name: Keras' name of the loss; None where there is none.
        loss_reason: why the loss is not known; None where it is.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null", defer_build=True)

    count: int
    loss: float | None
    accuracy: float = Field(ge=0, le=1)
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    loss_name: str | None = None
    loss_reason: str | None = None


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


AddedActivation = Literal["softmax", "sigmoid", "clip"]
MeanLoss = Callable[[NDArray[np.floating], NDArray[np.int64], Head, LossSpec], float | UnknownLoss]
"""Computes the mean loss of logits; or says why Keras cannot."""


@dataclass(frozen=True, eq=False)
class Classification:
    """What a network takes n images for.

    Attributes:
        classes: the predicted class of each, int64 [n].
        probabilities: one column a class, float32 [n, classes].
    """

    classes: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def confidences(self) -> NDArray[np.float32]:
        """The probability of each predicted class, [n]."""
        return self.probabilities[np.arange(len(self.classes)), self.classes]


def choose_added_activation(head: Head, units: int, loss: AnyLoss) -> AddedActivation | None:
    """Return what turns a network's outputs into probabilities; None where they are such already.

    Outputs of a linear layer (or a relu, tanh …) are scores: softmax. A single one is the logit of
    class 1: sigmoid; unless it was fitted to the labels 0 and 1 themselves, as by a mean squared
    error: then it is clipped to this range.
    """
    if head.gives_probabilities:
        return None
    if units > 1:
        return "softmax"
    is_logit = isinstance(loss, UnknownLoss) or loss.from_logits or "hinge" in loss.name
    return "sigmoid" if is_logit else "clip"


def classify(logits: NDArray[np.floating], head: Head, loss: AnyLoss) -> Classification:
    """Return classes and probabilities: the one place where logits become probabilities.

    Args:
        logits: [n, units], what the output activation is applied to.
        head: the end of the network.
        loss: what it was trained with.

    Returns:
        The class of the largest output, the first of several equal ones, as in Keras. A single
        unit stands for class 1 and decides above a probability of 0.5; its columns are 1 - p and p.
    """
    outputs = apply_activation(head.activation, logits.astype(np.float32, copy=False))
    probabilities = outputs
    added = choose_added_activation(head, logits.shape[1], loss)
    if added == "clip":
        probabilities = np.clip(outputs, 0, 1)
    elif added is not None:
        probabilities = apply_activation(added, outputs)
    if logits.shape[1] > 1:
        return Classification(outputs.argmax(axis=1).astype(np.int64), probabilities)
    is_second = (probabilities[:, 0] > 0.5).astype(np.int64)
    return Classification(is_second, np.concatenate([1 - probabilities, probabilities], axis=1))


def evaluate_logits(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    head: Head,
    loss: AnyLoss,
    class_names: Sequence[str],
    penalty: float = 0.0,
    mean_loss: MeanLoss = compute_mean_loss,
) -> Score:
    """Evaluate a network's logits against the true classes.

    Args:
        logits: [n, units], what the output activation is applied to.
        labels: class indices [n]; for one unit 0 or 1.
        head: the end of the network.
        loss: what the network was trained with.
        class_names: one a class, in class order.
        penalty: regularization loss, added to the mean (`mnistcli.models.numpy_inference`).
        mean_loss: computes the loss of the logits.

    Raises:
        DataError: there are no images, or their classes are not the network's.
    """
    _check_classes(logits.shape[1], labels, len(class_names))
    true_classes = labels.astype(np.int64)
    value: float | None = None
    with np.errstate(all="ignore"):  # the caller sees a loss that is not finite
        predicted = classify(logits, head, loss).classes
        if isinstance(loss, LossSpec):
            computed = mean_loss(logits, true_classes, head, loss)
            if isinstance(computed, UnknownLoss):
                loss = computed
            else:
                value = computed * loss.weight + penalty
    confusion = _count_confusion(true_classes, predicted, len(class_names))
    return Score(
        count=len(logits),
        loss=value,
        accuracy=int(confusion.trace()) / len(logits),
        per_class=_score_classes(confusion, class_names),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        loss_name=loss.name,
        loss_reason=loss.reason if isinstance(loss, UnknownLoss) else None,
    )


def find_misclassified(
    predicted: NDArray[np.integer],
    confidences: NDArray[np.floating],
    labels: NDArray[np.integer],
    limit: int,
) -> tuple[Misclassified, ...]:
    """Return the misclassified images, those with the highest probability first.

    Args:
        predicted: the predicted classes [n].
        confidences: their probabilities [n].
        labels: the true classes [n].
        limit: the largest number of images that is returned.
    """
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-confidences[wrong], kind="stable")][:limit]
    return tuple(
        Misclassified(int(row), int(labels[row]), int(predicted[row]), float(confidences[row]))
        for row in surest
    )


def find_absurd_loss(score: Score, loss: AnyLoss, penalty: float = 0.0) -> str | None:
    """Describe a loss that only a network has that is sure and wrong; None for any other.

    Args:
        score: of the network.
        loss: what it was trained with.
        penalty: the part of the score's loss that does not depend on the images.
    """
    is_measure = isinstance(loss, LossSpec) and loss.is_plain_crossentropy
    if not is_measure or score.loss is None or score.count < MIN_COUNT:
        return None
    is_absurd = score.loss - penalty > MAX_CROSSENTROPY
    return f"the loss is {score.loss:.4g}" if is_absurd else None


def find_chance_accuracy(score: Score) -> str | None:
    """Describe an accuracy that is near chance, or one class that is predicted for most images.

    None for networks that merely are poor, and for so few images that chance explains it.
    """
    count, chance = score.count, 1 / len(score.per_class)
    correct = sum(row[k] for k, row in enumerate(score.confusion))
    if compute_wilson_interval(correct, count).high < chance + min(0.1 * (1 - chance), chance):
        return f"the accuracy is {score.accuracy:.4f}, near chance ({chance:.4f})"
    for k, column in enumerate(zip(*score.confusion, strict=True)):
        wrong = sum(column) - column[k]
        if compute_wilson_interval(wrong, count).low > 0.5:
            label = score.per_class[k].label
            return f"{wrong:,} of {count:,} images are wrongly predicted as {label}"
    return None


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
