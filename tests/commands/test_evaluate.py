"""`mnistcli evaluate`: score, metrics per class, confusion matrix and `--fail-under`."""

from __future__ import annotations

import csv
from pathlib import Path

import keras
import numpy as np
import pytest

from conftest import Run, Train, make_digits, save_with_keras
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.commands.trained_model import load_model
from mnistcli.datasets.base import Split, split_validation

GOOD = ("--epochs", 8, "--batch-size", 50, "--optimizer", "adam", "--learning-rate", 0.01)
HELD_OUT = (*GOOD, "--validation", 0.2, "--seed", 3)


@pytest.fixture(scope="module")
def test_split() -> Split:
    return make_digits(200, seed=2)


def classify(model: Path, split: Split) -> np.ndarray:
    """The classes by hand: one matrix product."""
    kernel, bias = read_checkpoint(model).weights
    inputs = split.images.reshape(-1, 784).astype(np.float32) / np.float32(255)
    return np.asarray((inputs @ kernel + bias).argmax(axis=1))


def test_the_json_holds_the_promised_keys_and_true_figures(
    run: Run, train_once: Train, test_split: Split
) -> None:
    model = train_once(*GOOD)
    answer = run("evaluate", model, "--json").json
    assert set(answer) == {"version", "results"}
    assert answer["version"] == 1
    [result] = answer["results"]
    assert set(result) == {
        "checkpoint", "split", "count", "loss", "accuracy", "per_class", "confusion",
        "loss_name", "loss_reason", "added_activation",
    }  # fmt: skip
    assert (result["checkpoint"], result["split"], result["count"]) == ("model.h5", "test", 200)

    predicted, truth = classify(model, test_split), test_split.labels
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (truth, predicted), 1)
    assert result["confusion"] == confusion.tolist()
    assert result["accuracy"] == (predicted == truth).mean() > 0.6
    assert [set(row) for row in result["per_class"]] == [
        {"label", "precision", "recall", "f1", "support"}
    ] * 10
    for digit, row in enumerate(result["per_class"]):
        hits = confusion[digit, digit]
        assert row["label"] == str(digit)
        assert row["support"] == 20
        assert row["recall"] == pytest.approx(hits / 20)
        assert row["precision"] == pytest.approx(hits / confusion[:, digit].sum())
        assert row["f1"] == pytest.approx(2 * hits / (20 + confusion[:, digit].sum()))


def test_people_get_the_same_figures_as_tables(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    [result] = run("evaluate", model, "--json").json["results"]
    ended = run("evaluate", model)
    assert ended.code == 0
    head, _, rest = ended.out.partition("\n")
    figures = f"accuracy {result['accuracy']:.4f}, loss {result['loss']:.4f}"
    name = "categorical_crossentropy"
    assert head == f"model.h5 on mnist test (200 images): {figures} ({name})"
    rows = [line.split() for line in rest.splitlines() if line.split()[:1] == ["3"]]
    zeros_as_dots = [str(count) if count else "." for count in result["confusion"][3]]
    three = result["per_class"][3]
    ratios = [f"{three[key]:.4f}" for key in ("precision", "recall", "f1")]
    assert rows == [["3", *ratios, "20"], ["3", *zeros_as_dots]]
    assert run("evaluate", model, "-q").out == f"{result['accuracy']:.4f}\n"


def test_several_checkpoints_get_a_row_each_and_one_warning(run: Run, train_once: Train) -> None:
    first = train_once(*GOOD, name="first.h5")
    second = train_once("--epochs", 1, name="second.h5")
    ended = run("evaluate", first, second, first)
    rows = [line.split() for line in ended.out.splitlines() if ".h5" in line]
    assert [row[:4] for row in rows] == [
        ["first.h5", "mnist", "test", "200"],
        ["second.h5", "mnist", "test", "200"],
        ["first.h5", "mnist", "test", "200"],
    ]
    assert rows[0] == rows[2] != rows[1]
    assert ended.err.count("is not canonical MNIST") == 1
    results = run("evaluate", first, second, "--json").json["results"]
    assert [result["checkpoint"] for result in results] == ["first.h5", "second.h5"]


def test_one_missing_checkpoint_of_several_is_an_error_and_no_half_answer(
    run: Run, train_once: Train
) -> None:
    ended = run("evaluate", train_once("--epochs", 1), "missing.h5")
    assert (ended.code, ended.out) == (5, "")
    assert "mnistcli: error: missing.h5: no such checkpoint in " in ended.err


def test_splits_are_those_of_the_run(run: Run, train_once: Train, digits: Split) -> None:
    model = train_once(*HELD_OUT)
    train, validation = split_validation(digits, 0.2, seed=3)
    for name, split in (("train", train), ("validation", validation)):
        [result] = run("evaluate", model, "--split", name, "--json").json["results"]
        assert (result["split"], result["count"]) == (name, len(split))
        assert result["accuracy"] == (classify(model, split) == split.labels).mean()
    assert (len(train), len(validation)) == (840, 210)


def test_validation_scores_are_those_that_training_monitored(run: Run, train_once: Train) -> None:
    model = train_once(*HELD_OUT)
    last = run("summary", model, "--json").json["training"]["last"]
    [result] = run("evaluate", model, "--split", "validation", "--json").json["results"]
    assert result["accuracy"] == pytest.approx(last["val_accuracy"])
    assert result["loss"] == pytest.approx(last["val_loss"], rel=1e-5)


def test_without_a_held_out_part_the_whole_training_set_is_train(
    run: Run, train_once: Train
) -> None:
    for words in (GOOD, ("--epochs", 1, "--validation", "test")):
        model = train_once(*words)
        [result] = run("evaluate", model, "--split", "train", "--json").json["results"]
        assert result["count"] == 1050
        ended = run("evaluate", model, "--split", "validation")
        assert (ended.code, ended.err) == (
            2,
            "mnistcli: error: --split: model.h5 held no validation set out of its training set."
            " Use --split test\n",
        )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--split", "val"],
            "--split: unknown name 'val'. Did you mean validation?",
        ),
        (["--split", "tset"], "--split: unknown name 'tset'. Did you mean test?"),
        (["--dataset", "mnits"], "--dataset: unknown name 'mnits'. Did you mean mnist?"),
        (
            ["--normalization", "zscore"],
            "--normalization: unknown name 'zscore'. Did you mean standard?",
        ),
    ],
)
def test_unknown_names_are_met_with_those_that_exist(
    run: Run, train_once: Train, flags: list[str], message: str
) -> None:
    ended = run("evaluate", train_once("--epochs", 1), *flags)
    assert (ended.code, ended.out, ended.err) == (2, "", f"mnistcli: error: {message}\n")


