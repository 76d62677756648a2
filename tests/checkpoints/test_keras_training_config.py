from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest

from mnistcli.checkpoints.untrusted.keras_config import parse_training_config
from mnistcli.errors import CheckpointError
from mnistcli.metrics.losses import LossSpec, UnknownLoss

CROSSENTROPY = LossSpec("categorical_crossentropy")


def left_to_keras(name: str, keras_class: str, **settings: Any) -> LossSpec:
    """A loss that Keras makes and computes."""
    config = json.dumps({"class_name": keras_class, "config": settings})
    return LossSpec(name, keras_config=config)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("categorical_crossentropy", CROSSENTROPY),
        ("mse", LossSpec("mean_squared_error")),
        (keras.losses.sparse_categorical_crossentropy, LossSpec("sparse_categorical_crossentropy")),
        (
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
            LossSpec("categorical_crossentropy", True, 0.1),
        ),
        (
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            LossSpec("sparse_categorical_crossentropy", True),
        ),
        (keras.losses.BinaryCrossentropy(), LossSpec("binary_crossentropy")),
        (["categorical_crossentropy"], CROSSENTROPY),
        ({"dense": "categorical_crossentropy"}, CROSSENTROPY),
        (
            keras.losses.MeanSquaredError(reduction="sum"),
            left_to_keras("mean_squared_error", "MeanSquaredError", reduction="sum"),
        ),
        (
            keras.losses.SparseCategoricalCrossentropy(ignore_class=0),
            left_to_keras(
                "sparse_categorical_crossentropy",
                "SparseCategoricalCrossentropy",
                from_logits=False,
                ignore_class=0,
            ),
        ),
        (keras.losses.Huber(), left_to_keras("huber", "Huber")),
        ("hinge", left_to_keras("hinge", "Hinge")),
        ("log_cosh", left_to_keras("log_cosh", "LogCosh")),
    ],
)
def test_what_keras_3_writes(tmp_path: Path, loss: Any, expected: LossSpec) -> None:
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense")])
    network.compile(loss=loss)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.save(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        text = str(file.attrs["training_config"])

    assert parse_training_config(text, "x.h5") == expected


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ('"categorical_crossentropy"', CROSSENTROPY),
        ('["categorical_crossentropy"]', CROSSENTROPY),
        ('{"class_name": "function", "config": "categorical_crossentropy"}', CROSSENTROPY),
        (
            '{"class_name": "CategoricalCrossentropy", "config": {"reduction": "auto",'
            ' "name": "categorical_crossentropy", "from_logits": true, "label_smoothing": 0}}',
            LossSpec("categorical_crossentropy", True),
        ),
        (
            '{"module": "keras.losses", "class_name": "SparseCategoricalCrossentropy", "config":'
            ' {"reduction": "auto", "name": "sparse_categorical_crossentropy", "from_logits":'
            ' false, "ignore_class": null, "fn": "sparse_categorical_crossentropy"},'
            ' "registered_name": null}',
            LossSpec("sparse_categorical_crossentropy"),
        ),
    ],
)
def test_what_keras_2_wrote(loss: str, expected: LossSpec) -> None:
    text = (
        '{"optimizer_config": {"class_name": "SGD", "config": {"learning_rate": NaN}}, "loss":'
        f' {loss}, "metrics": ["accuracy"], "sample_weight_mode": null, "loss_weights": null}}'
    )
    assert parse_training_config(text, "x.h5") == expected


@pytest.mark.parametrize(
    "loss",
    [
        None,
        7,
        [],
        ["mse", "mse"],
        [["mse"]],
        {},
        {"class_name": "Custom", "config": {}},
        {"class_name": "BinaryCrossentropy", "config": "mse"},
        {"class_name": "BinaryCrossentropy", "config": {"from_logits": 1}},
        {"class_name": "BinaryCrossentropy", "config": {"label_smoothing": True}},
        {"class_name": "BinaryCrossentropy", "config": {"label_smoothing": 10**400}},
        {"class_name": "BinaryCrossentropy", "config": {"axis": [1]}},
        {"class_name": "BinaryCrossentropy", "config": {"label_smoothing": 2}},
        {"class_name": "Huber", "config": {"delta": "1; import os"}},
        {"class_name": "Huber", "config": {"of_a_later_version": 1}},
        {"class_name": "CategoricalFocalCrossentropy", "config": {"alpha": [0.1, 0.9]}},
        {"class_name": "BinaryCrossentropy", "config": {"reduction": ["sum"]}},
        {"class_name": "MeanSquaredError", "config": {}, "registered_name": "my>Loss"},
        {"class_name": ["MeanSquaredError"], "config": {}},
        {"class_name": "function", "config": ["mse"]},
    ],
)
def test_a_loss_that_is_not_known_says_why(loss: Any) -> None:
    unknown = parse_training_config(json.dumps({"loss": loss}), "x.h5")
    assert isinstance(unknown, UnknownLoss)
    assert unknown.reason
    weighted = {"loss": "mse", "loss_weights": [True]}
    assert isinstance(parse_training_config(json.dumps(weighted), "x.h5"), UnknownLoss)


def test_no_training_config_is_no_loss() -> None:
    assert isinstance(parse_training_config(None, "x.h5"), UnknownLoss)
    assert isinstance(parse_training_config("[]", "x.h5"), UnknownLoss)


def test_a_training_config_that_is_no_json_is_an_error() -> None:
    with pytest.raises(CheckpointError, match=r"x\.h5: training_config is not valid JSON\. The"):
        parse_training_config('{"loss"', "x.h5")
