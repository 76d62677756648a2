from __future__ import annotations

import math
import typing
import warnings

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from mnistcli.config.schema import Activation, Loss
from mnistcli.errors import DataError
from mnistcli.metrics.losses import AnyLoss, LossSpec, UnknownLoss
from mnistcli.metrics.scores import (
    ClassScore,
    Score,
    choose_added_activation,
    classify,
    evaluate_logits,
    find_absurd_loss,
    find_chance_accuracy,
)
from mnistcli.models.architecture import Head

HEADS: tuple[Activation, ...] = (
    "softmax", "sigmoid", "linear", "relu", "tanh", "hard_sigmoid", "softsign", "exponential",
    "log_softmax",
)  # fmt: skip
LOSSES: tuple[Loss, ...] = typing.get_args(Loss)
KERAS_LOSSES = {
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
    "mean_squared_error": keras.losses.MeanSquaredError,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
}


def name_classes(count: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(count))


def ask_keras(
    logits: NDArray[np.float32], labels: NDArray[np.int64], head: Activation, loss: LossSpec
) -> tuple[float, float]:
    """Loss and accuracy as `model.evaluate` reports them for a network that is a head alone."""
    units = logits.shape[1]
    network = keras.Sequential([keras.Input((units,)), keras.layers.Activation(head)])
    settings: dict[str, typing.Any] = {}
    if loss.name != "mean_squared_error":
        settings["from_logits"] = loss.from_logits
    if loss.name in ("categorical_crossentropy", "binary_crossentropy"):
        settings["label_smoothing"] = loss.label_smoothing
    network.compile(
        loss=KERAS_LOSSES[loss.name](**settings), metrics=["accuracy"], run_eagerly=True
    )
    targets = labels[:, None]
    if units > 1 and loss.name != "sparse_categorical_crossentropy":
        targets = keras.utils.to_categorical(labels, units)
    with warnings.catch_warnings():  # Keras on from_logits with a softmax, on a softmax of one
        warnings.simplefilter("ignore")
        result = network.evaluate(logits, targets, batch_size=len(logits), verbose=0)
    return result[0], result[1]


