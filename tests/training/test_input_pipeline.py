"""Streamed training is bit-identical to training in memory."""

from __future__ import annotations

import keras

from conftest import make_digits
from helpers.tracing import count_traces
from mnistcli.config.schema import MlpModel, TrainingConfig
from mnistcli.datasets.base import Split
from mnistcli.models.architecture import plan_architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.training.compile_model import compile_network, initialize_network
from mnistcli.training.compiled_epoch import (
    BatchTransform,
    TrainingEpoch,
    ValidationEpoch,
    make_epoch,
)
from mnistcli.training.input_pipeline import StreamingData

UNIT = Preprocessing(0.0, 255.0)
MODEL = MlpModel(type="mlp", hidden=[16], dropout=0.3)
TRAINING = TrainingConfig(
    batch_size=100, optimizer="adam", epochs=2, loss="sparse_categorical_crossentropy"
)


def make_network() -> keras.Sequential:
    network = initialize_network(plan_architecture(MODEL, (28, 28), 10), MODEL, 0)
    compile_network(network, TRAINING)
    return network


def make_streamed(network: keras.Sequential, digits: Split) -> TrainingEpoch:
    """Four windows of three batches of 100, the last of 150 rows and zeros."""
    rows = StreamingData(network, digits, TRAINING, window_bytes=310 * 785)
    return TrainingEpoch(network, rows, BatchTransform(network, UNIT, TRAINING.loss), TRAINING)


def is_same(first: keras.Sequential, second: keras.Sequential) -> bool:
    pairs = zip(first.variables, second.variables, strict=True)
    return all(one.numpy().tobytes() == other.numpy().tobytes() for one, other in pairs)


def test_windows_give_the_bits_of_a_resident_set_wherever_they_begin(digits: Split) -> None:
    one, other = make_network(), make_network()
    resident, streamed = make_epoch(one, digits, UNIT, TRAINING), make_streamed(other, digits)
    resident.compile()
    streamed.compile()
    for number, pieces in enumerate([[(0, 11)], [(0, 1), (1, 5), (5, 11)]]):
        for epoch in (resident, streamed):
            epoch.set_epoch(number)
            epoch.prefetch_epoch(number + 1)
        resident.run(0, 11)
        for lo, hi in pieces:
            streamed.run(lo, hi)
        assert is_same(one, other), number

    # a run that was resumed in the middle of an epoch, then goes beyond the last planned one
    for number, lo in ((1, 4), (2, 0), (3, 0)):
        for epoch in (resident, streamed):
            epoch.set_epoch(number)
            epoch.run(lo, 11)
        assert is_same(one, other), number
    assert count_traces(streamed) == 2
    resident.run(0, 1)
    assert not is_same(one, other)


def test_a_streamed_validation_set_has_the_same_metrics_each_time() -> None:
    split = make_digits(2100, seed=3)  # two batches of 1000 and a smaller one
    network = make_network()
    resident = ValidationEpoch(network, split, UNIT, TRAINING.loss)
    streamed = ValidationEpoch(network, split, UNIT, TRAINING.loss, "streamed")
    expected = resident.evaluate()
    assert [streamed.evaluate() for _ in range(3)] == [expected] * 3
    assert expected["loss"] > 0
