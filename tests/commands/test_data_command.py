"""`mnistcli data`: counts, one image's numbers, pictures and the location of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Run, make_digits
from mnistcli.datasets.base import Split


@pytest.fixture(scope="module")
def test_split() -> Split:
    return make_digits(200, seed=2)


def test_a_data_set_is_described_as_it_lies_there(run: Run, digits_directory: Path) -> None:
    answer = run("data", "mnist", "--json").json
    assert [(a["name"], a["shape"], a["dtype"]) for a in answer["arrays"]] == [
        ("x_train", [1050, 28, 28], "uint8"),
        ("y_train", [1050], "uint8"),
        ("x_test", [200, 28, 28], "uint8"),
        ("y_test", [200], "uint8"),
    ]
    assert answer["balance"] == {"train": [105] * 10, "test": [20] * 10}
    assert answer["counts"] == {"train": 1050, "test": 200}
    assert answer["class_names"] == list("0123456789")
    assert (answer["location"], answer["known_as"]) == (str(digits_directory / "mnist.npz"), None)
    assert len(answer["sha256"]) == 64
    assert (answer["example"], answer["picture"]) == (None, None)

    ended = run("data", "mnist", "--split", "test")
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["y_test", "(200,)", "uint8", "0", "to", "9"] in lines
    assert ["3", "3", "20", "0.1000"] in lines
    assert "is not canonical MNIST" in ended.err


def test_one_image_is_drawn_and_told_in_numbers(run: Run, test_split: Split) -> None:
    label, pixels = int(test_split.labels[7]), test_split.images[7]
    ended = run("data", "mnist", "--index", 7, "--matrix", "raw")
    lines = ended.out.splitlines()
    one_hot = " ".join(str(int(k == label)) for k in range(10))
    assert lines[0] == "MNIST test: row 7"
    assert f"label    {label}" in lines
    assert f"one-hot  [{one_hot}]" in lines
    assert f"maximum  {pixels.max()}" in lines
    assert [list(map(int, line.split())) for line in lines[-28:]] == pixels.tolist()

    words = ("data", "mnist", "--index", 7, "--matrix", "normalized", "--json")
    example = run(*words).json["example"]
    assert (example["row"], example["class"], example["split"]) == (7, label, "test")
    assert np.array_equal(example["matrix"], pixels.astype(np.float32) / np.float32(255))
    assert (example["minimum"], example["maximum"]) == (0, pixels.max() / np.float32(255))
    standard = run(*words, "--normalization", "standard").json["example"]
    assert standard["minimum"] < 0 < standard["maximum"]


def test_images_go_into_a_grid_of_three_by_twelve(run: Run) -> None:
    pytest.importorskip("matplotlib")
    answer = run("data", "mnist", "--first", 36, "-o", "grid.png", "--json").json
    with Image.open("grid.png") as image:
        assert image.size == (answer["picture"]["width"], answer["picture"]["height"])
        pixels = np.asarray(image.convert("L"))
    for axis, count in ((0, 12), (1, 3)):
        is_ground = (pixels < 5).any(axis=axis)  # black is nowhere but in the images
        assert np.diff(is_ground, prepend=False, append=False).sum() == 2 * count
    shown = run("data", "mnist", "--first", 36, "--show")
    labels = [word for line in shown.out.splitlines() for word in line.split() if word.isdigit()]
    assert labels[-36:] == make_digits(200, seed=2).labels[:36].astype(str).tolist()


def test_numbers_are_told_without_a_picture(run: Run) -> None:
    ended = run("data", "xor", "--index", 2, "--matrix", "raw")
    assert ended.code == 0
    assert [line.split() for line in ended.out.splitlines()[2:4]] == [
        ["label", "1"], ["one-hot", "[0", "1]"]
    ]  # fmt: skip
    assert ended.out.splitlines()[-1].split() == ["1", "0"]


def test_fetching_says_where_the_files_are(run: Run, digits_directory: Path) -> None:
    path = digits_directory / "mnist.npz"
    ended = run("data", "mnist", "--fetch")
    assert (ended.code, ended.out) == (0, f"{path}\n")
    assert ended.err == (
        f"mnistcli: warning: {path} is not canonical MNIST: figures may differ from published"
        " ones\nit was there already\n"
    )
    assert run("data", "mnist", "--fetch", "--json").json == {
        "version": 1, "name": "mnist", "location": str(path), "downloaded": False,
    }  # fmt: skip
    assert run("data", "xor", "--fetch").err == "xor is built in: there is nothing to download\n"
    missing = run("data", "cifar10", "--fetch")
    assert missing.code == 4
    assert missing.err.startswith("mnistcli: error: CIFAR-10: not found in ")


def test_fetching_finds_damage_of_what_is_there(
    run: Run, tmp_path: Path, digits_directory: Path
) -> None:
    whole = (digits_directory / "mnist.npz").read_bytes()
    for contents in (whole[: len(whole) // 2], b"<html>403 Forbidden</html>"):
        (tmp_path / "mnist.npz").write_bytes(contents)
        ended = run("data", "mnist", "--data-dir", tmp_path, "--fetch")
        assert (ended.code, ended.out) == (4, "")
        assert ended.err.startswith(f"mnistcli: error: {tmp_path}/mnist.npz: ")


def test_a_data_dir_without_the_data_is_not_replaced_by_another_place(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    for words in (["data", "mnist"], ["train", "--epochs", "1"], ["data", "mnist", "--fetch"]):
        ended = run(*words, "--data-dir", "nothing")
        assert (ended.code, ended.out) == (4, "")
        assert "MNIST: not found in nothing, and MNISTCLI_OFFLINE forbids downloading" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["nothing"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mnits"], "NAME: unknown name 'mnits'. Did you mean mnist?"),
        (["mnist", "--first", "3"], "--first: the images need a place. Give -o FILE.png or --show"),
        (
            ["mnist", "--show"],
            "-o, --show: nothing says what to draw. Give --first 36 or --index 0",
        ),
        (
            ["mnist", "--index", "200"],
            "--index: 200 is beyond the last of 200 images. Give 0 to 199",
        ),
        (
            ["mnist", "--matrix", "raw"],
            "--matrix: it shows one image's numbers. Say which with --index",
        ),
        (
            ["mnist", "--index", "0", "--normalization", "unit"],
            "--normalization: nothing is normalized. Give it with --matrix normalized",
        ),
        (
            ["mnist", "--fetch", "--index", "0"],
            "--fetch and --index: they exclude each other. Give one of them",
        ),
        (
            ["xor", "--first", "2", "--show"],
            "--first: XOR's inputs are 2 numbers, not images. Choose a data set of images",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(run: Run, words: list[str], message: str) -> None:
    ended = run("data", *words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == f"mnistcli: error: {message}"