def draw_logits(units: int, scale: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(units)
    logits = rng.normal(0.2, 1, (64, units)) * scale
    labels = rng.integers(0, max(2, units), 64)
    return logits.astype(np.float32), labels


def draw_saturated_logits(units: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Far from where outputs begin to saturate: there the last bit decides between equals.

    For the same reason each row has a positive logit: silu(-30) and silu(-60) are nearly equal.
    """
    logits, labels = draw_logits(units, 60.0)
    logits = np.round(logits / 30) * 30
    logits[np.arange(len(logits)), labels[::-1] % units] = 90
    return logits, labels


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("head", HEADS)
def test_every_head_with_every_loss_is_what_keras_evaluates(head: Activation, loss: Loss) -> None:
    # sparse labels need several units: for Keras a label of 1 is out of range with one
    for units in (5,) if loss == "sparse_categorical_crossentropy" else (5, 1):
        for logits, labels in (draw_logits(units, 1.0), draw_saturated_logits(units)):
            expected = ask_keras(logits, labels, head, LossSpec(loss))

            score = evaluate_logits(
                logits, labels, Head(head), LossSpec(loss), name_classes(max(2, units))
            )

            assert (score.loss, score.accuracy) == pytest.approx(expected, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("head", ["linear", "softmax", "relu"])
@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "mean_squared_error"])
def test_losses_that_were_set_from_logits(head: Activation, loss: Loss) -> None:
    logits, labels = draw_logits(5, 10.0)
    spec = LossSpec(loss, from_logits=True)

    score = evaluate_logits(logits, labels, Head(head), spec, name_classes(5))

    assert (score.loss, score.accuracy) == pytest.approx(
        ask_keras(logits, labels, head, spec), rel=1e-5
    )


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "hard_sigmoid"])
@pytest.mark.parametrize("units", [1, 4])
@pytest.mark.parametrize("loss", ["categorical_crossentropy", "binary_crossentropy"])
def test_label_smoothing(head: Activation, units: int, loss: Loss) -> None:
    logits, labels = draw_logits(units, 2.0)
    spec = LossSpec(loss, label_smoothing=0.2)

    score = evaluate_logits(logits, labels, Head(head), spec, name_classes(max(2, units)))

    expected, _ = ask_keras(logits, labels, head, spec)
    assert score.loss == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_binary_crossentropy_is_the_crossentropy_of_two_classes() -> None:
    labels, p = np.array([0, 1, 1, 0]), np.array([0.3, 0.7, 0.6, 0.2])
    one_unit = np.log(p / (1 - p))[:, None]
    two_units = np.log(np.stack([1 - p, p], axis=1))

    binary = evaluate_logits(
        one_unit, labels, Head("sigmoid"), LossSpec("binary_crossentropy"), ("no", "yes")
    )
    categorical = evaluate_logits(
        two_units, labels, Head("softmax"), LossSpec("categorical_crossentropy"), ("no", "yes")
    )

    assert binary.loss == pytest.approx(0.36182976573941633, rel=1e-14)
    assert categorical.loss == pytest.approx(0.36182976573941633, rel=1e-14)
    assert binary.accuracy == categorical.accuracy == 1


def test_saturated_outputs_are_judged_by_their_logits() -> None:
    logits, labels = np.array([[80.0, 6.3]], np.float32), np.array([1])
    crossentropy = LossSpec("categorical_crossentropy")

    softmax = evaluate_logits(logits, labels, Head("softmax"), crossentropy, ("a", "b"))
    sigmoid = evaluate_logits(logits, labels, Head("sigmoid"), crossentropy, ("a", "b"))

    assert softmax.loss == pytest.approx(73.7)
    assert sigmoid.loss == pytest.approx(73.7)
    # of a network that gives the same numbers as mere outputs, Keras clips: -log(1e-7)
    clipped = evaluate_logits(
        np.array([[1, 0]], np.float32), labels, Head("linear"), crossentropy, ("a", "b")
    )
    assert clipped.loss == pytest.approx(16.118, abs=1e-3)


def test_the_report_counts_by_hand() -> None:
    logits = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.5, 0.4, 0.1]])
    labels = np.array([0, 1, 1, 0], np.uint8)

    score = evaluate_logits(
        logits.astype(np.float32),
        labels,
        Head("softmax"),
        LossSpec("sparse_categorical_crossentropy"),
        ("cat", "dog", "eel"),
    )

    assert score.count == 4
    assert score.accuracy == 0.75
    assert score.loss == pytest.approx(-math.log(0.7 * 0.8 * 0.3 * 0.5) / 4)
    assert score.confusion == ((2, 0, 0), (1, 1, 0), (0, 0, 0))
    assert score.per_class == (
        ClassScore("cat", precision=2 / 3, recall=1.0, f1=0.8, support=2),
        ClassScore("dog", precision=1.0, recall=0.5, f1=2 / 3, support=2),
        ClassScore("eel", precision=None, recall=None, f1=None, support=0),
    )


def test_a_class_that_is_never_hit_has_ratios_of_zero_where_they_are_defined() -> None:
    logits = np.array([[1, 0], [1, 0]], np.float32)
    score = evaluate_logits(
        logits, np.array([1, 1]), Head("softmax"), LossSpec("mean_squared_error"), ("a", "b")
    )
    assert score.per_class == (
        ClassScore("a", 0.0, None, 0.0, 0),
        ClassScore("b", None, 0.0, 0.0, 2),
    )


def test_a_single_unit_decides_above_one_half() -> None:
    logits = np.log([[1 / 3], [1], [3]]).astype(np.float32)

    shown = classify(logits, Head("sigmoid"), LossSpec("binary_crossentropy"))

    assert shown.classes.tolist() == [0, 0, 1]
    assert shown.probabilities == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]]))
    assert shown.confidences == pytest.approx([0.75, 0.5, 0.75])


def test_several_units_are_decided_by_the_largest() -> None:
    outputs = np.array([[0.9, 0.95, 0.1], [0.2, 0.2, 0.1]], np.float32)

    shown = classify(outputs, Head("linear", is_after_probabilities=True), UnknownLoss("none"))

    assert shown.classes.tolist() == [1, 0]
    assert shown.classes.dtype == np.int64
    assert shown.probabilities is outputs


@pytest.mark.parametrize("loss", LOSSES)
def test_a_logit_that_is_not_a_number_shows_in_the_loss_without_a_warning(loss: Loss) -> None:
    logits = np.array([[0, np.nan], [1, 2]], np.float32)
    score = evaluate_logits(logits, np.array([0, 1]), Head("softmax"), LossSpec(loss), ("a", "b"))
    assert math.isnan(score.loss)


def test_pieces_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = draw_logits(5, 1.0)
    arguments = (
        logits,
        labels,
        Head("softmax"),
        LossSpec("categorical_crossentropy"),
        name_classes(5),
    )
    whole = evaluate_logits(*arguments)
    monkeypatch.setattr("mnistcli.metrics.losses.CHUNK_VALUES", 35)

    assert evaluate_logits(*arguments).loss == pytest.approx(whole.loss, rel=1e-14)


@pytest.mark.parametrize(
    ("units", "labels", "message"),
    [
        (3, [], "labels: there are no examples to evaluate. Choose a larger split"),
        (
            4,
            [0],
            "network: it tells 4 classes apart, the data has 3."
            " Use the data set that it was trained on",
        ),
        (
            3,
            [0, 3],
            "labels: a label is 3, expected 0 to 2."
            " Use the data set that the network was trained on",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(units: int, labels: list[int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        evaluate_logits(
            np.zeros((len(labels), units), np.float32),
            np.array(labels, np.uint8),
            Head("softmax"),
            LossSpec("categorical_crossentropy"),
            ("a", "b", "c"),
        )
    assert str(caught.value) == message


def score_classes(predicted: list[int], labels: list[int], classes: int) -> Score:
    logits = np.eye(classes, dtype=np.float32)[predicted]
    loss = LossSpec("categorical_crossentropy")
    return evaluate_logits(logits, np.array(labels), Head("softmax"), loss, name_classes(classes))


@pytest.mark.parametrize(
    ("predicted", "labels", "classes", "symptom"),
    [
        ([0, 1] * 500, [0, 1, 1, 0] * 250, 2, "the accuracy is 0.5000, near chance (0.5000)"),
        ([0, 1, 0, 1], [0, 1, 1, 0], 2, None),  # xor: four images tell nothing
        ([0] * 4, [0, 1, 1, 0], 2, None),
        ([3] * 20, [*range(10)] * 2, 10, "18 of 20 images are wrongly predicted as class 3"),
        ([3] * 600 + [5] * 400, [3] * 600 + [5] * 400, 10, None),
        ([3] * 1000, [3] * 950 + [5] * 50, 10, None),  # what nearly all images are
        ([*range(10)] * 39 + [*range(9, -1, -1)] * 61, [*range(10)] * 100, 10, None),  # 0.39
        ([*range(10)] * 2, [0] * 20, 10, None),
        ([*range(10)] * 100, [0] * 1000, 10, "the accuracy is 0.1000, near chance (0.1000)"),
    ],
)
def test_only_what_chance_does_not_explain_looks_wrong(
    predicted: list[int], labels: list[int], classes: int, symptom: str | None
) -> None:
    assert find_chance_accuracy(score_classes(predicted, labels, classes)) == symptom


def test_a_large_loss_is_absurd_where_it_is_a_cross_entropy_without_its_penalty() -> None:
    crossentropy = LossSpec("categorical_crossentropy")
    score = score_classes([0] * 30, [1] * 30, 2).model_copy(update={"loss": 12.0})

    assert find_absurd_loss(score, crossentropy) == "the loss is 12"
    assert find_absurd_loss(score, crossentropy, penalty=3.0) is None
    assert find_absurd_loss(score, LossSpec("mean_squared_error")) is None
    assert find_absurd_loss(score, LossSpec("categorical_crossentropy", weight=20.0)) is None
    few = score.model_copy(update={"count": 4})
    assert find_absurd_loss(few, crossentropy) is None


@pytest.mark.parametrize(
    ("head", "loss", "added", "probabilities"),
    [
        # a logit, as its loss says, or as nothing says otherwise
        ("linear", LossSpec("binary_crossentropy", from_logits=True), "sigmoid", [0.25, 0.6]),
        ("linear", UnknownLoss("none"), "sigmoid", [0.25, 0.6]),
        ("linear", LossSpec("hinge"), "sigmoid", [0.25, 0.6]),
        # fitted to 0 and 1 themselves, which Keras compares with one half
        ("linear", LossSpec("mean_squared_error"), "clip", [0.0, np.log(1.5)]),
        ("linear", LossSpec("binary_crossentropy"), "clip", [0.0, np.log(1.5)]),
        ("sigmoid", LossSpec("mean_squared_error"), None, [0.25, 0.6]),
    ],
)
def test_what_a_single_unit_says(
    head: Activation, loss: AnyLoss, added: str | None, probabilities: list[float]
) -> None:
    logits = np.log(np.array([[1 / 3], [1.5]], np.float32))

    shown = classify(logits, Head(head), loss)

    assert choose_added_activation(Head(head), 1, loss) == added
    assert shown.probabilities[:, 1] == pytest.approx(probabilities)
    assert shown.classes.tolist() == [int(p > 0.5) for p in probabilities]


def test_scores_become_probabilities_and_decide_before_they_are_rounded() -> None:
    scores = np.array([[100.0, 100.00001, 2829.6], [5.0, 9.91, -3.0]], np.float32)

    shown = classify(scores, Head("linear"), LossSpec("hinge"))

    assert shown.classes.tolist() == [2, 1]
    assert shown.probabilities == pytest.approx(
        np.array([[0, 0, 1], [0.0073, 0.9927, 0]]), abs=1e-4
    )
