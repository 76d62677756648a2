"""Early stopping and ReduceLROnPlateau act as Keras' callbacks do in `model.fit`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnistcli.config.schema import Config
from mnistcli.datasets.base import Split, split_validation
from mnistcli.models.architecture import plan_architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.tensorflow_import import load_backend

load_backend()

import keras  # noqa: E402

from mnistcli.training.trainer import Trainer  # noqa: E402

UNIT = Preprocessing(0.0, 255.0)
EPOCHS = 12


CASES = {
    "stops where accuracy gains too little, and restores": (
        {"early_stopping": {"monitor": "val_accuracy", "patience": 2, "min_delta": 0.15}},
        lambda: [
            keras.callbacks.EarlyStopping(
                "val_accuracy", patience=2, min_delta=0.15, restore_best_weights=True
            )
        ],
    ),
    "stops where the loss falls too little, and keeps the last": (
        {"early_stopping": {"patience": 1, "min_delta": 0.2, "restore_best": False}},
        lambda: [keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=0.2)],
    ),
    "lowers the learning rate on plateaus": (
        {
            "reduce_on_plateau": {
                "factor": 0.5, "patience": 1, "min_delta": 0.2, "cooldown": 2,
                "min_learning_rate": 0.1,
            }
        },
        lambda: [
            keras.callbacks.ReduceLROnPlateau(
                "val_loss", factor=0.5, patience=1, min_delta=0.2, cooldown=2, min_lr=0.1
            )
        ],
    ),
    "does both": (
        {
            "reduce_on_plateau": {"monitor": "loss", "patience": 2, "min_delta": 0.2},
            "early_stopping": {"patience": 6, "min_delta": 0.2},
        },
        lambda: [
            keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=2, min_delta=0.2),
            keras.callbacks.EarlyStopping(
                "val_loss", patience=6, min_delta=0.2, restore_best_weights=True
            ),
        ],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
@pytest.mark.parametrize("name", CASES)
def test_a_run_ends_like_model_fit_with_keras_callbacks(digits: Split, name: str) -> None:
    settings, callbacks = CASES[name]
    training, train, validation = make_training(settings, digits)
    network = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    network.set_weights(training.network.get_weights())
    network.compile(keras.optimizers.SGD(0.4), "categorical_crossentropy", metrics=["accuracy"])
    done = network.fit(
        *encode(train), 100, epochs=EPOCHS, shuffle=False, verbose=0,
        validation_data=encode(validation), callbacks=callbacks(),
    )  # fmt: skip

    state = training.fit()

    history = state.progress.history
    assert len(history["loss"]) == len(done.history["loss"])
    for metric, values in done.history.items():
        np.testing.assert_allclose(history[metric], values, rtol=1e-3, err_msg=metric)
    for mine, theirs in zip(state.network.weights, network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    if "early_stopping" in settings:
        assert 2 < len(history["loss"]) < EPOCHS
    if "reduce_on_plateau" in settings:
        assert len(set(history["learning_rate"])) > 1


def make_training(settings: dict[str, Any], digits: Split) -> tuple[Trainer, Split, Split]:
    config = Config.model_validate(
        {
            "dataset": {"validation": 0.2},
            "training": {
                "batch_size": 100,
                "epochs": EPOCHS,
                "shuffle": False,
                "optimizer": {"name": "sgd", "learning_rate": 0.4},
                **settings,
            },
        }
    )
    train, validation = split_validation(digits, 0.2, seed=0)
    architecture = plan_architecture(config.model, (28, 28), 10)
    return Trainer(config, architecture, train, validation, UNIT), train, validation


def encode(split: Split) -> tuple[np.ndarray, np.ndarray]:
    return UNIT.apply(split.images).reshape(-1, 784), np.eye(10)[split.labels]
