"""The Python interface of load, evaluate, predict and summarize: the commands' results."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mnistcli
from conftest import Run, Train, save_with_keras
from helpers.commands import MLP
from mnistcli.errors import CheckpointError, DataError, UsageError


def test_predict_gives_the_command_s_probabilities(
    train_once: Train, run: Run, digits_directory: Path
) -> None:
    model = mnistcli.load(train_once(*MLP, "--epochs", 1))
    with np.load(digits_directory / "mnist.npz") as arrays:
        images, truth = arrays["x_test"], arrays["y_test"]
    predicted = model.predict(images)
    rows = run("predict", "model.h5", "--split", "test", "--json").json["predictions"]
    assert predicted.classes.tolist() == [row["class"] for row in rows]
    assert predicted.labels == tuple(row["label"] for row in rows)
    assert predicted.probabilities.dtype == np.float32
    shown = [row["probabilities"] for row in rows]
    assert np.array_equal(predicted.probabilities, np.array(shown, np.float32))
    assert np.mean(predicted.classes == truth) == model.evaluate("test").accuracy
    for same in (images.astype(np.float64), images.astype(np.int64), images.reshape(200, 784)):
        assert np.array_equal(model.predict(same).probabilities, predicted.probabilities)
    assert model.predict(images[0]).classes.tolist() == [rows[0]["class"]]


def test_predict_reads_image_files_as_the_command_does(train_once: Train, run: Run) -> None:
    path = train_once(*MLP, "--epochs", 1)
    picture = np.full((60, 60), 250, np.uint8)
    picture[15:45, 28:32] = 20
    Image.fromarray(picture).save("one.png")
    row = run("predict", path, "one.png", "--json").json["predictions"][0]
    for images in ("one.png", Path("one.png"), ["one.png"], [Path("one.png")]):
        assert mnistcli.load(path).predict(images).labels == (row["label"],)
    again = mnistcli.predict(path, "one.png").describe(top=2).predictions[0]
    assert again.model_dump(mode="json", by_alias=True, exclude={"top"}) == row


@pytest.mark.parametrize(
    ("images", "what"),
    [
        (np.full((2, 28, 28), 300, np.int32), "numbers from 300 to 300, not 0 to 255"),
        (np.full((2, 28, 28), -1.0), "numbers from -1 to -1, not 0 to 255"),
        (np.full((2, 28, 28), np.nan), "numbers from nan to nan"),
        (np.zeros((0, 28, 28), np.uint8), "holds no images"),
        (np.zeros((2, 28, 28), np.bool_), "holds bool, not numbers"),
        (np.zeros((2, 20, 20), np.uint8), "where the network takes"),
        ("no.png", "no"),
    ],
)
def test_predict_refuses_what_are_no_images(
    train_once: Train, images: np.ndarray | str, what: str
) -> None:
    model = mnistcli.load(train_once(*MLP, "--epochs", 1))
    with pytest.raises(DataError, match=what):
        model.predict(images)


def test_predict_warns_of_pixels_that_were_divided(
    train_once: Train, caplog: pytest.LogCaptureFixture
) -> None:
    model = mnistcli.load(train_once(*MLP, "--epochs", 1))
    with caplog.at_level(logging.WARNING):
        model.predict(np.full((1, 28, 28), 0.5))
    assert "give raw pixels from 0 to 255" in caplog.text


def test_evaluate_history_config_and_summary_are_those_of_the_commands(
    train_once: Train, run: Run
) -> None:
    path = train_once(*MLP, "--epochs", 2)
    model = mnistcli.load(path)
    answer = run("evaluate", path, "--json").json["results"][0]
    assert model.evaluate().model_dump(mode="json") == answer
    assert mnistcli.evaluate(path).results == (model.evaluate(),)
    assert mnistcli.evaluate([path, path], split="train").results[1].split == "train"
    assert {name: len(values) for name, values in model.history.items()} == {
        "loss": 2, "accuracy": 2
    }  # fmt: skip
    assert model.config is not None
    assert model.config.training.epochs == 2
    summary = run("summary", path, "--json").json
    assert model.summary().model_dump(mode="json") == summary
    assert mnistcli.summarize(path).model_dump(mode="json") == summary
    assert mnistcli.summarize(model.config).total_parameters == summary["total_parameters"]


def test_files_of_keras_have_neither_history_nor_config(run: Run, tmp_path: Path) -> None:
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    network = keras.Sequential([keras.Input((28, 28)), *layers])
    path = save_with_keras(network, tmp_path / "theirs.h5")
    model = mnistcli.load(path, normalization="unit")
    assert (model.config, dict(model.history)) == (None, {})
    assert model.predict(np.zeros((28, 28), np.uint8)).probabilities.shape == (1, 10)
    with pytest.raises(UsageError, match="does not say which data"):
        model.evaluate()
    assert mnistcli.load(path, dataset="mnist").evaluate().count == 200


def test_errors_are_exceptions(run: Run) -> None:
    with pytest.raises(CheckpointError, match=r"no\.h5: no such checkpoint"):
        mnistcli.load("no.h5")
    with pytest.raises(AttributeError, match="has no attribute 'fit'"):
        mnistcli.fit  # noqa: B018
