"""`mnistcli summary`: the layer table as the recipes' authors printed it, and training facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from conftest import Run, Train, save_with_keras
from helpers.checkpoints import describe_dense, draw_dense, make_record, make_run, write_model
from helpers.commands import STOPPED_EARLY
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.writer import create_checkpoint
from mnistcli.config.schema import Config

TABLES = {
    "mnist-softmax": """

 Layer (type)    Output Shape   Param #
 ──────────────────────────────────────
 dense (Dense)   (None, 10)       7,850

Total params: 7,850
Trainable params: 7,850
Non-trainable params: 0
""",
    "mnist-mlp": """

 Layer (type)        Output Shape   Param #
 ──────────────────────────────────────────
 flatten (Flatten)   (None, 784)          0
 dense (Dense)       (None, 128)    100,480
 dense_1 (Dense)     (None, 10)       1,290

Total params: 101,770
Trainable params: 101,770
Non-trainable params: 0
""",
    "cifar10-mlp": """

 Layer (type)      Output Shape     Param #
 ──────────────────────────────────────────
 Hidden1 (Dense)   (None, 512)    1,573,376
 Hidden2 (Dense)   (None, 120)       61,560
 Hidden3 (Dense)   (None, 512)       61,952
 dense (Dense)     (None, 10)         5,130

Total params: 1,702,018
Trainable params: 1,702,018
Non-trainable params: 0
""",
    "xor": """

 Layer (type)      Output Shape   Param #
 ────────────────────────────────────────
 dense (Dense)     (None, 8)           24
 dense_1 (Dense)   (None, 1)            9

Total params: 33
Trainable params: 33
Non-trainable params: 0
""",
}


@pytest.mark.parametrize("recipe", TABLES)
def test_a_recipe_shows_the_published_table(run: Run, recipe: str) -> None:
    ended = run("summary", recipe)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == TABLES[recipe].removeprefix("\n")


def test_a_yaml_file_is_a_config_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("model: {type: mlp, hidden: [4], dropout: 0.5}\n")
    answer = run("summary", "my.yaml", "--json").json
    assert answer == {
        "version": 1,
        "layers": [
            {"name": "dense", "type": "Dense", "output_shape": [None, 4], "parameters": 3140},
            {"name": "dropout", "type": "Dropout", "output_shape": [None, 4], "parameters": 0},
            {"name": "dense_1", "type": "Dense", "output_shape": [None, 10], "parameters": 50},
        ],
        "total_parameters": 3190,
        "trainable_parameters": 3190,
        "training": None,
    }


def test_a_checkpoint_tells_its_run(run: Run, train_once: Train) -> None:
    model = train_once("--epochs", 2, "--validation", 0.2, "--seed", 7)
    ended = run("summary", model)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(TABLES["mnist-softmax"].removeprefix("\n"))
    facts = dict(line.split(None, 1) for line in ended.out.split("\n\n")[-1].splitlines())
    assert facts["data"].startswith("mnist, sha256 ")
    assert (facts["optimizer"], facts["seed"]) == ("sgd, learning rate 0.01", "7")
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "test", "time"} < set(facts)
    assert "2 of 2" in ended.out


def test_the_json_of_a_checkpoint(run: Run, train_once: Train) -> None:
    model = train_once("--epochs", 2, "--validation", 0.2, "--seed", 7)
    answer = run("summary", model, "--json").json
    assert set(answer) == {
        "version", "layers", "total_parameters", "trainable_parameters", "training",
    }  # fmt: skip
    assert [set(row) for row in answer["layers"]] == [
        {"name", "type", "output_shape", "parameters"}
    ]
    training = answer["training"]
    assert set(training) == {
        "dataset", "known_as", "config", "epochs", "step", "planned_epochs", "stopped_early",
        "weights_epoch", "metrics", "last", "test", "seconds", "environment", "class_names",
    }  # fmt: skip
    assert training["dataset"]["name"] == "mnist"
    assert (training["epochs"], training["planned_epochs"], training["step"]) == (2, 2, 0)
    assert training["config"]["dataset"]["validation"] == 0.2
    assert training["config"]["training"]["seed"] == 7
    assert set(training["last"]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert set(training["test"]) == {"loss", "accuracy"}


def test_weights_are_printed_whole_in_json_and_shortened_for_people(
    run: Run, train_once: Train
) -> None:
    model = train_once("--epochs", 1)
    kernel, bias = read_checkpoint(model).weights
    answer = run("summary", model, "--weights", "--json").json
    assert [(w["layer"], w["name"], w["shape"]) for w in answer["weights"]] == [
        ("dense", "kernel", [784, 10]),
        ("dense", "bias", [10]),
    ]
    np.testing.assert_array_equal(np.array(answer["weights"][0]["values"], np.float32), kernel)
    np.testing.assert_array_equal(np.array(answer["weights"][1]["values"], np.float32), bias)

    text = run("summary", model, "--weights").out
    assert "dense/kernel (784, 10)\n[[" in text
    assert "..." in text
    assert len(text.splitlines()) < 60


@pytest.fixture
def foreign(run: Run) -> Path:
    """A network of plain Keras."""
    network = keras.Sequential(
        [
            keras.layers.Input((28, 28), name="image"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(16, activation="tanh", name="inner"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.1, name="drop"),
            keras.layers.Dense(10, activation="softmax", name="outer"),
        ]
    )
    return save_with_keras(network, Path("theirs.h5"))


def test_other_peoples_files_show_their_layers_and_no_run(run: Run, foreign: Path) -> None:
    ended = run("summary", foreign)
    assert (ended.code, ended.err) == (0, "")
    assert (
        ended.out
        == """
 Layer (type)                Output Shape   Param #
 ──────────────────────────────────────────────────
 flat (Flatten)              (None, 784)          0
 inner (Dense)               (None, 16)      12,560
 norm (BatchNormalization)   (None, 16)          64
 drop (Dropout)              (None, 16)           0
 outer (Dense)               (None, 10)         170

