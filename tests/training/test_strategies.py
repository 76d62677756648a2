"""Training on several devices gives the results of one device up to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from test_trainer import RecordingCallback, assert_same_run

from mnistcli.config.schema import Config
from mnistcli.datasets.base import Split
from mnistcli.models.architecture import plan_architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.tensorflow_import import load_backend

load_backend()

import tensorflow as tf  # noqa: E402

from mnistcli.checkpoints.run_state import RunState  # noqa: E402
from mnistcli.models.memory import Placement  # noqa: E402
from mnistcli.training.compile_model import Dropout  # noqa: E402
from mnistcli.training.distributed.strategies import make_strategy  # noqa: E402
from mnistcli.training.input_pipeline import StreamingData  # noqa: E402
from mnistcli.training.trainer import Trainer  # noqa: E402

REDUCTION = tf.distribute.ReductionToOneDevice()

UNIT = Preprocessing(0.0, 255.0)
PENALIZED = {"type": "mlp", "hidden": [24], "l1": 1e-4, "l2": 1e-3}
SIGMOID = {"type": "mlp", "hidden": [24], "output_activation": "sigmoid"}
STOPPING = {"monitor": "val_accuracy", "patience": 2, "min_delta": 0.3}
RUNS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "softmax, sgd": ({"type": "softmax"}, {"optimizer": {"name": "sgd", "momentum": 0.9}}),
    "penalties, global clip, smoothing, cosine": (
        PENALIZED,
        {
            "optimizer": "adam",
            "loss": "categorical_crossentropy",
            "clip": {"global_norm": 0.3},
            "label_smoothing": 0.1,
            "schedule": {"name": "cosine", "epochs": 3.0},
        },
    ),
    "penalties, clipped norm, class weights, decay": (
        PENALIZED,
        {
            "optimizer": {"name": "adamw", "weight_decay": 0.1},
            "loss": "sparse_categorical_crossentropy",
            "clip": {"norm": 0.1},
            "class_weight": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        },
    ),
    "sigmoid, clipped values": (
        SIGMOID,
        {"optimizer": "rmsprop", "loss": "binary_crossentropy", "clip": {"value": 0.001}},
    ),
    "squared error, balanced, plateau": (
        SIGMOID,
        {
            "optimizer": "nadam",
            "loss": "mean_squared_error",
            "class_weight": "balanced",
            "reduce_on_plateau": {"patience": 1, "min_delta": 0.5, "cooldown": 1},
            "early_stopping": STOPPING,
        },
    ),
}


def train(
    digits: Split, blocks: tuple[dict[str, object], dict[str, object]], devices: int
) -> tuple[RunState, dict[str, tuple[float, ...]]]:
    """Three epochs of batches of 100, of which the last has a single row."""
    model, settings = blocks
    config = Config.model_validate(
        {
            "model": model,
            "dataset": {"validation": 0.05},
            "training": {"batch_size": 100, "epochs": 3, **settings},
        }
    )
    train = Split(digits.images[:901], digits.labels[:901])
    validation = Split(digits.images[901:], digits.labels[901:])
    architecture = plan_architecture(config.model, (28, 28), 10)
    strategy = make_strategy(devices)
    run = Trainer(config, architecture, train, validation, UNIT, strategy)
    state = run.fit()
    return state, state.progress.history


@pytest.mark.parametrize(
    "name",
    [n if "global clip" in n else pytest.param(n, marks=pytest.mark.slow) for n in RUNS],
)
def test_losses_metrics_and_weights_are_those_of_one_device(digits: Split, name: str) -> None:
    one, expected = train(digits, RUNS[name], 1)
    state, history = train(digits, RUNS[name], 3)  # 33, 33 and 34 rows; at last 0, 0 and 1
    assert history.keys() == expected.keys()
    for metric, values in expected.items():
        np.testing.assert_allclose(history[metric], values, rtol=2e-6, err_msg=metric)
    for ours, reference in zip(state.network.weights, one.network.weights, strict=True):
        np.testing.assert_allclose(ours, reference, atol=3e-6)


DROPOUT = {"type": "mlp", "hidden": [16], "dropout": 0.3}


def make_run(
    digits: Split, placement: Placement = "resident", chunk_duration_s: float = 1.0
) -> Trainer:
    config = Config.model_validate(
        {
            "model": DROPOUT,
            "training": {"batch_size": 100, "epochs": 2, "optimizer": "adam"},
        }
    )
    architecture = plan_architecture(config.model, (28, 28), 10)
    strategy = make_strategy(3, placement)
    return Trainer(
        config, architecture, digits, digits, UNIT, strategy, chunk_duration_s=chunk_duration_s
    )


@pytest.mark.parametrize("steps", [4, pytest.param(11, marks=pytest.mark.slow)])
def test_a_run_on_three_devices_stopped_and_resumed_ends_with_the_same_bits(
    digits: Split, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_run(digits).fit()
    assert whole.progress.history["loss"][1] < whole.progress.history["loss"][0]
    stopped = make_run(digits, chunk_duration_s=0.0).fit(
        [RecordingCallback(stop_after_chunks=steps)]
    )
    assert stopped.progress.epoch * 11 + stopped.progress.step == steps
    windows_of_three_batches = (310 * 785,)
    monkeypatch.setattr(StreamingData.__init__, "__defaults__", windows_of_three_batches)
    resumed = make_run(digits, "streamed")  # where rows lie makes no difference
    resumed.restore(stopped)
    assert_same_run(resumed.fit(), whole)


def test_devices_drop_other_inputs_than_each_other() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1", "CPU:2"], REDUCTION)
    with strategy.scope():
        layer = Dropout(0.5, seed=1)
    ones = tf.ones((1, 100))
    masks = tf.function(lambda: strategy.run(lambda: layer(ones, training=True)))()
    found = {np.asarray(mask).tobytes() for mask in strategy.experimental_local_results(masks)}
    assert len(found) == 3
