"""`training.precision: mixed_bfloat16`: Keras' policy, in training and in checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import Run, save_with_keras
from helpers.commands import ADAM, read_arrays
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.run_state import Array
from mnistcli.config.loading import load_config
from mnistcli.config.overrides import Override
from mnistcli.config.schema import MlpModel, Precision, SoftmaxModel, TrainingConfig
from mnistcli.datasets.base import Split, split_validation
from mnistcli.models.architecture import plan_architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.numpy_inference import run_network
from mnistcli.tensorflow_import import load_backend

load_backend()

import keras  # noqa: E402

from mnistcli.training.compile_model import build_network, compile_network, initialize_network  # noqa: E402
from mnistcli.training.compiled_epoch import make_epoch  # noqa: E402
from mnistcli.training.network_state import network_weights  # noqa: E402

UNIT = Preprocessing(0.0, 255.0)
MODEL = MlpModel(type="mlp", hidden=[64, 16], dropout=0.3)
HARD = ("--batch-size", 105, *ADAM, "--model", "mlp", "--hidden", 16, "--dropout", 0.2,
        "--validation", 0.2, "--seed", 5)  # fmt: skip
BF16 = ("--set", "training.precision=mixed_bfloat16")


def make_network(precision: Precision) -> keras.Sequential:
    return initialize_network(plan_architecture(MODEL, (28, 28), 10), MODEL, 3, precision)


def train(split: Split) -> list[Array]:
    """Two epochs of ours: the weights."""
    network, loss = make_network("mixed_bfloat16"), "sparse_categorical_crossentropy"
    training = TrainingConfig(batch_size=150, optimizer="adam", loss=loss)
    compile_network(network, training)
    epoch = make_epoch(network, split, UNIT, training)
    for number in range(2):
        epoch.set_epoch(number)
        epoch.run(0, epoch.step_count)
    return [weight.numpy() for weight in network_weights(network)]


def train_with_keras(split: Split) -> list[Array]:
    """The same by `model.fit` under Keras' global policy, the output layer float32."""
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        plain = keras.Sequential([keras.Input((784,))])
        for layer in make_network("mixed_bfloat16").layers:
            if isinstance(layer, keras.layers.Dropout):
                plain.add(keras.layers.Dropout(layer.rate, seed=layer.seed))
            else:
                own = {"dtype": "float32"} if layer.units == 10 else {}
                plain.add(keras.layers.Dense(layer.units, layer.activation, **own))
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    for mine, first in zip(plain.layers, make_network("mixed_bfloat16").layers, strict=True):
        if isinstance(mine, keras.layers.Dense):
            mine.set_weights([weight.numpy() for weight in first.weights])
    plain.compile("adam", "sparse_categorical_crossentropy", jit_compile=True)
    inputs, labels = UNIT.apply(split.images).reshape(-1, 784), split.labels.astype(np.int32)
    for number in range(2):
        order = np.random.default_rng([0, number]).permutation(len(labels))
        plain.fit(inputs[order], labels[order], 150, shuffle=False, verbose=0)
    return [weight.numpy() for weight in network_weights(plain)]


def test_the_weights_are_those_of_model_fit_under_keras_policy(digits: Split) -> None:
    """XLA gives both the same bits where it compiles both alike."""
    ours, theirs = train(digits), train_with_keras(digits)
    assert [array.dtype for array in ours] == [np.float32] * 6
    for mine, keras_own in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, keras_own, rtol=0, atol=1e-5)
    assert keras.mixed_precision.dtype_policy().name == "float32"


def test_hidden_layers_round_and_the_output_layer_does_not(digits: Split) -> None:
    inputs = UNIT.apply(digits.images[:50]).reshape(50, 784)
    mixed, full = make_network("mixed_bfloat16"), make_network("float32")
    hidden, other = (np.asarray(net.layers[0](inputs), np.float32) for net in (mixed, full))
    assert 1e-4 < np.abs(hidden - other).max() < 0.05
    assert mixed.layers[0](inputs).dtype == "bfloat16"
    last = mixed.layers[-1](hidden[:, :16])
    assert np.array_equal(last, full.layers[-1](hidden[:, :16]))


def test_the_output_layer_stays_float32_and_softmax_regression_is_told(run: Run) -> None:
    for model, policies in (
        (MODEL, ["mixed_bfloat16"] * 4 + ["float32"]),
        (SoftmaxModel(flatten=True), ["mixed_bfloat16", "float32"]),
    ):
        network = build_network(
            plan_architecture(model, (28, 28), 10).with_precision("mixed_bfloat16")
        )
        assert [layer.dtype_policy.name for layer in network.layers] == policies
        assert {w.dtype for layer in network.layers for w in layer.trainable_weights} == {"float32"}
        assert network(np.zeros((1, *network.input_shape[1:]), np.float32)).dtype == "float32"
    notice = (
        "training.precision mixed_bfloat16 changes nothing: a softmax regression has only an"
        " output layer, which computes in float32"
    )
    override = Override("training.precision", "mixed_bfloat16", "--set")
    assert load_config(None, [override]).notices == (notice,)
    assert load_config("mnist-mlp", [override]).notices == ()
    assert notice in run("train", *BF16, "--print-config").err


@pytest.mark.slow
def test_the_file_is_keras_own_and_resumes_to_the_same_bits(run: Run, digits: Split) -> None:
    first = build_network(plan_architecture(MlpModel(type="mlp", hidden=[16]), (28, 28), 10))
    words = (*HARD, *BF16, "--init-from", save_with_keras(first, Path("float32.h5")))
    whole = run("train", *words, "--epochs", 2, "-o", "whole.h5", "--json").json
    assert run("train", *words, "--epochs", 1, "-o", "part.h5", "-q").code == 0
    assert run("train", "--resume", "part.h5", "--epochs", 2, "-q").code == 0
    assert read_arrays(Path("part.h5")) == read_arrays(Path("whole.h5"))
    assert "\nprecision      mixed_bfloat16\n" in run("summary", "whole.h5").out

    network = keras.models.load_model("whole.h5", compile=False)
    names = [layer.dtype_policy.name for layer in network.layers]
    assert names == ["mixed_bfloat16", "mixed_bfloat16", "float32"]
    checkpoint = read_checkpoint(Path("whole.h5"))
    _, held_out = split_validation(digits, 0.2, 5)
    inputs = UNIT.apply(held_out.images).reshape(len(held_out), -1)
    theirs = np.asarray(network.predict(inputs, verbose=0))
    # XLA need not round between operations that it fuses, where Keras' eager layers do.
    losses = -np.log(theirs[np.arange(len(held_out)), held_out.labels])
    assert losses.mean() == pytest.approx(whole["history"]["val_loss"][-1], abs=1e-3)

    logits = run_network(checkpoint.architecture, checkpoint.weights, held_out.images, UNIT)
    exact = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert 1e-6 < np.abs(exact - theirs).max() < 1e-2  # we evaluate it in float32
