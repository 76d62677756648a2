"""`mnistcli predict`: images from files, pipes and data sets; results as text, JSON and CSV."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import mnistcli
from conftest import Run, Train, make_digits, save_with_keras
from helpers.checkpoints import write_dense
from helpers.commands import run_python_command, start, write_command
from helpers.paper import SCENES, photograph
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.datasets.base import Split
from mnistcli.errors import DataError

GOOD = ("--epochs", 8, "--batch-size", 50, "--optimizer", "adam", "--learning-rate", 0.01)
KEYS = {
    "source", "row", "class", "label", "probability", "probabilities", "truth", "true_label",
    "preparation", "error",
}  # fmt: skip


@pytest.fixture(scope="module")
def test_split() -> Split:
    return make_digits(200, seed=2)


def compute_logits(model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The one layer by hand."""
    kernel, bias = read_checkpoint(model).weights
    inputs = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return np.asarray(inputs @ kernel + bias)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def test_the_json_holds_the_promised_keys_and_true_figures(
    run: Run, train_once: Train, test_split: Split
) -> None:
    model = train_once(*GOOD)
    answer = run("predict", model, "--split", "test", "--first", 20, "--json").json
    assert set(answer) == {"version", "predictions", "added_activation"}
    assert answer["version"] == 1
    rows = answer["predictions"]
    assert [set(row) for row in rows] == [KEYS] * 20

    expected = softmax(compute_logits(model, test_split.images[:20]))
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected, atol=1e-6)
    for number, row in enumerate(rows):
        assert row["class"] == int(expected[number].argmax())
        assert row["label"] == str(row["class"])
        assert row["probability"] == row["probabilities"][row["class"]]
        assert (row["source"], row["row"]) == ("mnist/test", number)
        assert row["truth"] == test_split.labels[number]
        assert row["true_label"] == str(row["truth"])


def assert_same_predictions(rows: Any, expected: Any) -> None:
    """Alike but for the last bits: how a matrix product is summed depends on its size."""
    for row, other in zip(rows, expected, strict=True):
        assert row["probabilities"] == pytest.approx(other["probabilities"], rel=1e-5)
        for key in KEYS - {"probability", "probabilities"}:
            assert row[key] == other[key]


