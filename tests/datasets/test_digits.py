"""scikit-learn's digits: the test set, the range of pixels, and every command on them."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Run
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.datasets import digits
from mnistcli.datasets.base import Dataset
from mnistcli.models.input_scaling import Preprocessing

datasets = pytest.importorskip("sklearn.datasets")

BOTH = frozenset({"train", "test"})
MLP = ("--dataset", "digits", "--model", "mlp", "--hidden", 16, "--optimizer", "adam")
MISSING = (
    "mnistcli: error: scikit-learn: not installed."
    ' Install it: python -m pip install "mnistcli[sklearn]"\n'
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits.read_dataset(BOTH)


def to_uint8_range(images: np.ndarray) -> np.ndarray:
    """What pictures show: 16 is white."""
    return np.round(images * (255 / 16)).astype(np.uint8)


def test_every_image_is_in_one_split_a_fifth_of_each_class_in_the_test_set(
    dataset: Dataset,
) -> None:
    loaded = datasets.load_digits()
    assert (len(dataset.train), len(dataset.test)) == (1438, 359)
    assert np.bincount(dataset.test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    zeros = np.flatnonzero(loaded.target == 0)
    chosen = dataset.test.images[dataset.test.labels == 0]
    assert np.array_equal(chosen, loaded.images[zeros[2::5]])
    both = [(split.labels, split.images) for split in (dataset.train, dataset.test)]
    held = [bytes([k, *image.ravel()]) for part in both for k, image in zip(*part, strict=True)]
    original = zip(loaded.target, loaded.images.astype(np.uint8), strict=True)
    assert sorted(held) == sorted(bytes([k, *image.ravel()]) for k, image in original)


def test_the_package_brings_what_is_known_and_other_contents_are_said_to_be_others(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = dataset.identity
    assert (identity.known_as, dataset.warnings) == ("canonical scikit-learn digits", ())
    assert identity.sha256 == "58200ed1e838ebff67f778186b992c8615c3e8e6317e4851477de9c26bb1fd55"
    loaded = datasets.load_digits()
    loaded.images[7, 0, 0] += 1
    monkeypatch.setattr(datasets, "load_digits", lambda: loaded)
    changed = digits.read_dataset(BOTH)
    assert changed.identity.known_as is None
    assert changed.warnings[0].startswith("scikit-learn 1.")
    assert "is not canonical scikit-learn digits" in changed.warnings[0]
    assert digits.read_dataset(frozenset({"test"})).warnings == ()  # image 7 is a training image


def test_a_network_is_trained_and_used_on_digits(run: Run, dataset: Dataset) -> None:
    trained = run("train", *MLP, "--batch-size", 32, "--epochs", 20, "-o", "d.h5", "--json").json
    assert trained["test"]["accuracy"] > 0.85
    assert trained["dataset"] == {"name": "digits", "sha256": dataset.identity.sha256}
    record = read_checkpoint(Path("d.h5")).record
    assert record is not None
    assert record.preprocessing == Preprocessing(0.0, 16.0)

    [result] = run("evaluate", "d.h5", "--json").json["results"]
    assert (result["accuracy"], result["count"]) == (trained["test"]["accuracy"], 359)
    [row] = run("predict", "d.h5", "--split", "test", "--index", 5, "--json").json["predictions"]
    assert row["truth"] == dataset.test.labels[5]
    words = ("data", "digits", "--index", 5)
    example = run(*words, "--matrix", "normalized", "--json").json["example"]
    assert np.array_equal(example["matrix"], dataset.test.images[5] / np.float32(16))

    np.save("rows.npy", dataset.test.images[:9])
    again = run("predict", "d.h5", "rows.npy", "--json").json["predictions"]
    assert np.allclose(again[5]["probabilities"], row["probabilities"], rtol=0, atol=1e-6)
    np.save("rows.npy", to_uint8_range(dataset.test.images[:9]))
    assert run("predict", "d.h5", "rows.npy").err == (
        "mnistcli: error: rows.npy: the array holds numbers up to 255, those of digits end at 16."
        " Divide them as the data set's makers did\n"
    )


def test_pictures_show_16_as_white(run: Run, dataset: Dataset) -> None:
    assert run("train", *MLP, "--epochs", 1, "-o", "d.h5", "--tensorboard", "tb", "-q").code == 0
    assert run("report", "d.h5").code == 0
    page = Path("d-report.html").read_text(encoding="utf-8")
    shown = [
        (np.asarray(Image.open(io.BytesIO(base64.b64decode(image)))), int(row))
        for image, row in re.findall(r'base64,([^"]+)" alt="row (\d+):', page)
    ]
    assert len(shown) == 24
    for image, row in shown:
        assert np.array_equal(image, to_uint8_range(dataset.test.images[row]))

    for words in (
        ("data", "digits", "--index", 0),
        ("plot", "predictions", "d.h5", "--first", 1, "--show"),
        ("predict", "d.h5", "--split", "test", "--index", 0, "--show"),
    ):
        assert "  =%%*." in run(*words).out, words

    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("tb/d/test", size_guidance={"images": 0})
    events.Reload()
    [sheet] = events.Images("misclassified")
    with Image.open(io.BytesIO(sheet.encoded_image_string)) as picture:
        image = np.asarray(picture)[4:116, 4:116]
    assert image.min() == 0
    assert image.max() >= 240


def test_without_scikit_learn_the_command_that_installs_it_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for words in (("data", "digits"), ("data", "digits", "--fetch"), ("train", *MLP)):
        ended = run(*words)
        assert (ended.code, ended.out, ended.err.splitlines(keepends=True)[-1]) == (7, "", MISSING)
    ended = run("doctor")
    assert ended.code == 0
    assert "\ndigits         not found: scikit-learn is not installed\n" in ended.out


@pytest.mark.slow
def test_keras_on_its_way_in_does_not_hide_it(spawn: Run, environment: dict[str, str]) -> None:
    """Keras is kept from importing scikit-learn in the background, while the data are read."""
    ended = spawn("train", *MLP, "--epochs", 1, "-o", "d.h5", "-q")
    assert (ended.code, ended.out, ended.err) == (0, "d.h5\n", "")