def test_a_gate_that_is_met_says_nothing(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    [result] = run("evaluate", model, "--json").json["results"]
    limits = [f"accuracy={result['accuracy']}", f"loss={result['loss']}"]
    ended = run("evaluate", model, "-q", "--fail-under", limits[0], "--fail-under", limits[1])
    assert (ended.code, ended.out) == (0, f"{result['accuracy']:.4f}\n")


def test_a_gate_that_is_not_met_fails_after_the_answer(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    [result] = run("evaluate", model, "--json").json["results"]
    line = (
        f"model.h5: accuracy {result['accuracy']:.6g} is below 0.999 (--fail-under)."
        " Train it further, or move the threshold"
    )
    ended = run("evaluate", model, "--fail-under", "accuracy=0.999")
    assert ended.code == 3
    assert ended.out == run("evaluate", model).out
    assert ended.err.splitlines()[-1] == f"mnistcli: error: {line}"

    ended = run("evaluate", model, "--fail-under", "accuracy=0.999", "--json")
    assert ended.code == 3
    assert ended.json == {
        "version": 1,
        "results": [result],
        "error": {
            "code": 3,
            "kind": "gate",
            "where": "model.h5",
            "message": line.split(": ", 1)[1].split(". ", maxsplit=1)[0],
            "hint": "train it further, or move the threshold",
        },
    }

    ended = run("evaluate", model, "--fail-under", "loss=0.001")
    assert ended.code == 3
    assert f"loss {result['loss']:.6g} is not at most 0.001 (--fail-under)" in ended.err


def test_csv_is_a_line_a_checkpoint(run: Run, train_once: Train) -> None:
    first, second = train_once(*GOOD, name="first.h5"), train_once("--epochs", 1, name="second.h5")
    results = run("evaluate", first, second, "--json").json["results"]
    ended = run("evaluate", first, second, "--csv")
    assert list(csv.reader(ended.out.splitlines())) == [
        [
            "checkpoint", "dataset", "split", "count", "loss", "accuracy", "loss_name",
            "loss_reason",
        ],
        *(
            [
                row["checkpoint"], "mnist", "test", "200", str(row["loss"]), str(row["accuracy"]),
                "categorical_crossentropy", "",
            ]
            for row in results
        ),
    ]  # fmt: skip
    ended = run("evaluate", first, "--csv", "--json")
    assert (ended.code, ended.err) == (
        2, "mnistcli: error: --json, --csv: they exclude each other. Give one of them\n",
    )  # fmt: skip


def test_every_one_of_several_has_to_meet_every_gate(run: Run, train_once: Train) -> None:
    good, bad = train_once(*GOOD, name="good.h5"), train_once("--epochs", 1, name="bad.h5")
    results = run("evaluate", bad, good, bad, "--json").json["results"]
    between = (results[0]["accuracy"] + results[1]["accuracy"]) / 2
    gates = ("--fail-under", f"accuracy={between}", "--fail-under", "loss=1000")
    assert run("evaluate", good, *gates).code == 0
    for form in ((), ("--csv",), ("-q",)):
        ended = run("evaluate", bad, good, bad, *gates, *form)
        assert ended.code == 3
        assert ended.out == run("evaluate", bad, good, bad, *form).out
        assert [line.split()[2] for line in ended.err.splitlines() if "error: " in line] == [
            "bad.h5:", "bad.h5:",
        ]  # fmt: skip
    answer = run("evaluate", bad, good, bad, *gates, "--json").json
    assert answer["results"] == results
    assert [problem["where"] for problem in answer["error"]["problems"]] == ["bad.h5", "bad.h5"]


def test_other_data_than_the_runs_are_used_with_a_warning(
    run: Run, train_once: Train, tmp_path: Path
) -> None:
    model = train_once(*GOOD)
    other = tmp_path / "other data"
    other.mkdir()
    train, test = make_digits(30, seed=8), make_digits(50, seed=9)
    np.savez(
        other / "mnist.npz",
        x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels,
    )  # fmt: skip
    ended = run("evaluate", model, "--data-dir", other, "--json")
    assert ended.code == 0
    assert ended.json["results"][0]["count"] == 50
    assert (
        f"mnistcli: warning: {other}/mnist.npz: not the data that model.h5 was trained on\n"
    ) in ended.err


def test_data_that_are_gone_are_exit_4(
    run: Run, train_once: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train_once(*GOOD)
    monkeypatch.delenv("MNISTCLI_DATA_DIR")
    ended = run("evaluate", model)
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith("mnistcli: error: MNIST: not found in ")


def make_foreign(size: float = 0.05) -> Path:
    """A network of plain Keras whose weights are drawn from a known generator."""
    network = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    network.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    kernel = np.random.default_rng(0).normal(0, size, (784, 10)).astype(np.float32)
    network.set_weights([kernel, np.zeros(10, np.float32)])
    return save_with_keras(network, Path("theirs.h5"))


def test_a_foreign_file_has_to_be_told_its_data(run: Run) -> None:
    ended = run("evaluate", make_foreign())
    assert (ended.code, ended.out, ended.err) == (
        2,
        "",
        "mnistcli: error: theirs.h5: the file does not say which data it is for"
        " (its input is (784,)). Name them with --dataset, or your own with --data\n",
    )


def test_a_foreign_file_is_scored_as_keras_scores_it(
    run: Run, test_split: Split, digits: Split
) -> None:
    theirs = make_foreign()
    network = keras.saving.load_model(theirs)
    pixels = digits.images.astype(np.float64)
    scales = {"unit": (0, 255), "standard": (pixels.mean(), pixels.std()), "none": (0, 1)}
    for name, (offset, scale) in scales.items():
        words = ("evaluate", theirs, "--dataset", "mnist", "--normalization", name, "--json")
        [result] = run(*words).json["results"]
        inputs = ((test_split.images.reshape(-1, 784) - offset) / scale).astype(np.float32)
        loss, accuracy = network.evaluate(inputs, test_split.labels, verbose=0)
        assert result["accuracy"] == pytest.approx(accuracy), name
        assert result["loss"] == pytest.approx(loss, rel=1e-4), name


def test_what_is_assumed_of_a_foreign_file_is_a_warning(run: Run) -> None:
    theirs = make_foreign()
    assumed = (
        "mnistcli: warning: theirs.h5 does not say how pixels were scaled: they are divided by 255"
        " (--normalization unit)\n"
    )
    for form in ((), ("-q",), ("--json",), ("--csv",)):
        ended = run("evaluate", theirs, "--dataset", "mnist", *form)
        told = run("evaluate", theirs, "--dataset", "mnist", "--normalization", "unit", *form)
        assert assumed in ended.err
        assert "does not say" not in told.err
        assert ended.out == told.out


def test_outputs_that_are_not_finite_are_an_error(run: Run, tmp_path: Path) -> None:
    theirs = make_foreign(size=1e37)
    line = (
        "mnistcli: error: theirs.h5: its outputs are not finite for 200 of 200 images. Its weights,"
        " or the scaling of its input (--normalization), are too large\n"
    )
    words = ("--dataset", "mnist", "--normalization", "none")
    more = {"evaluate": (), "predict": ("--split", "test"), "report": (), "compare": (theirs,)}
    for command, others in more.items():
        ended = run(command, theirs, *words, *others)
        assert (ended.code, ended.out) == (5, "")
        assert ended.err.endswith(line)
    network = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "exponential")])
    network.set_weights([np.ones((784, 10)), np.full(10, 80.0)])
    save_with_keras(network, Path("theirs.h5"))  # finite logits, from which the outputs overflow
    assert run("evaluate", theirs, *words).code == 5


