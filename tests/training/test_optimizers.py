"""Schedules, clipping, smoothing, class weights and penalties against `model.fit`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers.tracing import count_traces
from mnistcli.config.schema import Config
from mnistcli.datasets.base import Split, shuffle_indices
from mnistcli.models.architecture import plan_architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.tensorflow_import import load_backend
from mnistcli.training.compiled_epoch import compute_class_weights

load_backend()

import keras  # noqa: E402

from mnistcli.training.trainer import Trainer  # noqa: E402

UNIT = Preprocessing(0.0, 255.0)
STEPS = 11  # ten batches of 100, and one of 50
SGD = keras.optimizers.SGD
schedules = keras.optimizers.schedules


def make_training(training: dict[str, Any], model: dict[str, Any], train: Split) -> Trainer:
    config = Config.model_validate(
        {
            "model": {"type": "mlp", "hidden": [16], **model},
            "training": {
                "batch_size": 100,
                "epochs": 3,
                "optimizer": {"name": "sgd", "learning_rate": 0.5},
                **training,
            },
        }
    )
    return Trainer(config, plan_architecture(config.model, (28, 28), 10), train, None, UNIT)


def fit_with_keras(
    weights: list[np.ndarray], split: Split, compiled: dict[str, Any], settings: dict[str, Any]
) -> list[float]:
    """Three epochs of `model.fit` in the orders of seed 0; the losses."""
    penalty = compiled.pop("penalty", None)
    network = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(16, "relu", kernel_regularizer=penalty),
            keras.layers.Dense(10, compiled.pop("head", "softmax"), kernel_regularizer=penalty),
        ]
    )
    network.set_weights(weights)
    network.compile(**{"optimizer": SGD(0.5), "loss": "categorical_crossentropy"} | compiled)
    inputs, labels = UNIT.apply(split.images).reshape(-1, 784), np.eye(10)[split.labels]
    losses = []
    for number in range(3):
        order = shuffle_indices(0, number, len(split))
        done = network.fit(inputs[order], labels[order], 100, shuffle=False, verbose=0, **settings)
        losses += done.history["loss"]
    return losses


def smooth(kind: str) -> keras.losses.Loss:
    return getattr(keras.losses, kind)(label_smoothing=0.2)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[], dict[str, Any]]]] = {
    "cosine": (
        {"schedule": "cosine"},
        {},
        lambda: {"optimizer": SGD(schedules.CosineDecay(0.5, 3 * STEPS))},
    ),
    "cosine with warm-up": (
        {"schedule": {"name": "cosine", "epochs": 2.0, "warmup_epochs": 1.0, "alpha": 0.1}},
        {},
        lambda: {
            "optimizer": SGD(
                schedules.CosineDecay(0.0, STEPS, 0.1, warmup_target=0.5, warmup_steps=STEPS)
            )
        },
    ),
    "exponential": (
        {"schedule": {"name": "exponential", "decay_rate": 0.5, "decay_epochs": 0.5}},
        {},
        lambda: {"optimizer": SGD(schedules.ExponentialDecay(0.5, 6, 0.5))},
    ),
    "exponential staircase": (
        {"schedule": {"name": "exponential", "decay_rate": 0.1, "staircase": True}},
        {},
        lambda: {"optimizer": SGD(schedules.ExponentialDecay(0.5, STEPS, 0.1, staircase=True))},
    ),
    "piecewise": (
        {"schedule": {"name": "piecewise", "boundaries": [1, 2], "factors": [0.1, 0.01]}},
        {},
        lambda: {
            "optimizer": SGD(
                schedules.PiecewiseConstantDecay([STEPS - 1, 2 * STEPS - 1], [0.5, 0.05, 0.005])
            )
        },
    ),
    "momentum": (
        {"optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}},
        {},
        lambda: {"optimizer": SGD(0.1, momentum=0.9)},
    ),
    "nesterov momentum": (
        {"optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True}},
        {},
        lambda: {"optimizer": SGD(0.1, momentum=0.9, nesterov=True)},
    ),
    "weight decay of sgd": (
        {"optimizer": {"name": "sgd", "learning_rate": 0.5, "weight_decay": 0.1}},
        {},
        lambda: {"optimizer": SGD(0.5, weight_decay=0.1)},
    ),
    "weight decay of adamw": (
        {"optimizer": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.2}},
        {},
        lambda: {"optimizer": keras.optimizers.AdamW(0.01, weight_decay=0.2)},
    ),
    "clip norm": (
        {"clip": {"norm": 0.1}}, {}, lambda: {"optimizer": SGD(0.5, clipnorm=0.1)}
    ),
    "clip value": (
        {"clip": {"value": 0.01}}, {}, lambda: {"optimizer": SGD(0.5, clipvalue=0.01)}
    ),
    "clip global norm": (
        {"clip": {"global_norm": 0.1}}, {}, lambda: {"optimizer": SGD(0.5, global_clipnorm=0.1)}
    ),
    "label smoothing": (
        {"label_smoothing": 0.2}, {}, lambda: {"loss": smooth("CategoricalCrossentropy")}
    ),
    "label smoothing of sigmoids": (
        {"label_smoothing": 0.2, "loss": "binary_crossentropy"},
        {"output_activation": "sigmoid"},
        lambda: {"loss": smooth("BinaryCrossentropy"), "head": "sigmoid"},
    ),
    "l1": ({}, {"l1": 0.001}, lambda: {"penalty": keras.regularizers.L1(0.001)}),
    "l2": ({}, {"l2": 0.01}, lambda: {"penalty": keras.regularizers.L2(0.01)}),
    "l1 and l2": (
        {}, {"l1": 0.0005, "l2": 0.01}, lambda: {"penalty": keras.regularizers.L1L2(0.0005, 0.01)}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain_losses(digits: Split) -> tuple[float, ...]:
    return make_training({}, {}, digits).fit().progress.history["loss"]


def assert_like(training: Trainer, reference: list[float], plain: tuple[float, ...]) -> None:
    losses = training.fit().progress.history["loss"]
    np.testing.assert_allclose(losses, reference, rtol=2e-4)
    assert not np.allclose(reference, plain, rtol=5e-3)  # the setting makes a difference
    assert count_traces(training._epoch) == 2


@pytest.mark.parametrize("name", CASES)
def test_a_setting_gives_the_losses_of_model_fit_with_keras_own(
    digits: Split, plain_losses: tuple[float, ...], name: str
) -> None:
    settings, model, compiled = CASES[name]
    training = make_training(settings, model, digits)
    reference = fit_with_keras(training.network.get_weights(), digits, compiled(), {})
    assert_like(training, reference, plain_losses)


@pytest.mark.parametrize("class_weight", ["list", "balanced"])
def test_class_weights_are_those_of_model_fit(
    digits: Split, plain_losses: tuple[float, ...], class_weight: str
) -> None:
    rare = Split(digits.images[digits.labels != 3], digits.labels[digits.labels != 3])
    some = Split(*(np.concatenate([a, b[:105]]) for a, b in (
        (rare.images, digits.images), (rare.labels, digits.labels)
    )))  # fmt: skip
    if class_weight == "list":
        split, value = digits, [float(k) for k in range(10)]
        expected = dict(enumerate(value))
    else:
        split, value = some, "balanced"
        counts = np.bincount(some.labels)
        expected = {k: len(some) / (10 * counts[k]) for k in range(10)}
        assert counts[3] < 20 < 100 < counts[4]
    training = make_training({"class_weight": value}, {}, split)
    reference = fit_with_keras(
        training.network.get_weights(), split, {}, {"class_weight": expected}
    )
    assert_like(training, reference, plain_losses)


def test_balanced_weights_make_every_class_weigh_the_same() -> None:
    labels = np.array([0, 0, 0, 1], np.uint8)
    weights = compute_class_weights("balanced", Split(np.zeros((4, 2), np.uint8), labels), 1)
    assert weights is not None
    np.testing.assert_allclose(weights, [4 / 6, 4 / 2])


def test_the_history_tells_the_learning_rate_that_keras_reports(digits: Split) -> None:
    training = make_training({"schedule": "cosine"}, {}, digits)
    rates = training.fit().progress.history["learning_rate"]
    schedule = schedules.CosineDecay(0.5, 3 * STEPS)
    assert rates == tuple(float(schedule(STEPS * (e + 1))) for e in range(3))
    assert rates[-1] == float(training.network.optimizer.learning_rate) == 0.0


def test_a_schedule_as_long_as_the_run_keeps_its_length_when_the_run_is_extended() -> None:
    config = Config.model_validate({"training": {"epochs": 20, "schedule": "cosine"}})
    longer = config.with_lengths().model_copy(
        update={"training": config.with_lengths().training.model_copy(update={"epochs": 50})}
    )
    again = longer.with_lengths().training.schedule
    assert again is not None
    assert json.loads(again.model_dump_json()) == {
        "name": "cosine", "epochs": 20.0, "warmup_epochs": 0.0, "alpha": 0.0,
    }  # fmt: skip