def test_first_and_index_name_rows_of_the_split(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    every = run("predict", model, "--split", "test", "--json").json["predictions"]
    assert [row["row"] for row in every] == list(range(200))
    for flags, expected in (
        (("--first", 3), every[:3]),
        (("--first", 999), every),
        (("--index", 199), every[199:]),
        (("--split", "test", "--index", 0), every[:1]),
    ):
        answer = run("predict", model, *flags, "--json").json
        assert_same_predictions(answer["predictions"], expected)
    [first] = run("predict", model, "--split", "train", "--index", 0, "--json").json["predictions"]
    assert (first["source"], first["row"]) == ("mnist/train", 0)
    assert first["truth"] == make_digits(1050, seed=1).labels[0]


def test_people_see_which_are_wrong(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    rows = run("predict", model, "--first", 30, "--json").json["predictions"]
    lines = run("predict", model, "--first", 30).out.splitlines()
    right = sum(row["class"] == row["truth"] for row in rows)
    assert 0 < right < 30
    assert lines[-1] == f"{right} of 30 right"
    shown = [line.split() for line in lines if line.startswith(" mnist/test[")]
    assert shown == [
        [
            f"mnist/test[{row['row']}]",
            row["label"],
            f"{row['probability']:.4f}",
            str(row["truth"]),
            *(["wrong"] if row["class"] != row["truth"] else []),
        ]
        for row in rows
    ]


def test_jsonl_is_one_object_an_image_then_the_whole(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    whole = run("predict", model, "--first", 3, "--json").json
    lines = run("predict", model, "--first", 3, "--jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == [*whole["predictions"], whole]


def test_csv_has_a_header_and_a_column_a_class(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    rows = run("predict", model, "--first", 3, "--json").json["predictions"]
    header, *lines = csv.reader(run("predict", model, "--first", 3, "--csv").out.splitlines())
    assert header == [
        "source", "row", "class", "label", "probability", "truth", "true_label",
        "p_0", "p_1", "p_2", "p_3", "p_4", "p_5", "p_6", "p_7", "p_8", "p_9", "error",
    ]  # fmt: skip
    for line, row in zip(lines, rows, strict=True):
        assert line[:4] == ["mnist/test", str(row["row"]), str(row["class"]), row["label"]]
        assert [float(text) for text in line[7:-1]] == row["probabilities"]
        assert (float(line[4]), int(line[5])) == (row["probability"], row["truth"])
        assert line[6] == str(row["truth"])


def test_top_ranks_the_likeliest_classes(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    [row] = run("predict", model, "--index", 4, "--top", 3, "--json").json["predictions"]
    assert set(row) == {*KEYS, "top"}
    ranked = sorted(range(10), key=lambda k: -row["probabilities"][k])[:3]
    assert row["top"] == [
        {"class": k, "label": str(k), "probability": row["probabilities"][k]} for k in ranked
    ]
    assert row["top"][0]["class"] == row["class"]
    [all_of_them] = run("predict", model, "--index", 4, "--top", 99, "--json").json["predictions"]
    assert len(all_of_them["top"]) == 10
    others = "  ".join(f"{k} {row['probabilities'][k]:.4f}" for k in ranked[1:])
    assert others in run("predict", model, "--index", 4, "--top", 3).out


@pytest.fixture
def pictures(tmp_path: Path, run: Run, test_split: Split) -> Path:
    """A folder with the first three test images, 2.png before 10.png, and a text beside them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, image in zip(("1.png", "2.png", "10.png"), test_split.images, strict=False):
        Image.fromarray(image).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return Path("pictures")


def test_files_and_folders_are_predicted_like_the_rows_they_hold(
    run: Run, train_once: Train, pictures: Path
) -> None:
    model = train_once(*GOOD)
    rows = run("predict", model, "--first", 3, "--json").json["predictions"]
    as_it_is = {
        "prepare": "auto", "picture": {"width": 28, "height": 28}, "ink": "light",
        "contrast": None, "page": None, "ground": None, "lines": None, "specks": None,
        "crop": None, "centre": None,
    }  # fmt: skip
    expected = [
        {
            **row,
            "source": f"pictures/{name}",
            "row": None,
            "truth": None,
            "true_label": None,
            "preparation": as_it_is,
        }
        for row, name in zip(rows, ("1.png", "2.png", "10.png"), strict=True)
    ]  # fmt: skip
    from_folder = run("predict", model, pictures, "--json")
    assert (from_folder.code, from_folder.err) == (0, "")
    assert_same_predictions(from_folder.json["predictions"], expected)
    names = ["pictures/10.png", "pictures/1.png"]
    answer = run("predict", model, *names, "--json").json["predictions"]
    assert_same_predictions(answer, [expected[2], expected[0]])
    table = run("predict", model, pictures).out
    assert "true class" not in table
    assert "right" not in table


def test_an_image_comes_through_a_pipe(spawn: Run, train_once: Train, pictures: Path) -> None:
    model = train_once(*GOOD)
    with (pictures / "2.png").open("rb") as image:
        ended = spawn("predict", model, "-", "pictures/2.png", "--json", stdin=image)
    piped, read = ended.json["predictions"]
    assert (ended.code, ended.err, piped["source"]) == (0, "", "stdin")
    assert_same_predictions([piped], [{**read, "source": "stdin"}])


def save_array(array: NDArray[Any], name: str = "rows.npy") -> Path:
    np.save(name, array)
    return Path(name)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows,
        lambda rows: rows.astype(np.int64),
        lambda rows: rows.astype(">u2"),
        lambda rows: rows.reshape(5, 28, 28, 1),
        lambda rows: rows.reshape(5, 784),
        np.asfortranarray,
    ],
)
def test_a_batch_in_an_array_is_predicted_like_the_rows_it_holds(
    run: Run, train_once: Train, test_split: Split, change: Any
) -> None:
    model = train_once(*GOOD)
    rows = run("predict", model, "--first", 5, "--json").json["predictions"]
    ended = run("predict", model, save_array(change(test_split.images[:5])), "--json")
    assert (ended.code, ended.err) == (0, "")
    expected = [{**row, "source": "rows.npy", "truth": None, "true_label": None} for row in rows]
    assert_same_predictions(ended.json["predictions"], expected)


def test_arrays_come_through_a_pipe_and_beside_pictures(
    spawn: Run, train_once: Train, pictures: Path, test_split: Split
) -> None:
    model = train_once(*GOOD)
    with save_array(test_split.images[:2]).open("rb") as array:
        ended = spawn("predict", model, "-", pictures / "1.png", "--csv", stdin=array)
    rows = list(csv.DictReader(ended.out.splitlines()))
    assert [(row["source"], row["row"]) for row in rows] == [
        ("stdin", "0"), ("stdin", "1"), ("pictures/1.png", ""),
    ]  # fmt: skip
    assert rows[0]["class"] == rows[2]["class"]
    with save_array(test_split.images[0]).open("rb") as array:
        ended = spawn("predict", model, "-", "--jsonl", stdin=array)
    assert (ended.code, json.loads(ended.out.splitlines()[0])["row"]) == (0, None)


@pytest.fixture
def mixed(pictures: Path, test_split: Split) -> list[str]:
    """Two good pictures, and between them one of each way in which a picture can be bad."""
    Image.fromarray(np.full((90, 90), 240, np.uint8)).save("blank.png")
    Path("cut.png").write_bytes((pictures / "1.png").read_bytes()[:100])
    Path("empty.png").touch()
    Path("vanished.png").symlink_to("nowhere.png")
    save_array(np.zeros((3, 5), np.uint8))
    names = ["blank.png", "cut.png", "empty.png", "vanished.png", "no-folder/", "rows.npy"]
    return [f"{pictures}/1.png", *names, f"{pictures}/2.png"]


REASONS = [
    None,
    "there is no digit on it",
    "the image is damaged or cut short",
    "the file is empty",
    "no such file or folder",
    "no such file or folder",
    "an array of shape (3, 5), where the network takes (28, 28) or a batch (N, 28, 28)",
    None,
]


def test_each_picture_has_an_answer_or_an_error(
    run: Run, train_once: Train, mixed: list[str]
) -> None:
    model = train_once(*GOOD)
    good = run("predict", model, mixed[0], mixed[-1], "--json").json["predictions"]
    ended = run("predict", model, *mixed, "--json")
    rows = ended.json["predictions"]
    assert ended.code == 4
    reasons = [row["error"] and row["error"]["message"] for row in rows]
    for reason, expected in zip(reasons, REASONS, strict=True):
        assert reason == expected or reason.startswith(expected)
    assert_same_predictions([rows[0], rows[-1]], good)
    for row in rows[1:-1]:
        assert {row[key] for key in KEYS - {"source", "error"}} == {None}
        assert (row["error"]["code"], row["error"]["kind"]) == (4, "data")
    assert ended.json["error"]["problems"][0]["where"] == "blank.png"
    assert len(ended.json["error"]["problems"]) == 6
    assert [line.split(": ")[:3] for line in ended.err.splitlines()] == [
        ["mnistcli", "error", row["error"]["where"]] for row in rows[1:-1]
    ]

    lines = run("predict", model, *mixed, "--jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == [*rows, ended.json]
    table = list(csv.DictReader(run("predict", model, *mixed, "--csv").out.splitlines()))
    assert [row["error"] or None for row in table] == reasons
    assert [row["label"] for row in table] == [row["label"] or "" for row in rows]
    assert table[1]["p_0"] == table[1]["probability"] == ""
    shown = run("predict", model, *mixed, "--top", 2)
    assert shown.code == 4
    assert re.search(r"blank\.png +- +- +there is no digit on it\n", shown.out)
    assert run("predict", model, "blank.png").out == ""


def test_results_come_as_they_are_made(
    environment: dict[str, str], train_once: Train, pictures: Path
) -> None:
    model = train_once(*GOOD)
    words = ["predict", model, pictures / "1.png", "-", "--jsonl"]
    ours, theirs = os.pipe()
    with start(write_command(*words), environment, stdin=ours) as process:
        os.close(ours)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["source"] == "pictures/1.png"
        os.write(theirs, (pictures / "2.png").read_bytes())  # it waits for this
        os.close(theirs)
        rest = process.stdout.read().splitlines()
        assert process.wait() == 0
    assert [json.loads(line).get("source") for line in rest] == ["stdin", None]


def test_python_is_told_of_the_first_bad_picture(train_once: Train, mixed: list[str]) -> None:
    model = mnistcli.load(train_once(*GOOD))
    with pytest.raises(DataError, match=r"blank\.png: there is no digit on it"):
        model.predict(mixed)
    assert len(model.predict([mixed[0], mixed[-1]]).classes) == 2


def test_an_array_is_taken_as_it_is(run: Run, train_once: Train, test_split: Split) -> None:
    """Dark ink on paper is not inverted: arrays are used as they are."""
    model = train_once(*GOOD)
    paper = 255 - test_split.images[:1]
    ended = run("predict", model, save_array(paper), "--json")
    assert ended.err == ""
    [row] = ended.json["predictions"]
    expected = softmax(compute_logits(model, paper))[0]
    np.testing.assert_allclose(row["probabilities"], expected, atol=1e-6)


def test_an_array_can_hold_the_numbers_of_xor(run: Run) -> None:
    assert run("train", "xor", "--epochs", 1, "-q", "-o", "xor.h5").code == 0
    rows = run("predict", "xor.h5", "--split", "test", "--json").json["predictions"]
    array = save_array(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    expected = [{**row, "source": "rows.npy", "truth": None, "true_label": None} for row in rows]
    assert_same_predictions(run("predict", "xor.h5", array, "--json").json["predictions"], expected)


class Evil:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


SHAPES = "where the network takes (28, 28) or a batch (N, 28, 28)"
BYTES = "not whole numbers from 0 to 255"
HUGE = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 28, 28), }"
MANY_AXES = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {(1,) * 72}, }}".encode()
SENSELESS = "the array has a header that cannot be understood"
V1 = b"\x93NUMPY\x01\x00"


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.zeros((28, 28), "f4"), f"the array holds float32 from 0 to 0, {BYTES}"),
        (np.full((28, 28), 256), f"the array holds int64 from 256 to 256, {BYTES}"),
        (np.full((28, 28), np.nan), f"the array holds float64 from nan to nan, {BYTES}"),
        (np.full((28, 28), "0"), "the array holds texts, not numbers"),
        (np.zeros([1] * 64, "u1"), "the array has 64 axes"),
        (np.zeros((30, 40), "u1"), f"an array of shape (30, 40), {SHAPES}"),
        (np.zeros((2, 28, 28, 3), "u1"), f"an array of shape (2, 28, 28, 3), {SHAPES}"),
        (np.zeros((), "u1"), f"an array of shape (), {SHAPES}"),
        (np.zeros((0, 28, 28), "u1"), "the array of shape (0, 28, 28) holds no images"),
        (np.array([Evil()], object), "the array holds Python objects, which are never unpickled"),
        (
            np.zeros(3, "u1,u1"),
            "the array has dtype [('f0', '|u1'), ('f1', '|u1')], which is not read",
        ),
    ],
)
def test_an_array_that_is_none_of_images_is_refused_in_one_line(
    run: Run, train_once: Train, array: NDArray[Any], what: str
) -> None:
    ended = run("predict", train_once("--epochs", 1), save_array(array))
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith(f"mnistcli: error: rows.npy: {what}. ")
    assert ended.err.count("\n") == 1
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x93NUMPY", "the array does not begin as a NumPy array"),
        (b"\x93NUMPY\x09\x00\x10\x00", "the array does not begin as a NumPy array"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "the array has a header of 4294967295 bytes"),
        (V1 + b"\x10\x00" + b"(" * 16, SENSELESS),
        (V1 + b"\x10\x00__import__('os')", SENSELESS),
        (
            V1 + len(HUGE).to_bytes(2, "little") + HUGE,
            "the array's header announces 78399999999216 bytes, 0 follow",
        ),
        (V1 + len(MANY_AXES).to_bytes(2, "little") + MANY_AXES + b"\0", "the array has 72 axes"),
    ],
)
def test_a_hostile_header_is_refused(
    spawn: Run, train_once: Train, tmp_path: Path, content: bytes, what: str
) -> None:
    model = train_once("--epochs", 1)
    (tmp_path / "evil").write_bytes(content)
    with (tmp_path / "evil").open("rb") as evil:
        ended = spawn("predict", model, "-", "--json", stdin=evil)
    assert ended.code == 4
    assert ended.err.count("\n") == 1
    assert ended.err.startswith(f"mnistcli: error: stdin: {what}. ")
    assert ended.json["error"]["message"] == what


COLOURS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("right", "array"),
    [
        (COLOURS[:, :8, :8], COLOURS[:, :8, :8].transpose(0, 3, 1, 2)),
        (COLOURS[0, :8, :8], COLOURS[0, :8, :8].transpose(2, 0, 1)),
        (COLOURS, COLOURS[np.newaxis]),
        (COLOURS, COLOURS.transpose(0, 3, 1, 2)),
        (COLOURS[0], COLOURS[0].transpose(2, 0, 1)),
        (COLOURS, COLOURS.transpose(1, 2, 3, 0)),
        (COLOURS, (COLOURS / 255).astype(np.float32)),
        (COLOURS // 255, COLOURS // 255 > 0),
        (COLOURS, COLOURS.astype(np.float64)),
        (COLOURS, COLOURS.astype(np.float32) / 127.5 - 1),
        (COLOURS, COLOURS.astype(np.uint16) * 257),
    ],
)
def test_the_command_that_an_error_suggests_mends_the_array(
    run: Run, tmp_path: Path, right: NDArray[Any], array: NDArray[Any]
) -> None:
    if right.max() <= 1:
        right = right * np.uint8(255)
    pixels = right[..., 0].size * 3 // (len(right) if right.ndim == 4 else 1)
    model = write_dense(tmp_path / "flat.h5", pixels, 10)  # which takes any order of the axes
    path = save_array(array, "my arrays.npy")
    ended = run("predict", model, path, "--json")
    assert ended.code == 4
    command = ended.json["error"]["hint"].partition("give that: ")[2]
    run_python_command(command)
    np.testing.assert_array_equal(np.load("my arrays-mended.npy"), right)
    assert run("predict", model, "my arrays-mended.npy", "--normalization", "unit").code == 0


def test_an_array_is_scaled_to_the_white_of_a_data_set(run: Run, tmp_path: Path) -> None:
    digits = (COLOURS[:, :8, :8, 0] % 17).astype(np.float32)
    model = write_dense(tmp_path / "flat.h5", 64, 10)
    for array in (digits, digits / 16):
        ended = run("predict", model, save_array(array), "--dataset", "digits", "--json")
        run_python_command(ended.json["error"]["hint"].partition("give that: ")[2])
        np.testing.assert_array_equal(np.load("rows-mended.npy"), digits)


def test_an_array_that_no_order_of_axes_mends_is_explained(run: Run, tmp_path: Path) -> None:
    model = write_dense(tmp_path / "flat.h5", 3072, 10)
    for shape in ((2, 32, 32), (3, 30, 30), (3, 3, 32, 32, 2)):
        ended = run("predict", model, save_array(np.zeros(shape, np.uint8)))
        assert ended.code == 4
        assert ended.err.endswith("Reshape it; a picture of another size can be sent as PNG\n")


def test_an_array_that_is_cut_short_or_followed_by_more_is_refused(
    run: Run, train_once: Train, test_split: Split
) -> None:
    model, path = train_once("--epochs", 1), save_array(test_split.images[:2])
    content = path.read_bytes()
    for changed, count in ((content[:-1], 1567), (content + content, 1568 + len(content))):
        path.write_bytes(changed)
        ended = run("predict", model, path)
        assert (ended.code, ended.out) == (4, "")
        assert f"the array's header announces 1568 bytes, {count} follow" in ended.err


def test_dark_ink_on_paper_is_inverted_and_said(
    run: Run, train_once: Train, pictures: Path, test_split: Split
) -> None:
    model = train_once(*GOOD)
    Image.fromarray(255 - test_split.images[0]).save("paper.png")
    ended = run("predict", model, "paper.png")
    assert ended.err == "paper.png: dark on light, inverted\n"
    [paper] = run("predict", model, "paper.png", "--json").json["predictions"]
    [screen] = run("predict", model, "pictures/1.png", "--json").json["predictions"]
    assert paper["probabilities"] == screen["probabilities"]


def save_photograph(digit: NDArray[np.uint8], kind: str, name: str, seed: int = 0) -> Path:
    Path(name).write_bytes(photograph(digit, SCENES[kind], np.random.default_rng(seed)))
    return Path(name)


def test_photographs_are_read_like_the_digits_that_were_photographed(
    spawn: Run, run: Run, train_once: Train, test_split: Split
) -> None:
    model = train_once(*GOOD)
    rows = run("predict", model, "--first", 3, "--json").json["predictions"]
    for number, kind in enumerate(("coloured ink", "squared paper", "chalk on a board")):
        save_photograph(test_split.images[number], kind, f"{number + 9}.jpg")
    ended = run("predict", model, "*.jpg")
    assert [line.split()[:2] for line in ended.out.splitlines() if ".jpg" in line] == [
        ["9.jpg", rows[0]["label"]], ["10.jpg", rows[1]["label"]], ["11.jpg", rows[2]["label"]],
    ]  # fmt: skip
    notes = ended.err.splitlines()
    assert notes[0].startswith("9.jpg: dark on light, inverted, digit found: ")
    assert re.match(r"10.jpg: dark on light, inverted, \d+ ruled lines removed, digit", notes[1])
    assert notes[2].startswith("11.jpg: digit found: ")
    with Path("9.jpg").open("rb") as image:
        [piped] = spawn("predict", model, "-", "--json", stdin=image).json["predictions"]
    assert piped["class"] == rows[0]["class"]
    assert piped["preparation"]["ink"] == "dark"


def test_how_a_picture_is_prepared_can_be_chosen(
    run: Run, train_once: Train, test_split: Split
) -> None:
    model = train_once(*GOOD)
    save_photograph(test_split.images[0], "squared paper", "x.jpg")

    def prepare(*flags: str) -> Any:
        answer = run("predict", model, "x.jpg", "--json", *flags).json
        return answer["predictions"][0]["preparation"]

    every = prepare()
    assert [key for key in every if every[key] is None] == ["page"]
    some = prepare("--skip", "lines,specks", "--skip", "centre")
    assert [key for key in some if some[key] is None] == ["page", "lines", "specks", "centre"]
    assert prepare("--ink", "dark") == every
    whole = prepare("--prepare", "resize")
    assert (whole["prepare"], whole["ink"], whole["crop"]) == ("resize", "dark", None)


def test_an_empty_page_is_no_digit(run: Run, train_once: Train, tmp_path: Path) -> None:
    model = train_once(*GOOD)
    blank = np.zeros((28, 28), np.uint8)
    save_photograph(blank, "ruled paper", "blank.jpg")
    ended = run("predict", model, "blank.jpg")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err == (
        "mnistcli: error: blank.jpg: there is no digit on it."
        " --prepare resize shows the network the whole picture\n"
    )
    assert run("predict", model, "blank.jpg", "--prepare", "resize").code == 0


def test_what_the_network_saw_is_drawn(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    page = np.full((300, 200), 230, np.uint8)
    page[50:250, 80:120] = 30  # a bar, four by twenty pixels of what the network sees
    Image.fromarray(page).save("bar.png")
    ended = run("predict", model, "bar.png", "--show")
    [row] = run("predict", model, "bar.png", "--json").json["predictions"]
    assert ended.err.splitlines() == [
        "bar.png: dark on light, inverted, digit found: 40 x 200 at (80, 50)",
        "drawn in plain characters: stdout is no terminal",
    ]
    heading, _, *drawing = ended.out.splitlines()[:18]
    assert heading == "what the network saw"
    assert drawing[:14] == [""] * 2 + [" " * 12 + "@" * 4] * 10 + [""] * 2
    caption = f"{row['label']} {row['probability']:.4f}"
    assert [line.strip() for line in drawing[14:]] == ["bar.png", caption]
    assert "class" in ended.out.splitlines()[20]
    rows = run("predict", model, "--first", 2, "--show").out.splitlines()
    assert [line.split() for line in rows if line.strip().startswith("test[")] == [
        ["test[0]", "test[1]"]
    ]


def test_a_single_sigmoid_unit_decides_at_one_half(run: Run) -> None:
    assert run("train", "xor", "--epochs", 30, "-q", "-o", "xor.h5").code == 0
    hidden_kernel, hidden_bias, kernel, bias = read_checkpoint(Path("xor.h5")).weights
    rows = run("predict", "xor.h5", "--split", "test", "--json").json["predictions"]
    assert [row["truth"] for row in rows] == [0, 1, 1, 0]
    for row, numbers in zip(rows, ([0, 0], [0, 1], [1, 0], [1, 1]), strict=True):
        hidden = np.maximum(np.array(numbers, np.float32) @ hidden_kernel + hidden_bias, 0)
        sigmoid = float((1 / (1 + np.exp(-(hidden @ kernel + bias))))[0])
        assert row["probabilities"] == pytest.approx([1 - sigmoid, sigmoid], abs=1e-6)
        assert row["class"] == int(sigmoid > 0.5)
        assert row["probability"] == max(row["probabilities"])

        text = ",".join(map(str, numbers))
        [typed] = run("predict", "xor.h5", "--input", text, "--json").json["predictions"]
        expected = {**row, "source": text, "row": None, "truth": None, "true_label": None}
        assert_same_predictions([typed], [expected])


def test_ten_sigmoid_outputs_give_their_raw_sigmoids(
    run: Run, train_once: Train, test_split: Split
) -> None:
    model = train_once(*GOOD, "--set", "model.output_activation=sigmoid")
    rows = run("predict", model, "--first", 20, "--json").json["predictions"]
    logits = compute_logits(model, test_split.images[:20])
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected, atol=1e-6)
    assert [row["class"] for row in rows] == logits.argmax(axis=1).tolist()
    assert any(abs(sum(row["probabilities"]) - 1) > 0.1 for row in rows)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            "", 2,
            "IMAGE: there is nothing to predict. Name image files, or give --split test --first 20",
        ),
        (
            "a.png --first 3", 2,
            "IMAGE and --split: they exclude each other. Give one of them",
        ),
        (
            "--split test --input 0,1", 2,
            "--split and --input: they exclude each other. Give one of them",
        ),
        (
            "--first 1 --index 1", 2,
            "--first and --index: they exclude each other. Give one of them",
        ),
        ("--index 200", 2, "--index: 200 is beyond the last of 200 images. Give 0 to 199"),
        ("--split tset", 2, "--split: unknown name 'tset'. Did you mean test?"),
        (
            "--first 1 --json --csv", 2,
            "--json, --jsonl, --csv: they exclude each other. Give one of them",
        ),
        (
            "--first 1 --csv --top 3", 2,
            "--top and --csv: CSV has a column for every class already. Give one of them",
        ),
        ("--input 0,x", 2, "--input: '0,x' is no list of whole numbers. Write 0,1"),
        (
            "--input 0,1", 2,
            "--input: the network takes 784 whole numbers from 0 to 255, received 0,1."
            " Separate them by commas",
        ),
        ("no.png --prepare scale", 2,
            "--prepare: unknown name 'scale'. Choose one of auto, resize, none"),
        ("no.png --ink grey", 2, "--ink: unknown name 'grey'. Choose one of auto, dark, light"),
        ("no.png --skip ground,line", 2, "--skip: unknown name 'line'. Did you mean lines?"),
        (
            "no.png --prepare none --skip lines", 2,
            "--skip: --prepare none takes no steps that could be left out."
            " Leave one of the two out",
        ),
        (
            "--first 1 --ink dark", 2,
            "--prepare, --skip, --ink: they prepare image files, there are none. Leave them out",
        ),
        (
            "--first 1 --show --csv", 2,
            "--show and --json, --jsonl, --csv: drawings are for people, not for scripts."
            " Give one of them",
        ),
        (
            "no.png", 4,
            "no.png: no such file or folder in HERE. Correct the path",
        ),
        (
            "empty", 4,
            "empty: the directory holds no images. Images are read from PNG, JPEG, GIF, BMP, TIFF,"
            " WEBP, PPM files",
        ),
        (
            "text.png", 4,
            "text.png: is a text file, not an image that can be read. Images are read from PNG,"
            " JPEG, GIF, BMP, TIFF, WEBP, PPM files",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_predicted(
    run: Run, train_once: Train, tmp_path: Path, words: str, code: int, message: str
) -> None:
    model = train_once("--epochs", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no image")
    ended = run("predict", model, *words.split())
    errors = [line for line in ended.err.splitlines() if "warning: " not in line]
    assert errors == [f"mnistcli: error: {message}".replace("HERE", str(tmp_path))]
    assert ended.code == code
    assert "json" in words or ended.out == ""


def test_pictures_are_no_input_for_xor(run: Run, pictures: Path) -> None:
    assert run("train", "xor", "--epochs", 1, "-q", "-o", "xor.h5").code == 0
    ended = run("predict", "xor.h5", pictures)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "mnistcli: error: IMAGE: xor takes 2 numbers, not images. Use --input 0,1\n"


def test_a_checkpoint_that_travelled_needs_its_data_only_for_splits(
    run: Run, train_once: Train, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train_once(*GOOD)
    shutil.move(model, pictures / "travelled.h5")
    monkeypatch.delenv("MNISTCLI_DATA_DIR")
    assert run("predict", pictures / "travelled.h5", pictures / "1.png").code == 0
    assert run("predict", pictures / "travelled.h5", "--first", 1).code == 4


def test_scores_are_shown_as_probabilities_by_every_command(run: Run, test_split: Split) -> None:
    pytest.importorskip("matplotlib")
    kernel = np.random.default_rng(0).normal(0, 0.5, (784, 10)).astype(np.float32)
    network = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, name="out")])
    network.set_weights([kernel, np.zeros(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("sgd", loss, metrics=["accuracy"])
    save_with_keras(network, Path("scores.h5"))
    words = ("scores.h5", "--dataset", "mnist", "--normalization", "unit")
    scores = network.predict(test_split.images.reshape(-1, 784) / np.float32(255), verbose=0)
    expected = softmax(scores)

    ended = run("predict", *words, "--split", "test", "--json")
    assert (
        "mnistcli: warning: scores.h5 does not end in probabilities: those shown are the softmax of"
        " its outputs\n"
    ) in ended.err
    rows = ended.json["predictions"]
    shown = np.array([row["probabilities"] for row in rows])
    np.testing.assert_allclose(shown, expected, atol=1e-4)
    assert [row["class"] for row in rows] == scores.argmax(axis=1).tolist()
    lines = run("predict", *words, "--split", "test", "--csv").out.splitlines()
    cells = np.array([line.split(",")[7:-1] for line in lines[1:]], float)
    np.testing.assert_array_equal(cells, shown)
    images = test_split.images
    assert np.array_equal(
        mnistcli.load("scores.h5", dataset="mnist", normalization="unit")
        .predict(images).probabilities, shown.astype(np.float32),
    )  # fmt: skip

    [evaluated] = run("evaluate", *words, "--json").json["results"]
    report = run("report", *words, "--json").json
    plot = run("plot", "calibration", *words, "--json").json
    assert run("plot", "predictions", *words, "-o", "p.png").code == 0
    answers = (ended.json, evaluated, report, plot)
    assert [answer["added_activation"] for answer in answers] == ["softmax"] * 4
    assert report["ece"] == plot["ece"] < 1
    assert evaluated["accuracy"] == np.mean(scores.argmax(axis=1) == test_split.labels)
