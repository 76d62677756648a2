"""The Python interface of load, evaluate, predict and summarize: the commands' results."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import mnistcli
from conftest import Run, Train, make_digits, save_with_keras
from helpers.checkpoints import make_run, write_dense
from helpers.commands import MLP
from helpers.paper import SCENES, photograph
from mnistcli.checkpoints.writer import replace_checkpoint
from mnistcli.config.schema import Config
from mnistcli.datasets.registry import get_spec
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


DIGITS = tuple("0123456789")


def make_picture_folder(root: Path, names: tuple[str, ...] = DIGITS) -> tuple[Path, list[Path]]:
    """Photographs, and dark digits on paper of 28 x 28 pixels, two of each class."""
    generator, digits = np.random.default_rng(1), make_digits(10, seed=2)
    files = []
    for digit, label in zip(digits.images, digits.labels.tolist(), strict=True):
        folder = root / names[label]
        folder.mkdir(parents=True)
        Image.fromarray(255 - digit).save(folder / "screen.png")
        (folder / "photo.jpg").write_bytes(
            photograph(digit, SCENES["dark ink on light paper"], generator)
        )
        files += [folder / "photo.jpg", folder / "screen.png"]
    return root, files


NETWORKS = {
    "trained on MNIST": ({"name": "mnist"}, 784),
    "trained on CIFAR-10": ({"name": "cifar10"}, 3072),
    "trained on images of one's own": (
        {"name": "files", "path": "/gone", "size": (28, 28), "classes": DIGITS},
        784,
    ),
    "foreign, for 28 x 28 pixels": (None, 784),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_picture_is_the_same_input_for_every_command(kind: str, run: Run, tmp_path: Path) -> None:
    dataset, inputs = NETWORKS[kind]
    names = get_spec("cifar10").info.class_names if inputs == 3072 else DIGITS
    folder, files = make_picture_folder(tmp_path / "pictures", names)
    if dataset is None:
        write_dense(tmp_path / "m.h5", 784, 10)
    else:
        state, record = make_run(inputs=inputs)
        config = Config.model_validate({"dataset": dataset})
        replace_checkpoint(
            tmp_path / "m.h5",
            state,
            record.model_copy(
                update={
                    "config": config,
                    "class_names": names,
                    "dataset": dataclasses.replace(record.dataset, name=dataset["name"]),
                }
            ),
        )
    predicted = mnistcli.load("m.h5", normalization="unit").predict(files)
    model = mnistcli.load("m.h5", data=folder, normalization="unit")
    read = [model.read_split(name) for name in ("train", "test")]
    evaluated = {row.tobytes() for split in read for row in split.images}
    assert {row.tobytes() for row in predicted.batch.pixels} == evaluated
    assert len(evaluated) == 20
    # dark ink on paper becomes light ink on black for those that learned it so, and only for them
    is_inverted = "own" not in kind and "CIFAR" not in kind
    corners = predicted.batch.pixels.reshape(20, -1)[:, 0]
    assert bool((corners < 128).all()) == is_inverted


def test_photographs_are_evaluated_as_they_are_predicted(
    run: Run, train_once: Train, tmp_path: Path
) -> None:
    folder, files = make_picture_folder(tmp_path / "pictures")
    model = train_once(
        "--epochs", 8, "--batch-size", 50, "--optimizer", "adam", "--learning-rate", 0.01
    )
    rows = run("predict", model, *files, "--json").json["predictions"]
    correct = sum(Path(row["source"]).parent.name == row["label"] for row in rows)
    assert correct > 12  # of 20: 2 would be chance
    ended = [
        run("evaluate", model, "--data", folder, "--split", split) for split in ("train", "test")
    ]
    assert "pictures are prepared as predict does it for this network\n" in ended[0].err
    accuracies = [float(re.findall(r"accuracy (\S+),", one.out)[0]) for one in ended]
    assert 10 * sum(accuracies) == pytest.approx(correct)


def test_what_a_foreign_network_was_trained_on_can_be_said(run: Run, tmp_path: Path) -> None:
    folder, files = make_picture_folder(tmp_path / "pictures")
    write_dense(tmp_path / "m.h5", 784, 10)
    for dataset, is_inverted in ((None, True), ("files", False)):
        model = mnistcli.load("m.h5", data=folder, dataset=dataset)
        pixels = model.predict(files[1]).batch.pixels
        assert bool(pixels.reshape(-1)[0] < 128) == is_inverted


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


def test_a_network_that_takes_channels_first_takes_images_as_any_other(tmp_path: Path) -> None:
    first = {"data_format": "channels_first"}
    network = keras.Sequential(
        [
            keras.Input((3, 32, 32)),
            keras.layers.Conv2D(2, 3, **first),
            keras.layers.GlobalMaxPooling2D(**first),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    theirs = save_with_keras(network, tmp_path / "theirs.h5")
    model = mnistcli.load(theirs, normalization="unit")

    found = model.predict(images)

    expected = network(np.transpose(images, (0, 3, 1, 2)) / np.float32(255)).numpy()
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
