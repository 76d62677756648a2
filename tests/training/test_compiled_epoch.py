"""Compiled epochs against `model.fit` with the same batches in the same order."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.tracing import count_traces
from mnistcli.tensorflow_import import load_backend

load_backend()

import keras  # noqa: E402

from mnistcli.config.schema import MlpModel, Model, SoftmaxModel, TrainingConfig  # noqa: E402
from mnistcli.datasets.base import Split  # noqa: E402
from mnistcli.models.architecture import plan_architecture  # noqa: E402
from mnistcli.models.input_scaling import Preprocessing  # noqa: E402
from mnistcli.training.compile_model import compile_network, initialize_network  # noqa: E402
from mnistcli.training.compiled_epoch import ValidationEpoch, make_epoch  # noqa: E402
from mnistcli.training.network_state import capture_state, restore_state  # noqa: E402

UNIT = Preprocessing(0.0, 255.0)
MLP = MlpModel(type="mlp", hidden=[32])
DROPOUT = MlpModel(type="mlp", hidden=[32], dropout=0.3, flatten=True)


def make_network(model: Model, training: TrainingConfig) -> keras.Sequential:
    network = initialize_network(plan_architecture(model, (28, 28), 10), model, seed=3)
    compile_network(network, training)
    return network


def encode(split: Split, loss: str) -> np.ndarray:
    if loss == "sparse_categorical_crossentropy":
        return split.labels.astype(np.int32)
    return np.eye(10, dtype=np.float32)[split.labels]


def fit_with_keras(
    model: Model, training: TrainingConfig, split: Split, orders: list[np.ndarray]
) -> keras.callbacks.History:
    """Train a twin with the same first weights by `model.fit`, one call an epoch."""
    reference = make_network(model, training)
    plain = keras.Sequential([keras.Input(reference.input_shape[1:])])
    for layer in reference.layers:
        kind = getattr(keras.layers, type(layer).__name__)
        plain.add(kind.from_config(layer.get_config()))
    plain.set_weights(reference.get_weights())
    optimizer = keras.optimizers.get(
        {"class_name": training.optimizer.name, "config": training.optimizer.model_dump()}
    )
    plain.compile(optimizer, training.loss, metrics=["accuracy"], jit_compile=model is DROPOUT)
    inputs = UNIT.apply(split.images).reshape(len(split), *plain.input_shape[1:])
    labels = encode(split, training.loss)
    history: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for order in orders:
        done = plain.fit(
            inputs[order], labels[order], training.batch_size, verbose=0, shuffle=False
        )
        for name, values in history.items():
            values.extend(done.history[name])
    plain.history.history = history
    return plain.history


@pytest.mark.parametrize(
    ("model", "optimizer", "loss"),
    [
        (SoftmaxModel(), {"name": "sgd", "momentum": 0.9}, "categorical_crossentropy"),
        (SoftmaxModel(output_activation="sigmoid"), {"name": "adam"}, "categorical_crossentropy"),
        (MLP, {"name": "adam"}, "sparse_categorical_crossentropy"),
        (MLP, {"name": "adamw"}, "mean_squared_error"),
        (
            MLP.model_copy(update={"output_activation": "sigmoid"}),
            {"name": "rmsprop"},
            "binary_crossentropy",
        ),
        (DROPOUT, {"name": "nadam"}, "sparse_categorical_crossentropy"),
    ],
)
def test_gives_the_losses_of_model_fit_fed_the_same_batches(
    digits: Split, model: Model, optimizer: dict[str, object], loss: str
) -> None:
    training = TrainingConfig(batch_size=100, optimizer=optimizer, loss=loss)
    network = make_network(model, training)
    epoch = make_epoch(network, digits, UNIT, training)
    losses, accuracies = [], []
    for number in range(3):
        network.reset_metrics()
        epoch.set_epoch(number)
        epoch.prefetch_epoch(number + 1)
        epoch.run(0, epoch.step_count)
        metrics = network.get_metrics_result()
        losses.append(float(metrics["loss"]))
        accuracies.append(float(metrics["accuracy"]))

    orders = [np.random.default_rng([0, e]).permutation(len(digits)) for e in range(3)]
    reference = fit_with_keras(model, training, digits, orders).history

    np.testing.assert_allclose(losses, reference["loss"], rtol=2e-4)
    np.testing.assert_allclose(accuracies, reference["accuracy"], atol=0.004)


def test_counts_the_partial_last_batch_as_a_step_and_trains_on_it(digits: Split) -> None:
    training = TrainingConfig(batch_size=100)
    network = make_network(SoftmaxModel(), training)
    epoch = make_epoch(network, digits, UNIT, training)
    assert epoch.step_count == 11
    epoch.run(10, 11)

    trained = [weight.numpy() for weight in network.weights]

    twin = make_network(SoftmaxModel(), training)
    rest = Split(digits.images[1000:], digits.labels[1000:])
    twin.train_on_batch(UNIT.apply(rest.images).reshape(50, 784), encode(rest, training.loss))
    for ours, reference in zip(trained, twin.weights, strict=True):
        np.testing.assert_allclose(ours, reference.numpy(), atol=1e-6)


def test_pieces_of_an_epoch_give_the_bits_of_the_whole_without_a_retrace(digits: Split) -> None:
    training = TrainingConfig(batch_size=100, optimizer="adam")
    whole_network, pieces_network = (make_network(DROPOUT, training) for _ in range(2))
    whole = make_epoch(whole_network, digits, UNIT, training)
    pieces = make_epoch(pieces_network, digits, UNIT, training)
    whole.set_epoch(5)
    pieces.set_epoch(5)
    pieces.compile()

    whole.run(0, 11)
    for lo, hi in [(0, 1), (1, 4), (4, 10), (10, 11)]:
        pieces.run(lo, hi)

    assert_same_bits(whole_network, pieces_network)
    assert count_traces(pieces) == 2  # whole batches, and the smaller last one


def test_a_captured_state_restored_elsewhere_goes_on_to_the_same_bits(digits: Split) -> None:
    training = TrainingConfig(batch_size=100, optimizer="nadam")
    first_network, second_network = (make_network(DROPOUT, training) for _ in range(2))
    first = make_epoch(first_network, digits, UNIT, training)
    second = make_epoch(second_network, digits, UNIT, training)
    first.run(0, 5)
    restore_state(second_network, capture_state(first_network))

    first.run(5, 11)
    second.run(5, 11)

    assert_same_bits(first_network, second_network)


def test_changes_of_the_learning_rate_need_no_retrace(digits: Split) -> None:
    training = TrainingConfig(batch_size=100)
    network = make_network(SoftmaxModel(), training)
    epoch = make_epoch(network, digits, UNIT, training)
    epoch.run(0, 10)
    before = [weight.numpy() for weight in network.weights]
    network.optimizer.learning_rate = 0.0
    epoch.run(0, 10)
    for old, weight in zip(before, network.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())
    assert count_traces(epoch) == 1


def test_validation_gives_the_metrics_of_model_evaluate(digits: Split) -> None:
    training = TrainingConfig(batch_size=100, loss="sparse_categorical_crossentropy")
    network = make_network(DROPOUT, training)
    metrics = ValidationEpoch(network, digits, UNIT, training.loss).evaluate()
    inputs = UNIT.apply(digits.images)
    loss, accuracy = network.evaluate(inputs, encode(digits, training.loss), verbose=0)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(accuracy, abs=1e-6)


def assert_same_bits(first: keras.Sequential, second: keras.Sequential) -> None:
    for one, other in zip(first.variables, second.variables, strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes(), one.path
    for one, other in zip(first.optimizer.variables, second.optimizer.variables, strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes(), one.path