Total params: 12,794
Trainable params: 12,762
Non-trainable params: 32
"""
    )
    assert run("summary", foreign, "--json").json["training"] is None


def test_a_file_that_was_changed_since_says_so(run: Run, train_once: Train) -> None:
    import h5py

    model = train_once("--epochs", 1)
    with h5py.File(model, "r+") as file:
        file.attrs["note"] = "mine"
    ended = run("summary", model)
    assert ended.code == 0
    assert ended.err == (
        "mnistcli: warning: model.h5: changed since mnistcli wrote it (its checksum is gone):"
        " treated as a foreign file\n"
    )
    assert ended.out == TABLES["mnist-softmax"].removeprefix("\n")


def test_the_metrics_shown_first_are_those_of_the_weights_in_the_file(
    run: Run, train_once: Train
) -> None:
    path = train_once(*STOPPED_EARLY)
    training = run("summary", path, "--json").json["training"]
    epochs, weights_epoch = training["epochs"], training["weights_epoch"]
    assert 0 < weights_epoch < epochs < training["planned_epochs"] == 30
    assert training["stopped_early"] is True
    assert training["metrics"] != training["last"]

    [scored] = run("evaluate", path, "--split", "validation", "--json").json["results"]
    assert scored["accuracy"] == pytest.approx(training["metrics"]["val_accuracy"], abs=1e-6)
    assert scored["loss"] == pytest.approx(training["metrics"]["val_loss"], rel=1e-5)

    lines = run("summary", path).out.splitlines()
    rows = {name: rest.strip() for name, _, rest in (line.partition(" ") for line in lines)}
    stopped = f"stopped early after {epochs} of 30; weights of epoch {weights_epoch}"
    assert rows["epochs"] == stopped
    assert rows["val_accuracy"] == f"{scored['accuracy']:.4f}"

    [listed] = run("ls", path, "--json").json["checkpoints"]
    for key in ("stopped_early", "weights_epoch", "metrics", "last"):
        assert listed[key] == training[key]
    head, _, row = run("ls", path).out.splitlines()
    assert head.index("metrics.val_accuracy") < head.index("last.val_accuracy")
    assert f"{epochs}/30 stopped early   " in row
    assert f" {scored['accuracy']:.4f} " in row

    assert run("plot", "curves", path, "-o", "c.svg").code == 0
    assert Path("c.svg").read_text().count(f"weights of epoch {weights_epoch}") == 2
    assert f"weights of epoch {weights_epoch}" in run("plot", "curves", path, "--show").out
    assert run("report", path, "-o", "r.html").code == 0
    page = Path("r.html").read_text()
    assert stopped in page
    assert page.count(f">weights of epoch {weights_epoch}<") == 2
    assert stopped in run("doctor", path).out


def test_a_run_that_stands_within_an_epoch_says_so_in_plain_words(run: Run) -> None:
    state, _ = make_run()
    progress = replace(state.progress, step=3)
    record = make_record(state.network, progress, config=Config())
    create_checkpoint(Path("m.h5"), replace(state, progress=progress), record)
    assert "epochs         2 of 100, and 3 steps of epoch 3\n" in run("summary", "m.h5").out


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        (
            draw_dense(5, 3),
            "layer dense needs arrays of shapes (4, 3), (3,), the file holds (5, 3)",
        ),
        ({}, "the file holds arrays of no layer, its network has weights in 1 layer ('dense')"),
    ],
)
def test_a_network_whose_arrays_are_not_its_own_is_refused(
    run: Run, layers: dict[str, Any], what: str
) -> None:
    ended = run("summary", write_model(Path("theirs.h5"), describe_dense(4, 3), layers))
    assert ended.code == 5
    assert what in ended.err
