"""Losses of other people's networks: Keras' own value with every penalty, or why there is none."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from conftest import Run, make_digits, save_with_keras
from helpers.checkpoints import edit_training_config

layers, losses, L1L2 = keras.layers, keras.losses, keras.regularizers.L1L2
WORDS = ("--dataset", "mnist", "--normalization", "unit", "--json")


def make_network(*body: keras.layers.Layer, shape: tuple[int, ...] = (784,)) -> keras.Sequential:
    network = keras.Sequential([keras.Input(shape), *body])
    rng = np.random.default_rng(0)
    network.set_weights([rng.uniform(0, 0.1, w.shape) for w in network.get_weights()])
    return network


def check_against_keras(run: Run, network: keras.Sequential, loss: Any, **compiled: Any) -> Any:
    """Hold loss and accuracy of the drawn test digits against `model.evaluate`; the answer."""
    network.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True, **compiled)
    split = make_digits(200, seed=2)
    inputs = split.images.reshape(-1, *network.input_shape[1:]) / np.float32(255)
    targets = split.labels if "sparse" in str(loss) else keras.utils.to_categorical(split.labels)
    expected = network.evaluate(inputs, targets, verbose=0)
    [result] = run("evaluate", save_with_keras(network, Path("theirs.h5")), *WORDS).json["results"]
    assert [result["loss"], result["accuracy"]] == pytest.approx(expected, rel=1e-5)
    assert result["loss_reason"] is None
    return result


@pytest.mark.parametrize(
    ("head", "loss", "name"),
    [
        ("softmax", "mae", "mean_absolute_error"),
        ("softsign", "hinge", "hinge"),
        ("linear", losses.Huber(), "huber"),
        ("softmax", losses.KLDivergence(), "kl_divergence"),
        ("sigmoid", "binary_focal_crossentropy", "binary_focal_crossentropy"),
        ("softmax", losses.MeanSquaredError(reduction="sum"), "mean_squared_error"),
        ("softmax", "dice", "dice"),
        ("linear", "crossentropy", "crossentropy"),
    ],
)
def test_a_loss_of_keras_list_is_the_one_that_keras_evaluates(
    run: Run, head: str, loss: Any, name: str
) -> None:
    result = check_against_keras(run, make_network(layers.Dense(10, head)), loss)
    assert result["loss_name"] == name


def test_weights_of_the_loss_count(run: Run) -> None:
    network = make_network(layers.Dense(10, "softmax"))
    check_against_keras(run, network, "sparse_categorical_crossentropy", loss_weights=[0.25])


def test_every_penalty_counts_but_those_of_frozen_weights(run: Run) -> None:
    regular = {"kernel_regularizer": L1L2(0.01, 0.02), "bias_regularizer": "l1"}
    dense = (
        layers.Dense(8, "relu", activity_regularizer=L1L2(0.03, 0.001), **regular),
        layers.BatchNormalization(gamma_regularizer="l2", beta_regularizer=L1L2(0.5)),
        layers.Dropout(0.5, activity_regularizer="l2"),
        layers.Dense(8, "relu", trainable=False, activity_regularizer="l1", **regular),
        layers.Dense(10, "softmax", kernel_regularizer=keras.regularizers.L2(0.3)),
    )
    check_against_keras(run, make_network(*dense), "sparse_categorical_crossentropy")
    convolution = (
        layers.Conv2D(2, 5, 3, activity_regularizer="l2", **regular),
        layers.Flatten(activity_regularizer=L1L2(0.001)),
        layers.Dense(10, "softmax"),
    )
    network = make_network(*convolution, shape=(28, 28, 1))
    check_against_keras(run, network, "sparse_categorical_crossentropy")


@pytest.mark.parametrize("tail", ["dropout", "activation", "flatten", "pooling"])
def test_probabilities_stay_probabilities_behind_layers_that_do_nothing(
    run: Run, tail: str
) -> None:
    made = {
        "dropout": [layers.Dropout(0.5)],
        "activation": [layers.Activation("linear"), layers.Dropout(0.5)],
        "flatten": [layers.Reshape((1, 10)), layers.Flatten()],
        "pooling": [layers.Reshape((1, 1, 10)), layers.GlobalAveragePooling2D()],
    }
    network = make_network(layers.Dense(10, "softmax"), *made[tail])
    network.set_weights([20 * w for w in network.get_weights()])  # saturated: clipped, or not
    result = check_against_keras(run, network, "sparse_categorical_crossentropy")
    assert result["added_activation"] is None
    answer = run("predict", "theirs.h5", *WORDS, "--first", 5).json
    inputs = make_digits(200, seed=2).images[:5].reshape(5, 784) / np.float32(255)
    shown = [row["probabilities"] for row in answer["predictions"]]
    assert np.allclose(shown, network.predict(inputs, verbose=0), atol=1e-4)


@keras.saving.register_keras_serializable("theirs")
class Squares(keras.regularizers.Regularizer):
    """A regularizer of somebody's own."""

    def __call__(self, x: Any) -> Any:
        return 0.1 * keras.ops.sum(x**2)

    def get_config(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("loss", "regularizer", "name", "reason"),
    [
        ("my_focal_loss", None, "my_focal_loss", "its loss my_focal_loss is not one of Keras' own"),
        (None, None, None, "the file names no loss: the network was saved without one"),
        (["mse", "mse"], None, None, "its loss is a list, not one for one output"),
        ("ctc", None, "ctc", "its loss ctc is not one of Keras' own"),
        (
            "mse", Squares(), "mean_squared_error",
            "the kernel regularizer 'Squares' of its layer out is not L1 or L2",
        ),
        (
            "mse", "orthogonal_regularizer", "mean_squared_error",
            "the kernel regularizer 'OrthogonalRegularizer' of its layer out is not L1 or L2",
        ),
    ],
)  # fmt: skip
def test_a_loss_that_is_not_known_is_null_with_its_reason(
    run: Run, loss: Any, regularizer: Any, name: str | None, reason: str
) -> None:
    network = make_network(layers.Dense(10, "softmax", kernel_regularizer=regularizer, name="out"))
    network.compile("sgd", "mse")
    theirs = save_with_keras(network, Path("theirs.h5"))
    edit_training_config(theirs, loss=loss)
    [result] = run("evaluate", theirs, *WORDS).json["results"]
    assert result["accuracy"] > 0
    assert (result["loss"], result["loss_name"], result["loss_reason"]) == (None, name, reason)

    gate = run("evaluate", theirs, *WORDS[:-1], "--fail-under", "loss=9")
    assert gate.code == 3
    assert ", loss not known\n" in gate.out
    assert f"theirs.h5: it has no loss: {reason} (--fail-under)" in gate.err
    csv_ended = run("evaluate", theirs, *WORDS[:-1], "--csv")
    assert f"mnistcli: warning: theirs.h5: the loss is not known: {reason}\n" in csv_ended.err
    header, row = csv.reader(csv_ended.out.splitlines())
    assert dict(zip(header, row, strict=True))["loss"] == ""


def test_losses_side_by_side_have_their_names(run: Run) -> None:
    network = make_network(layers.Dense(10, "softmax"))
    for name in ("mse", "sparse_categorical_crossentropy"):
        network.compile("sgd", name)
        save_with_keras(network, Path(f"{name}.h5"))
    words = ("mse.h5", "sparse_categorical_crossentropy.h5", *WORDS[:-1])
    for command in ("evaluate", "compare"):
        ended = run(command, *words)
        assert ended.code == 0, ended.err
        last = [line.split()[-1] for line in ended.out.splitlines() if ".h5 " in line]
        assert last == ["mean_squared_error", "sparse_categorical_crossentropy"]
        results = run(command, *words, "--json").json["results"]
        assert [result["loss_name"] for result in results] == last