def save_rescaling() -> Path:
    """A network that knows the drawn test digits by heart, and divides pixels itself."""
    split = make_digits(200, seed=2)
    pixels = split.images.reshape(200, 784) / np.float32(255)
    kernel = np.linalg.pinv(np.c_[pixels, np.ones(200)]) @ np.eye(10)[split.labels]
    body = [keras.layers.Rescaling(1 / 255), keras.layers.Dense(10, "softmax")]
    network = keras.Sequential([keras.Input((784,)), *body])
    network.set_weights([40 * kernel[:784], 40 * kernel[784]])
    network.compile("sgd", "sparse_categorical_crossentropy")
    return save_with_keras(network, Path("theirs.h5"))


def test_evaluations_that_look_like_wrong_input_name_the_flag(run: Run) -> None:
    theirs = save_rescaling()
    ended = run("evaluate", theirs, "--dataset", "mnist", "--normalization", "unit", "-q")
    twice, wrong = ended.err.splitlines()[-2:]
    assert twice == (
        "mnistcli: warning: theirs.h5 begins with layers that scale pixels: with --normalization"
        " unit they are scaled twice. Try --normalization none"
    )
    assert wrong.startswith("mnistcli: warning: theirs.h5: ")
    assert wrong.endswith(
        ": perhaps its input was scaled otherwise in training. Try --normalization none"
    )
    right = run("evaluate", theirs, "--dataset", "mnist", "--normalization", "none", "-q")
    assert "theirs.h5" not in right.err
    assert float(right.out) > 0.99 > 0.5 > float(ended.out)


