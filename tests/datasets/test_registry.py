"""From a data set's name to its data; when another data set replaces it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mnistcli.config.schema import CLASS_COUNTS, DatasetConfig, DatasetName
from mnistcli.datasets import cifar10, mnist
from mnistcli.datasets.download import RemoteFile
from mnistcli.datasets.registry import DataSearch, get_info, list_specs, load_dataset
from mnistcli.errors import DataError

BOTH = frozenset({"train", "test"})


def make_search(directory: Path, *, offline: bool = True) -> DataSearch:
    return DataSearch((directory,), directory, directory / "cache", offline)


def write_mnist(path: Path) -> None:
    images = np.zeros((2, 28, 28), dtype=np.uint8)
    labels = np.array([3, 4], dtype=np.uint8)
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)


@pytest.mark.parametrize(
    ("name", "title", "image_shape", "first_class", "counts"),
    [
        ("mnist", "MNIST", (28, 28), "0", (60000, 10000)),
        ("auto", "MNIST", (28, 28), "0", (60000, 10000)),
        ("cifar10", "CIFAR-10", (32, 32, 3), "airplane", (50000, 10000)),
        ("xor", "XOR", (2,), "0", (4, 4)),
    ],
)
def test_what_is_known_before_anything_is_read(
    name: DatasetName,
    title: str,
    image_shape: tuple[int, ...],
    first_class: str,
    counts: tuple[int, int],
) -> None:
    info = get_info(DatasetConfig(name=name))
    assert (info.title, info.image_shape, info.class_names[0]) == (title, image_shape, first_class)
    assert (info.train_count, info.test_count) == counts


def test_a_line_of_the_registry_agrees_with_its_module() -> None:
    infos = [spec.info for spec in list_specs()]
    assert {info.name: len(info.class_names) for info in infos} == CLASS_COUNTS


def test_synthetic_digits_fit_where_mnist_does() -> None:
    info = get_info(DatasetConfig(name="synthetic"))
    assert info.image_shape == get_info(DatasetConfig(name="mnist")).image_shape
    assert info.class_names == get_info(DatasetConfig(name="mnist")).class_names


def test_the_four_rows_of_xor_are_training_and_test_set(tmp_path: Path) -> None:
    dataset = load_dataset(DatasetConfig(name="xor"), BOTH, make_search(tmp_path))
    for split in (dataset.train, dataset.test):
        assert split.images.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
        assert split.labels.tolist() == [0, 1, 1, 0]
        assert split.images.dtype == split.labels.dtype == np.uint8
    assert dataset.warnings == ()
    assert dataset.identity.sha256 is not None


def test_mnist_is_mnist_or_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(DatasetConfig(name="mnist"), BOTH, make_search(tmp_path))
    assert str(caught.value) == (
        f"MNIST: not found in {tmp_path}, and MNISTCLI_OFFLINE forbids downloading. Name the folder"
        " of mnist.npz or the four IDX files (train-images-idx3-ubyte, …) with --data-dir, or unset"
        " MNISTCLI_OFFLINE to download it, or use --dataset synthetic"
    )


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_mnist_that_is_there_is_used(tmp_path: Path, name: str) -> None:
    write_mnist(tmp_path / "mnist.npz")
    dataset = load_dataset(DatasetConfig(name=name), BOTH, make_search(tmp_path))
    assert dataset.info.name == dataset.identity.name == "mnist"
    assert dataset.identity.location == f"{tmp_path}/mnist.npz"
    assert dataset.train.labels.tolist() == [3, 4]


def test_a_folder_that_was_passed_over_is_mentioned_first(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist.npz")
    search = replace(make_search(tmp_path), directories=(tmp_path / "misspelt", tmp_path))
    warnings = load_dataset(DatasetConfig(name="mnist"), BOTH, search).warnings
    assert warnings[0].startswith(f"{tmp_path}/misspelt is no folder")
    assert "is not canonical MNIST" in warnings[1]


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_a_damaged_mnist_is_an_error_under_auto_too(tmp_path: Path, name: str) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"\0damaged")
    with pytest.raises(DataError, match=r"mnist\.npz: is damaged"):
        load_dataset(DatasetConfig(name=name), BOTH, make_search(tmp_path))


def test_files_of_another_data_set_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "mnist.npz")
    search = make_search(tmp_path)
    arrays = load_dataset(DatasetConfig(name="mnist"), BOTH, search).identity.arrays

    def publish(**arrays: str) -> None:
        monkeypatch.setattr(cifar10, "SPEC", replace(cifar10.SPEC, array_sha256=arrays))

    publish(y_test=arrays["y_test"])
    with pytest.raises(DataError) as caught:
        load_dataset(DatasetConfig(name="mnist"), BOTH, search)
    assert str(caught.value) == (
        f"{tmp_path}/mnist.npz: these are CIFAR-10's files, not MNIST's. Name the folder of MNIST"
        " with --data-dir"
    )
    publish(y_test=arrays["y_test"], x_test="another")
    load_dataset(DatasetConfig(name="mnist"), BOTH, search)


def test_auto_takes_synthetic_digits_and_says_why(tmp_path: Path) -> None:
    dataset = load_dataset(DatasetConfig(name="auto"), frozenset({"test"}), make_search(tmp_path))
    assert dataset.info.name == dataset.identity.name == "synthetic"
    assert list(dataset.splits) == ["test"]
    assert dataset.warnings[0] == (
        "MNIST cannot be had, so synthetic digits are used in its place"
        f" (MNIST: not found in {tmp_path}, and MNISTCLI_OFFLINE forbids downloading)"
    )


@pytest.mark.parametrize("directory", ["missing/folder", "file/folder"])
def test_auto_takes_synthetic_digits_where_a_download_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    """The second folder cannot even be made."""
    (tmp_path / "file").write_bytes(b"")
    remote = RemoteFile("mnist.npz", ("http://127.0.0.1:1/mnist.npz",), "0" * 64, 1000)
    source = replace(mnist.SPEC.source, downloads=(remote,))
    monkeypatch.setattr(mnist, "SPEC", replace(mnist.SPEC, source=source))
    monkeypatch.setenv("no_proxy", "*")
    search = replace(
        make_search(tmp_path / directory, offline=False), cache_directory=tmp_path / "cache"
    )
    dataset = load_dataset(DatasetConfig(name="auto"), frozenset({"test"}), search)
    assert dataset.identity.name == "synthetic"
    assert dataset.warnings[0].startswith("MNIST cannot be had, so synthetic digits are used")
