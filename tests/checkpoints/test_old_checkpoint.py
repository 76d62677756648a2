"""A checkpoint from before the modules moved into packages is read and resumed as it was then.

`written_before_move.h5` is the file of `mnistcli train xor --epochs 5 --dropout 0.25` at commit
169515e; all numbers below are what that commit printed for it, and for resuming it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import Run
from mnistcli.checkpoints.reader import Checkpoint, read_checkpoint
from mnistcli.checkpoints.run_state import NamedArray
from mnistcli.config.schema import Adam, MlpModel

OLD = Path(__file__).with_name("written_before_move.h5")
ACCURACY = (0.75, 0.5, 0.75, 0.75, 0.75)
LOSS = (
    0.2423982173204422, 0.25269660353660583, 0.23750817775726318,
    0.25147587060928345, 0.24821783602237701,
)  # fmt: skip
XOR_SHA256 = "312a2ffd434e961ca76a351104034eca6af6604abe6213a53bbf2d17933e0582"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(OLD, tmp_path / "old.h5"))


def sum_arrays(arrays: tuple[NamedArray, ...]) -> dict[str, float]:
    """The sum of each array, in float64."""
    return {array.name: float(array.values.astype(np.float64).sum()) for array in arrays}


def list_weights(checkpoint: Checkpoint) -> tuple[NamedArray, ...]:
    assert checkpoint.state is not None
    return tuple(array for layer in checkpoint.state.network.layers for array in layer.weights)


def test_the_record_and_the_history_are_read() -> None:
    checkpoint = read_checkpoint(OLD, "all")
    assert (checkpoint.warnings, checkpoint.is_changed) == ((), False)
    record = checkpoint.record
    assert record is not None
    model = record.config.model
    assert isinstance(model, MlpModel)
    assert (model.hidden[0].units, model.dropout, model.output_activation) == (8, 0.25, "sigmoid")
    training = record.config.training
    assert isinstance(training.optimizer, Adam)
    assert (training.epochs, training.batch_size, training.seed) == (5, 4, 0)
    assert (record.dataset.name, record.dataset.sha256) == ("xor", XOR_SHA256)
    assert record.class_names == ("0", "1")
    assert (record.preprocessing.offset, record.preprocessing.scale) == (0.0, 1.0)
    assert record.environment.versions["keras"] == "3.15.1"
    assert record.test is not None
    assert (record.test.count, record.test.loss, record.test.accuracy) == (
        4, 0.25068602361893544, 0.75,
    )  # fmt: skip
    progress = checkpoint.progress
    assert (progress.epoch, progress.step, progress.best_epoch) == (5, 0, 0)
    assert progress.history == {"accuracy": ACCURACY, "loss": LOSS}
    assert progress.warm_epoch_s == 0.0018116090000148688


def test_the_arrays_are_read_bit_for_bit() -> None:
    checkpoint = read_checkpoint(OLD, "all")
    assert sum_arrays(list_weights(checkpoint)) == {
        "sequential/dense/kernel": -0.5841717422008514,
        "sequential/dense/bias": -0.004563836846500635,
        "sequential/dense_1/kernel": 0.4704208970069885,
        "sequential/dense_1/bias": -0.003723825328052044,
    }
    assert checkpoint.state is not None
    assert sum_arrays(checkpoint.state.network.optimizer) == {
        "adam/iteration": 5,
        "adam/learning_rate": 0.0010000000474974513,
        "adam/sequential_dense_kernel_momentum": -0.002749198198216618,
        "adam/sequential_dense_kernel_velocity": 1.684973026633632e-05,
        "adam/sequential_dense_bias_momentum": 0.007464266527676955,
        "adam/sequential_dense_bias_velocity": 1.0406761704828682e-05,
        "adam/sequential_dense_1_kernel_momentum": -0.03535016579553485,
        "adam/sequential_dense_1_kernel_velocity": 1.7411098269803915e-05,
        "adam/sequential_dense_1_bias_momentum": 0.000866610964294523,
        "adam/sequential_dense_1_bias_velocity": 7.126074308416719e-08,
    }
    [generator] = checkpoint.state.network.generators
    assert generator.name == "seed_generator/seed_generator_state"
    assert generator.values.tolist() == [673228719, 5]


def test_it_is_evaluated(run: Run, model: Path) -> None:
    [result] = run("evaluate", model, "--json").json["results"]
    assert result["loss"] == pytest.approx(0.25068602361893544, rel=1e-6)
    assert (result["count"], result["accuracy"]) == (4, 0.75)
    assert result["confusion"] == [[2, 0], [1, 1]]


def test_it_is_summarised(run: Run, model: Path) -> None:
    answer = run("summary", model, "--json").json
    assert [(layer["name"], layer["parameters"]) for layer in answer["layers"]] == [
        ("dense", 24), ("dropout", 0), ("dense_1", 9),
    ]  # fmt: skip
    training = answer["training"]
    assert training["dataset"] == {"name": "xor", "sha256": XOR_SHA256}
    assert (training["epochs"], training["planned_epochs"], training["step"]) == (5, 5, 0)
    assert training["last"] == {"accuracy": ACCURACY[-1], "loss": LOSS[-1]}
    assert training["test"] == {"loss": 0.25068602361893544, "accuracy": 0.75}


def test_it_is_resumed_with_its_optimizer_and_its_random_generator(run: Run, model: Path) -> None:
    answer = run("train", "--resume", model, "--more", 1, "--json").json
    assert answer["epochs"] == 6
    assert answer["history"]["accuracy"] == [*ACCURACY, 0.75]
    assert answer["history"]["loss"] == pytest.approx([*LOSS, 0.24648551642894745], rel=1e-5)
    assert answer["test"]["loss"] == pytest.approx(0.2505003874448759, rel=1e-5)
    checkpoint = read_checkpoint(model, "all")
    expected = {
        "sequential/dense/kernel": -0.5839829742908478,
        "sequential/dense/bias": -0.0051333250012248755,
        "sequential/dense_1/kernel": 0.47358808666467667,
        "sequential/dense_1/bias": -0.003975419793277979,
    }
    assert sum_arrays(list_weights(checkpoint)) == pytest.approx(expected, abs=1e-6)
    assert checkpoint.state is not None
    assert checkpoint.state.network.generators[0].values.tolist() == [673228719, 6]
