"""Fashion-MNIST, whose files have the names of MNIST's."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import Run
from helpers.dataset_files import ARRAYS, IDX_NAMES, write_idx
from mnistcli.config.schema import DatasetConfig
from mnistcli.datasets import fashion_mnist, mnist, registry
from mnistcli.datasets.base import BOTH_SPLITS, FileDataset
from mnistcli.datasets.download import RemoteFile
from mnistcli.datasets.fashion_mnist import find_files, read_dataset
from mnistcli.datasets.registry import DataSearch, load_dataset
from mnistcli.errors import DataError

FASHION, MNIST = DatasetConfig(name="fashion_mnist"), DatasetConfig(name="mnist")


def make_search(directory: Path, *, offline: bool = True) -> DataSearch:
    return DataSearch((directory,), directory, directory / "cache", offline)


def hash_array(array: NDArray[np.uint8]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def publish(monkeypatch: pytest.MonkeyPatch, module: object, spec: FileDataset) -> None:
    """Make the arrays that tests write those that a data set's makers published."""
    sha256 = {name: hash_array(array) for name, array in ARRAYS.items()}
    monkeypatch.setattr(module, "SPEC", replace(spec, array_sha256=sha256))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("layout", ["fashion-mnist", "FashionMNIST/raw", "."])
def test_its_files_are_found_and_read(tmp_path: Path, layout: str, compressed: bool) -> None:
    write_idx(tmp_path / layout, compressed=compressed)
    assert find_files(tmp_path) == tmp_path / layout
    dataset = read_dataset(tmp_path / layout, BOTH_SPLITS)
    assert np.array_equal(dataset.train.images, ARRAYS["x_train"])
    assert np.array_equal(dataset.test.labels, ARRAYS["y_test"])
    assert dataset.info.class_names[9] == "Ankle boot"
    assert dataset.identity.known_as is None
    [warning] = dataset.warnings
    assert "is not canonical Fashion-MNIST: figures may differ" in warning


def test_keras_folder_comes_before_files_beside_it(tmp_path: Path) -> None:
    write_idx(tmp_path, compressed=False)
    write_idx(tmp_path / "fashion-mnist", compressed=True)
    assert find_files(tmp_path) == tmp_path / "fashion-mnist"


@pytest.mark.parametrize("compressed", [False, True])
def test_the_published_files_are_canonical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    plain = write_idx(tmp_path / "plain", compressed=False)
    published = {
        array: hashlib.sha256((plain / name).read_bytes()).hexdigest()
        for array, name in IDX_NAMES.items()
    }
    monkeypatch.setattr(fashion_mnist, "_IDX_SHA256", published)
    write_idx(tmp_path, compressed=compressed)
    for splits in (BOTH_SPLITS, frozenset({"test"})):
        dataset = read_dataset(tmp_path, splits)
        assert dataset.identity.known_as == "canonical Fashion-MNIST"
        assert dataset.warnings == ()
    monkeypatch.setitem(published, "x_test", "0" * 64)
    assert read_dataset(tmp_path, BOTH_SPLITS).identity.known_as is None


def test_mnists_files_are_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, compressed=True)
    publish(monkeypatch, mnist, mnist.SPEC)
    with pytest.raises(DataError) as caught:
        load_dataset(FASHION, BOTH_SPLITS, make_search(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: these are MNIST's files, not Fashion-MNIST's. Name the folder of"
        f" Fashion-MNIST with --data-dir, or put it into {tmp_path}/fashion-mnist"
    )


def test_its_files_are_not_taken_for_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, compressed=False)
    publish(monkeypatch, fashion_mnist, fashion_mnist.SPEC)
    with pytest.raises(DataError, match=r"these are Fashion-MNIST's files, not MNIST's\. Name the"):
        load_dataset(MNIST, frozenset({"test"}), make_search(tmp_path))


def test_the_real_mnist_is_not_taken_for_it(mnist_directory: Path, tmp_path: Path) -> None:
    with np.load(mnist_directory / "mnist.npz") as arrays:
        for name in ("x_test", "y_test"):
            header = bytes((0, 0, 8, arrays[name].ndim))
            sizes = b"".join(size.to_bytes(4, "big") for size in arrays[name].shape)
            contents = header + sizes + arrays[name].tobytes()
            (tmp_path / IDX_NAMES[name]).write_bytes(contents)
    with pytest.raises(DataError, match="these are MNIST's files, not Fashion-MNIST's"):
        load_dataset(FASHION, frozenset({"test"}), make_search(tmp_path))


def test_it_is_downloaded_into_keras_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four files, none of which is MNIST's though their names are."""
    write_idx(tmp_path / "publisher", compressed=True)
    fetched: list[RemoteFile] = []

    def download(remote: RemoteFile, folder: Path, *_: object) -> None:
        fetched.append(remote)
        folder.mkdir(exist_ok=True)
        (folder / remote.name).write_bytes((tmp_path / "publisher" / remote.name).read_bytes())

    monkeypatch.setattr(registry, "download_file", download)
    (tmp_path / "data").mkdir()
    search = make_search(tmp_path / "data", offline=False)
    dataset = load_dataset(FASHION, BOTH_SPLITS, search)
    assert dataset.identity.location == f"{tmp_path}/data/fashion-mnist"
    assert {remote.name for remote in fetched} == {f"{name}.gz" for name in IDX_NAMES.values()}
    for remote in fetched:
        assert all(url.endswith(f"/{remote.name}") for url in remote.urls)
        assert len(remote.sha256) == 64
    assert mnist.find_files(tmp_path / "data") is None


def test_doctor_does_not_take_mnists_files_for_damage(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path / "data", compressed=False)
    publish(monkeypatch, mnist, mnist.SPEC)
    ended = run("doctor", "--data-dir", "data", "--json")
    assert ended.code == 0, ended.err
    [row] = [row for row in ended.json["datasets"] if row["name"] == "fashion_mnist"]
    assert row["note"] == "not found: in data these are MNIST's files, not Fashion-MNIST's"


def test_a_network_of_clothes_looks_for_no_digit(run: Run, tmp_path: Path) -> None:
    write_idx(tmp_path / "data" / "fashion-mnist", compressed=True)
    words = ("--epochs", 1, "--batch-size", 3, "-o", "f.h5", "-q")
    ended = run("train", "--dataset", "fashion_mnist", "--data-dir", "data", *words)
    assert ended.code == 0, ended.err
    shoe = Image.new("L", (60, 40), 255)
    shoe.paste(100, (6, 10, 54, 30))
    shoe.save("shoe.png")
    [prediction] = run("predict", "f.h5", "shoe.png", "--json").json["predictions"]
    preparation = prediction["preparation"]
    assert (preparation["ink"], preparation["crop"], preparation["centre"]) == ("dark", None, None)
    assert prediction["label"] in fashion_mnist.INFO.class_names
    refused = run("predict", "f.h5", "shoe.png", "--skip", "crop")
    assert refused.code == 2
    assert "--skip: it is for digits, this network takes pictures of other things" in refused.err
