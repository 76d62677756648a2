"""Custom images from the shell: training, a moved folder, resuming, streaming."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from conftest import Run, Train, make_digits
from helpers.checkpoints import seal
from helpers.commands import list_files
from helpers.custom_images import make_square, write_digits, write_picture, write_squares

MLP = ("--model", "mlp", "--hidden", "16", "--dropout", "0.2", "--optimizer", "adam")
FLAGS = (*MLP, "--batch-size", 32, "--epochs", 2, "--validation", "0.2")


def read_arrays(path: str) -> list[bytes]:
    """Every number in a checkpoint except how long things took.

    Names are left out: Keras counts the optimizers of a process.
    """
    arrays: list[bytes] = []

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "duration" not in name:
            arrays.append(item[()].tobytes())

    with h5py.File(path) as file:
        file.visititems(keep)
    return arrays


def test_a_folder_of_pictures_is_trained_on_and_found_again(run: Run) -> None:
    write_digits(Path("digits"), 200, seed=1)
    trained = run("train", "--data", "digits", *FLAGS, "-o", "own.h5", "--json")
    assert trained.code == 0, trained.err
    streamed = run("train", "--data", "digits", *FLAGS, "--stream", "-o", "streamed.h5", "--json")
    assert streamed.json["history"] == trained.json["history"]
    arrays = read_arrays("own.h5")
    assert len(arrays) > 10
    assert read_arrays("streamed.h5") == arrays

    evaluated = run("evaluate", "own.h5", "--json").json["results"][0]
    assert evaluated["accuracy"] == trained.json["test"]["accuracy"]
    assert [row["label"] for row in evaluated["per_class"]] == sorted(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )

    rows = run("predict", "own.h5", "--split", "test", "--json").json["predictions"]
    assert {row["true_label"] for row in rows} <= {row["label"] for row in evaluated["per_class"]}
    table = run("predict", "own.h5", "--split", "test").out
    wrong = next(row for row in rows if row["label"] != row["true_label"])
    assert re.search(rf" {wrong['label']} +[\d.]+ +{wrong['true_label']} wrong\n", table)

    Path("digits").rename("moved")
    gone = run("evaluate", "own.h5")
    assert gone.code == 4
    assert gone.err.endswith("no such folder or file. Say where the data are with --data PATH\n")
    assert run("evaluate", "own.h5", "--data", "moved", "--json").json["results"][0] == evaluated
    assert run("doctor", "own.h5").code == 4
    assert run("doctor", "own.h5", "--data", "moved").code == 0
    assert run("summary", "own.h5").code == 0

    resumed = run("train", "--resume", "own.h5", "--more", 1, "--data", "moved", "--json")
    assert resumed.json["epochs"] == 3, resumed.err
    assert run("evaluate", "own.h5", "-q").code == 0  # the record knows the new place

    other = write_digits(Path("other"), 200, seed=5)
    refused = run("train", "--resume", "own.h5", "--more", 1, "--data", other)
    assert refused.code == 4
    assert "not the other that own.h5 was trained on. Point --data to the data of" in refused.err


def test_two_classes_in_colour_are_told_apart_and_files_predicted(run: Run) -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for channel, name in enumerate(("cat", "dog")):
            for number in range(count):
                pixels = generator.integers(0, 90, (10 + number, 12, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                write_picture(Path(f"pets/{split}/{name}/{number}.png"), pixels)
    flags = ("--set", "dataset.size=[8,8,3]", "--epochs", 3, "--batch-size", 8)
    assert run("train", "--data", "pets", *flags, "--optimizer", "adam", "-o", "pets.h5").code == 0

    answer = run("predict", "pets.h5", "pets/test/dog/3.png", "--json").json["predictions"][0]
    row = run("predict", "pets.h5", "--split", "test", "--index", 11, "--json").json
    assert answer["probabilities"] == row["predictions"][0]["probabilities"]  # prepared alike
    assert (answer["label"], len(answer["probabilities"])) == ("dog", 2)

    for words in (("plot", "mistakes"), ("plot", "confusion"), ("report",)):
        assert run(*words, "pets.h5", "--overwrite").code == 0
    data = run("data", "files", "--data", "pets", "--size", "8,8,3", "--json").json
    assert data["counts"] == {"train": 48, "test": 16}
    assert data["image_shape"] == [8, 8, 3]
    one_unit = run("train", "--data", "pets", *flags, "--set", "model.output_activation=sigmoid")
    assert one_unit.code == 2
    assert "does not match the one sigmoid unit that tells two classes apart" in one_unit.err


def test_an_archive_and_a_config_that_names_it(run: Run) -> None:
    train, test = make_digits(100, 1), make_digits(40, 2)
    arrays = {"x_train": train.images, "y_train": train.labels}
    np.savez("own.npz", **arrays, x_test=test.images, y_test=test.labels)
    Path("own.yaml").write_text(
        "dataset: {name: files, path: own.npz, normalization: standard}\n"
        "training: {epochs: 1, batch_size: 32, class_weight: balanced}\n"
    )
    summary = run("summary", "own.yaml", "--json")
    assert summary.json["total_parameters"] == 7850
    assert run("train", "own.yaml", "--dry-run", "--stream").code == 0
    assert run("train", "own.yaml", "-o", "own.h5").code == 0
    assert run("reproduce", "own.h5", "-q").out == "same\n"

    np.savez("own.npz", **(arrays | {"x_test": 255 - test.images}), y_test=test.labels)
    changed = run("evaluate", "own.h5", "-q")
    assert changed.code == 4
    assert "own.npz: not the images that the checkpoint recorded for this place" in changed.err
    changed = run("evaluate", "own.h5", "--data", "own.npz", "-q")
    assert changed.code == 0
    assert "own.npz: not the data that own.h5 was trained on" in changed.err


def test_a_network_for_digits_looks_at_digits_of_ones_own(run: Run, train_once: Train) -> None:
    train_once("--epochs", 1)
    for number, pixels in enumerate(make_digits(40, 3).images):
        write_picture(Path(f"mine/{number % 10}/{number}.png"), pixels)
    scored = run("evaluate", "model.h5", "--data", "mine", "--json").json["results"][0]
    assert (scored["count"], len(scored["confusion"])) == (10, 10)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (
            ("train", "--dataset", "files"), 2,
            "--dataset: dataset.path: missing. Give the path to a folder of images or to an .npz",
        ),
        (
            ("train", "--dataset", "mnist", "--data", "pets"), 2,
            "--data: dataset.path: mnist has no path to a folder of images or to an .npz file",
        ),
        (("train", "--data", "pets", "--set", "dataset.path=x"), 2, "--set: dataset.path: already"),
        (("train", "--data", "nowhere"), 4, "nowhere: there is no such folder or file in HERE."),
        (("train", "--data", "~nosuch/d"), 4, "~nosuch/d: there is no such folder or file in HERE"),
        (
            ("train", "--data", "$HOME/my pets"), 4,
            "$HOME/my pets: there is no such folder or file: no shell has expanded it. Write '/h",
        ),
        (
            ("data", "files", "--data", "file:///mnt/pets"), 4,
            "file:/mnt/pets: there is no such folder or file: it is a URL. Write its path: /mnt",
        ),
        (
            ("train", "--data", "https://example.org/pets.zip"), 4,
            "it is a URL. Download it first: curl -LO https://example.org/pets.zip",
        ),
        (
            ("train", "--data", "C:\\my\\pets"), 4, "it is written as on Windows. Write /mnt/c/my/",
        ),
        (("train", "--data-dir", "$HOME/data"), 4, "no shell has expanded it. Write /h/data"),
        (("data", "mnist", "--data-dir", "C:\\data"), 4, "as on Windows. Write /mnt/c/data"),
        (("train", "--data", "pets/one.yaml"), 4, "is a config, not an .npz file. Train with it:"),
        (("train", "--data", "/dev/null"), 4, "/dev/null: neither a folder nor a file"),
        (("train", "--data", "pets", "--set", "dataset.size=[9,9,2]"), 2, "an image has 3 colours"),
        (
            ("train", "--data", "pets", "--set", "training.class_weight=[1,2,3]"), 2,
            "pets: training.class_weight: files has 2 classes, received 3 weights",
        ),
        (("data", "files"), 2, "Give both: mnistcli data files --data PATH"),
        (("data", "mnist", "--size", "3,3"), 2, "--size: mnist has its own. Leave it out"),
        (("reproduce", "xor", "--data", "pets"), 2, "recipes are about published data sets"),
        (
            ("train", "--data", "pets", "--set", "dataset.classes=[cat,cow]"), 4,
            "pets/train/dog: dataset.classes does not name it. Add it there, or move it away",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line(
    words: tuple[str, ...],
    code: int,
    line: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/h")
    write_squares(Path("pets"))
    Path("pets/one.yaml").write_text("dataset: {name: mnist}\n")
    ended = run(*words)
    assert ended.code == code
    assert ended.err.startswith("mnistcli: error: ")
    assert ended.err.count("\n") == 1
    assert line.replace("HERE", str(tmp_path)) in ended.err


def test_a_folder_that_leaves_nothing_for_testing_is_refused_before_anything_is_trained(
    run: Run, train_once: Train
) -> None:
    for label, pixels in enumerate(make_digits(10, 3).images):
        write_picture(Path(f"mine/{label}/1.png"), pixels)
    line = "mine: no image is left for testing: each class has one. Add images, or make folders"
    train_once("--epochs", 1)
    before = list_files()
    for words in (
        ["train"], ["train", "--dry-run"], ["evaluate", "model.h5"], ["data", "files"],
        ["predict", "model.h5", "--split", "test"], ["report", "model.h5"],
        ["plot", "confusion", "model.h5", "-o", "p.svg"], ["doctor"],
        ["compare", "model.h5", "model.h5"],
    ):  # fmt: skip
        ended = run(*words, "--data", "mine")
        assert (ended.code, line in ended.err) == (4, True), (words, ended.err)
    assert list_files() == before


def test_images_beside_a_config_are_found_by_the_note_that_names_them(run: Run) -> None:
    write_squares(Path("my runs/pets"))
    Path("my runs/own.yaml").write_text("dataset: {name: files, path: pets}\n")
    ended = run("train", "my runs/own.yaml", "--dry-run")
    note, error = ended.err.splitlines()
    assert error.endswith(f"pets: there is no such folder or file in {Path.cwd()}. "
                          "Say where the data are with --data PATH")  # fmt: skip
    flag = shlex.split(note.partition(", give ")[2])
    assert flag == ["--data", "my runs/pets"]
    assert run("train", "my runs/own.yaml", *flag, "--dry-run").code == 0


def test_images_of_other_classes_than_a_networks_are_refused(run: Run, train_once: Train) -> None:
    for level, name in enumerate(("a/1", "a/2", "b/1", "b/2")):
        write_picture(Path(f"mine/{name}.png"), make_square(level))
    train_once("--epochs", 1)
    ended = run("evaluate", "model.h5", "--data", "mine")
    assert ended.code == 2
    assert (
        "--data: its classes are a, b, those of model.h5 are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9."
        in ended.err
    )


WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def train_on_words(train_once: Train, name: str = "own.h5") -> Path:
    """Train on folders named zero to nine: their alphabetical order is that of the classes."""
    write_digits(Path("digits"), 200, seed=1)
    return train_once("--data", "digits", *FLAGS, name=name)


def change_record(path: Path, part: str, change: Callable[[Any], object]) -> None:
    """Change a part of a record, and seal the file again."""
    with h5py.File(path, "r+") as file:
        record = file["mnistcli"].attrs
        value = json.loads(record[part])
        record[part] = json.dumps(change(value) or value)
    seal(path)


def test_classes_are_matched_by_name_whatever_their_order(
    run: Run, train_once: Train, digits_directory: Path
) -> None:
    own = train_on_words(train_once)
    order = sorted(WORDS)
    with np.load(digits_directory / "mnist.npz") as arrays:
        images, labels = arrays["x_test"], arrays["y_test"]
    outputs = keras.models.load_model(own).predict(images.reshape(-1, 784) / 255, verbose=0)
    places = outputs.argmax(axis=1)
    accuracy = float(np.mean([WORDS.index(order[place]) for place in places] == labels))
    assert accuracy > np.mean(places == labels) + 0.05  # which it would be by position

    for words in (("--dataset", "mnist"), ("--data", digits_directory / "mnist.npz")):
        [result] = run("evaluate", own, *words, "--json").json["results"]
        assert result["accuracy"] == pytest.approx(accuracy)
        found = {row["label"]: row["support"] for row in result["per_class"]}
        assert list(found) == order
        assert found == {word: int((labels == digit).sum()) for digit, word in enumerate(WORDS)}

    predicted = run("predict", own, "--dataset", "mnist", "--first", 5, "--json").json
    truths = [row["truth"] for row in predicted["predictions"]]
    assert [order[place] for place in truths] == [WORDS[digit] for digit in labels[:5]]

    numbers = train_once("--epochs", 1, name="numbers.h5")
    compared = run("compare", own, numbers, "--dataset", "mnist", "--json").json
    assert [pair["count"] for pair in compared["pairs"]] == [200]
    assert compared["results"][0]["accuracy"] == pytest.approx(accuracy)

    [mine] = run("evaluate", numbers, "--data", "digits", "--json").json["results"]
    assert [row["label"] for row in mine["per_class"]] == list("0123456789")
    per_digit = {row["label"]: row["support"] for row in mine["per_class"]}
    assert per_digit == {
        str(digit): found_in_folder
        for digit, found_in_folder in enumerate(
            round(0.2 * len(list(Path("digits", word).iterdir()))) for word in WORDS
        )
    }


@pytest.mark.parametrize("names", [[str(k) for k in range(1, 11)], [f"class {k}" for k in WORDS]])
def test_classes_of_other_names_are_refused_with_both_lists(
    run: Run, train_once: Train, names: list[str]
) -> None:
    own = train_on_words(train_once)
    change_record(own, "class_names", lambda _: names)
    change_record(own, "config", lambda config: config["dataset"].update(classes=names))
    for words in (
        ("evaluate", own, "--dataset", "mnist"),
        ("predict", own, "--dataset", "mnist", "--first", 1),
        ("report", own, "--dataset", "mnist", "-o", "r.html"),
        ("plot", "confusion", own, "--dataset", "mnist", "-o", "c.svg"),
        ("compare", own, own, "--dataset", "mnist"),
    ):
        ended = run(*words)
        assert ended.code == 2, words
        assert (
            "--dataset: its classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, those of own.h5 are"
            f" {', '.join(names)}. "
        ) in ended.err


def test_a_recorded_size_that_is_not_the_networks_is_refused_before_an_image_is_read(
    run: Run, train_once: Train
) -> None:
    own = train_on_words(train_once)
    change_record(own, "config", lambda config: config["dataset"].update(size=[4096, 4096]))
    ended = run("evaluate", own)
    assert ended.code == 5
    assert "config.model: its network is not the one that its config describes" in ended.err


@pytest.mark.parametrize("is_alike", [False, True], ids=["other labels", "as many images"])
def test_a_record_opens_no_pictures_but_those_that_it_was_trained_on(
    run: Run, train_once: Train, tmp_path: Path, is_alike: bool
) -> None:
    own = train_on_words(train_once)
    Path("digits").rename("private")
    victims = sorted(Path("private").glob("*/*.png"))
    for path in victims:  # what is decoded of these is an error of its own
        path.write_bytes(path.read_bytes()[:70])
    if is_alike:
        shutil.rmtree("private")
        write_digits(Path("private"), 200, seed=1)
        for path in victims:
            write_picture(path, make_square(9, 28, 28))
    else:
        for path in victims[1:10]:  # of the first class, eight
            path.unlink()
    private = str(Path("private").absolute())
    change_record(own, "config", lambda config: config["dataset"].update(path=private))
    before = own.read_bytes()
    for words in (
        ("report", own, "-o", "r.html"),
        ("plot", "predictions", own, "-o", "p.svg"),
        ("predict", own, "--split", "test"),
        ("evaluate", own),
        ("compare", own, own),
        ("train", "--resume", own, "--more", 1),
    ):
        ended = run(*words)
        assert ended.code == 4, words
        assert f"{private}: not the images that the checkpoint recorded" in ended.err
    assert not {"r.html", "p.svg"} & {path.name for path in tmp_path.iterdir()}
    assert own.read_bytes() == before
    if is_alike:
        ended = run("evaluate", own, "--data", "private")
        assert ended.code == 0
        assert "not the data that own.h5 was trained on" in ended.err


def test_what_does_not_fit_into_memory_is_streamed_by_itself(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mnistcli.commands.train.prepare.read_available_memory", lambda: 1_400_000_000
    )
    ended = run("train", "--dataset", "cifar10")
    assert ended.code == 4  # the files are not here
    assert ended.err.startswith(
        "the training set does not fit into memory: it is streamed, to the same bits\n"
    )
    monkeypatch.setattr(
        "mnistcli.commands.train.prepare.read_available_memory", lambda: 900_000_000
    )
    assert run("train", "--dataset", "cifar10").code == 7
