"""`mnistcli plot`: the files that it writes, its messages and its errors."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from PIL import Image

from conftest import Run, Train, save_with_keras

SETTINGS = ("--epochs", 3, "--validation", 0.2, "--batch-size", 50)
KINDS = ("curves", "confusion", "weights", "predictions", "mistakes", "calibration")


@pytest.fixture
def model(train_once: Train) -> Path:
    return train_once(*SETTINGS)


def test_every_kind_is_a_file_named_after_the_checkpoint(run: Run, model: Path) -> None:
    pytest.importorskip("matplotlib")
    for kind in KINDS:
        answer = run("plot", kind, model, "--json").json
        path = f"model-{kind}.png"
        facts = {key: answer[key] for key in ("version", "checkpoint", "kind", "path", "split")}
        split = None if kind in ("curves", "weights") else "test"
        assert facts == {
            "version": 1, "checkpoint": "model.h5", "kind": kind, "path": path, "split": split,
        }  # fmt: skip
        with Image.open(path) as image:
            assert (image.format, image.size) == ("PNG", (answer["width"], answer["height"]))
    assert 0 < answer["ece"] < 1
    assert sum(row["count"] for row in answer["bins"]) == 200


def test_a_file_is_replaced_only_when_told_to(run: Run, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ended = run("plot", "curves", model, "-o", "c.svg")
    assert (ended.code, ended.out, ended.err) == (0, "c.svg\n", "")
    before = (tmp_path / "c.svg").read_bytes()
    assert b">validation<" in before
    ended = run("plot", "weights", model, "-o", "c.svg")
    assert (ended.code, ended.out, ended.err) == (
        2,
        "",
        "mnistcli: error: --output: c.svg exists. Choose another name, or give --overwrite\n",
    )
    assert (tmp_path / "c.svg").read_bytes() == before
    assert run("plot", "weights", model, "-o", "c.svg", "--overwrite").code == 0
    assert (tmp_path / "c.svg").read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.svg", "model.h5"]


def test_without_matplotlib_files_cannot_be_drawn_but_screens_can(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = run("plot", "curves", model)
    assert (ended.code, ended.out, ended.err) == (
        7,
        "",
        "mnistcli: error: matplotlib: not installed. Install it: python -m pip install matplotlib;"
        " or give --show, which needs none\n",
    )
    for kind in KINDS:
        ended = run("plot", kind, model, "--show")
        assert ended.code == 0
        assert ended.err.endswith("drawn in plain characters: stdout is no terminal\n")
        assert ended.out.startswith("model.h5: ")


def test_curves_and_weights_take_nothing_but_the_checkpoint(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNISTCLI_DATA_DIR")
    assert run("plot", "curves", model, "--show").code == 0
    assert run("plot", "weights", model, "--show").code == 0
    ended = run("plot", "confusion", model, "--show")
    assert (ended.code, ended.out) == (4, "")


def test_figures_are_those_of_evaluate(run: Run, model: Path) -> None:
    [result] = run("evaluate", model, "--split", "validation", "--json").json["results"]
    shown = run("plot", "confusion", model, "--split", "validation", "--show").out
    assert f"MNIST validation, 210 images: accuracy {result['accuracy']:.4f}" in shown
    rows = [line.split() for line in shown.splitlines()[4:14]]
    assert [[int(n.replace(".", "0")) for n in row[1:]] for row in rows] == result["confusion"]
    wrong = result["count"] - sum(result["confusion"][k][k] for k in range(10))
    worst = run("plot", "mistakes", model, "--split", "validation", "--first", 2, "--show").out
    assert f"; 2 of {wrong} mistakes" in worst
    assert worst.count("row ") == 2
    predictions = run("predict", model, "--split", "validation", "--json").json["predictions"]
    mistakes = [p for p in predictions if p["class"] != p["truth"]]
    surest = sorted(mistakes, key=lambda p: -p["probability"])[:2]
    assert re.findall(r"row (\d+)", worst) == [str(p["row"]) for p in surest]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["curve", "model.h5"], "KIND: unknown name 'curve'. Did you mean curves?"),
        (
            ["curves", "model.h5", "--split", "test"],
            "--split: it means nothing to curves. Leave it out",
        ),
        (
            ["confusion", "model.h5", "--first", "3"],
            "--first: it means nothing to confusion. Leave it out",
        ),
        (
            ["curves", "model.h5", "-o", "c.jpg"],
            "--output: c.jpg does not end in .png or .svg. Write -o c.png",
        ),
        (
            ["curves", "model.h5", "--show", "--json"],
            "--show and --json: both want stdout."
            " Give one of them; with --json a picture goes into a file",
        ),
        (
            ["weights", "model.h5", "--show", "--first", "1001"],
            "--first: 1001 images are more than one picture can hold. Give at most 1000",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    run: Run, model: Path, words: list[str], message: str
) -> None:
    ended = run("plot", *words)
    assert (ended.code, ended.err) == (2, f"mnistcli: error: {message}\n")


def save_network(*layers: keras.Layer) -> Path:
    return save_with_keras(keras.Sequential(list(layers)), Path("theirs.h5"))


def test_a_foreign_file_has_weights_but_no_history(run: Run) -> None:
    flatten, output = keras.layers.Flatten(), keras.layers.Dense(10, "softmax")
    theirs = save_network(keras.Input((28, 28, 1)), keras.layers.Conv2D(6, 5), flatten, output)
    shown = run("plot", "weights", theirs, "--show")
    assert (shown.code, "6 units" in shown.out) == (0, True)
    ended = run("plot", "curves", theirs, "--show")
    assert (ended.code, ended.err) == (
        2,
        "mnistcli: error: theirs.h5: it holds no history of its training."
        " Only files that mnistcli trained, unchanged since, have one\n",
    )


def test_numbers_have_tables_but_no_images(run: Run) -> None:
    theirs = save_network(
        keras.Input((2,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")
    )
    words = (theirs, "--dataset", "xor", "--show")
    assert "input 1" in run("plot", "weights", *words).out
    ended = run("plot", "predictions", *words)
    assert (ended.code, ended.out, ended.err) == (
        2,
        "",
        "mnistcli: error: predictions: XOR's inputs are 2 numbers, not images."
        " Choose a data set of images\n",
    )


def test_a_terminal_is_drawn_on_in_half_blocks(
    model: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mnistcli", "plot", "weights", str(model), "--show"]
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": ""}
    process = subprocess.Popen(
        command, stdout=theirs, stderr=subprocess.PIPE, cwd=tmp_path, env=environment | terminal
    )
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert "▀" in shown.decode()
    assert b"\x1b[38;2;" in shown


def _read(descriptor: int) -> bytes:
    """Reading from a terminal whose other side is closed is an error on Linux."""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""