def test_another_scaling_than_the_run_s_is_a_warning(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    assert "--normalization" not in run("evaluate", model).err
    ended = run("evaluate", model, "--normalization", "none", "-q")
    assert (
        "mnistcli: warning: model.h5 was trained with --normalization unit, not none\n" in ended.err
    )


def test_a_network_for_other_data_is_refused(run: Run, train_once: Train) -> None:
    ended = run("evaluate", train_once("--epochs", 1), "--dataset", "xor")
    assert (ended.code, ended.out, ended.err) == (
        2,
        "",
        "mnistcli: error: --dataset: XOR's inputs are (2,), model.h5 takes (784,)."
        " Name the data that it was trained on\n",
    )


def save_convolution(size: int | None, channels: int) -> Path:
    """A network over images of a size, or of any, that it averages; compiled."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Conv2D(64, 3, activation="relu", padding="same"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10, "softmax"),
    ]
    network = keras.Sequential([keras.Input((size, size, channels)), *layers])
    network.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return save_with_keras(network, Path("theirs.h5"))


def test_a_size_that_the_file_leaves_open_is_the_data_sets(run: Run, test_split: Split) -> None:
    theirs = save_convolution(None, 1)
    network = keras.saving.load_model(theirs)
    inputs = test_split.images[..., None].astype(np.float32) / 255
    loss, accuracy = network.evaluate(inputs, test_split.labels, verbose=0)

    [result] = run("evaluate", theirs, "--dataset", "mnist", "--json").json["results"]

    assert (result["loss"], result["accuracy"]) == pytest.approx((loss, accuracy), rel=1e-5)
    digits = load_model(theirs, dataset="digits")
    assert digits.compute_logits(np.zeros((2, 8, 8), np.uint8)).shape == (2, 10)


def test_a_network_for_large_images_is_read_and_refused_for_the_data_alone(run: Run) -> None:
    theirs = save_convolution(224, 3)

    layers = run("summary", theirs, "--json").json["layers"]
    ended = run("evaluate", theirs, "--dataset", "mnist")

    assert layers[0]["output_shape"] == [None, 224, 224, 64]
    assert (ended.code, ended.err) == (
        2,
        "mnistcli: error: --dataset: MNIST's inputs are (28, 28), theirs.h5 takes (224, 224, 3)."
        " Name the data that it was trained on\n",
    )
