"""MNIST from .npz and IDX files, sound and damaged."""

from __future__ import annotations

import gzip
import hashlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.dataset_files import (
    ARRAYS,
    BOMB_BYTES,
    HUGE_HEADER,
    IDX_NAMES,
    claim_small_size,
    flip_a_byte_of_x_train,
    leave_out,
    npy,
    npy_header,
    replace_array,
    replace_member,
    shorten,
    write_idx,
    write_members,
    write_npz,
)  # fmt: skip
from mnistcli.datasets.mnist import find_files, read_dataset
from mnistcli.errors import DataError

BOTH = frozenset({"train", "test"})


def assert_holds_arrays(path: Path) -> None:
    dataset = read_dataset(path, BOTH)
    assert np.array_equal(dataset.train.images, ARRAYS["x_train"])
    assert np.array_equal(dataset.train.labels, ARRAYS["y_train"])
    assert np.array_equal(dataset.test.images, ARRAYS["x_test"])
    assert np.array_equal(dataset.test.labels, ARRAYS["y_test"])
    assert dataset.train.images.dtype == dataset.train.labels.dtype == np.uint8


def test_npz_is_found_and_read(tmp_path: Path) -> None:
    write_npz(tmp_path / "mnist.npz")
    assert find_files(tmp_path) == tmp_path / "mnist.npz"
    assert_holds_arrays(tmp_path / "mnist.npz")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize("layout", [".", "MNIST/raw", "raw"])
def test_idx_files_are_found_and_read(
    tmp_path: Path, layout: str, compressed: bool, dot: bool
) -> None:
    write_idx(tmp_path / layout, compressed=compressed, dot=dot)  # Kaggle's copies have the dot
    assert find_files(tmp_path) == tmp_path / layout
    assert_holds_arrays(tmp_path / layout)


def test_what_an_idx_file_is_is_decided_by_its_contents(tmp_path: Path) -> None:
    write_idx(tmp_path, compressed=True)
    images, labels = (tmp_path / f"{IDX_NAMES[name]}.gz" for name in ("x_train", "y_test"))
    images.write_bytes(gzip.decompress(images.read_bytes()))  # as browsers do, and keep the name
    labels.rename(labels.with_suffix(""))
    assert_holds_arrays(tmp_path)


def test_a_folder_without_mnist_holds_none(tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").mkdir()
    assert find_files(tmp_path) is None
    assert find_files(tmp_path / "nowhere") is None


def test_identity_does_not_depend_on_the_container(tmp_path: Path) -> None:
    from_npz = read_dataset(write_npz(tmp_path / "mnist.npz"), BOTH).identity
    from_idx = read_dataset(write_idx(tmp_path / "idx", compressed=True), BOTH).identity
    hashes = [hashlib.sha256(ARRAYS[name].tobytes()).hexdigest() for name in IDX_NAMES]
    assert list(from_npz.arrays.values()) == hashes
    assert from_npz.sha256 == hashlib.sha256("".join(hashes).encode()).hexdigest()
    assert (from_idx.sha256, from_idx.arrays) == (from_npz.sha256, from_npz.arrays)


def test_unknown_contents_are_read_with_a_warning(tmp_path: Path) -> None:
    dataset = read_dataset(write_npz(tmp_path / "mnist.npz"), BOTH)
    assert dataset.identity.known_as is None
    assert dataset.warnings == (
        f"{tmp_path}/mnist.npz is not canonical MNIST: figures may differ from published ones",
    )


def test_only_the_split_asked_for_is_read(tmp_path: Path) -> None:
    path = write_members(
        tmp_path / "mnist.npz",
        x_train=b"damaged",
        x_test=npy(ARRAYS["x_test"]),
        y_test=npy(ARRAYS["y_test"]),
    )
    dataset = read_dataset(path, frozenset({"test"}))
    assert list(dataset.splits) == ["test"]
    assert dataset.identity.sha256 is None
    assert list(dataset.identity.arrays) == ["x_test", "y_test"]


@pytest.mark.parametrize("dtype", ["int64", ">i4", "uint16"])
def test_labels_of_any_integer_dtype_become_uint8(tmp_path: Path, dtype: str) -> None:
    write_npz(tmp_path / "mnist.npz", y_test=ARRAYS["y_test"].astype(dtype))
    assert_holds_arrays(tmp_path / "mnist.npz")


def test_fortran_order_and_headers_of_python_2_are_understood(tmp_path: Path) -> None:
    labels = npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (3L,), }") + b"\7\2\1"
    members = {name: npy(array) for name, array in ARRAYS.items()} | {"y_test": labels}
    members["x_test"] = npy(np.asfortranarray(ARRAYS["x_test"]))
    assert_holds_arrays(write_members(tmp_path / "mnist.npz", **members))


DAMAGED_NPZ = {
    "empty file": (lambda path: path.write_bytes(b""), "is damaged or incomplete"),
    "a text": (lambda path: path.write_text("damaged"), "is a text file"),
    "no zip": (lambda path: path.write_bytes(b"\1no zip"), "is damaged or incomplete"),
    "cut short": (shorten, "is damaged or incomplete"),
    "a flipped byte": (flip_a_byte_of_x_train, "is damaged or incomplete"),
    "larger than any data set": (
        lambda path: os.truncate(path, 10**9),
        "has 1000000000 bytes, more than the 536870912 allowed",
    ),
    "missing array": (leave_out("y_test"), "holds no array y_test"),
    "Python objects": (
        replace_array("x_test", np.array([None, "text"], dtype=object)),
        "x_test holds Python objects, which are never unpickled",
    ),
    "float images": (
        replace_array("x_train", (ARRAYS["x_train"] / 255).astype(np.float32)),
        "x_train has dtype float32, not uint8",
    ),
    "wide images": (
        replace_array("x_train", ARRAYS["x_train"].astype(np.int32)),
        "x_train has dtype int32, not uint8",
    ),
    "flat images": (
        replace_array("x_train", ARRAYS["x_train"].reshape(6, 784)),
        "x_train has shape (6, 784), not (count, 28, 28)",
    ),
    "one-hot labels": (
        replace_array("y_train", np.eye(10, dtype=np.uint8)[:6]),
        "y_train has shape (6, 10), not (count,)",
    ),
    "an impossible class": (
        replace_array("y_test", np.array([7, 10, 1])),
        "y_test holds the label 10; classes are 0 to 9",
    ),
    "a negative class": (
        replace_array("y_test", np.array([7, -1, 1])),
        "y_test holds the label -1; classes are 0 to 9",
    ),
    "too few labels": (
        replace_array("y_test", np.array([7, 1])),
        "x_test has 3 images, y_test 2 labels",
    ),
    "no images": (
        replace_array("x_test", np.empty((0, 28, 28), dtype=np.uint8)),
        "x_test is empty",
    ),
    "no labels": (replace_array("y_test", np.empty(0, dtype=np.uint8)), "y_test is empty"),
    "no NumPy array": (
        replace_member("x_train", b"GIF89a, or something else"),
        "x_train does not begin as a NumPy array",
    ),
    "a header that is code": (
        replace_member("x_train", npy_header("__import__('os').abort()")),
        "x_train has a header that cannot be understood",
    ),
    "an array larger than any": (
        replace_member("x_train", HUGE_HEADER),
        "x_train claims 7839999296 bytes, too many for a data set",
    ),
    "less data than claimed": (
        replace_member("x_train", npy(ARRAYS["x_train"])[:-1]),
        "x_train claims 4832 bytes and has 4831",
    ),
    "a member that lies about its size": (claim_small_size, "is damaged or incomplete"),
}


# Sound arrays that are not MNIST's: no copy of MNIST would help.
OTHER_ARRAYS = {
    "float images", "wide images", "flat images", "one-hot labels", "an impossible class",
    "a negative class",
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED_NPZ)
def test_a_damaged_npz_is_named_and_kept(tmp_path: Path, kind: str) -> None:
    damage, what = DAMAGED_NPZ[kind]
    path = write_npz(tmp_path / "mnist.npz")
    damage(path)
    before = path.stat()
    with pytest.raises(DataError) as caught:
        read_dataset(path, BOTH)
    assert caught.value.where == str(path)
    assert what in caught.value.what
    if kind in OTHER_ARRAYS:
        hint = f"to use these data as your own images, give --data {path}"
        assert caught.value.hint == hint
    else:
        assert caught.value.hint.startswith("replace it by a sound copy")
    assert "\n" not in str(caught.value)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("bomb", [claim_small_size, replace_member("x_train", bytes(BOMB_BYTES))])
def test_a_bomb_is_not_inflated(tmp_path: Path, bomb: Callable[[Path], None]) -> None:
    path = tmp_path / "mnist.npz"
    bomb(path)
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_dataset(path, BOTH)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10**7


TRAIN_IMAGES = "train-images-idx3-ubyte"
DAMAGED_IDX = {
    "cut short": (TRAIN_IMAGES, lambda data: data[:-10], "claims 4704 bytes of data and has 4694"),
    "too long": (TRAIN_IMAGES, lambda data: data + b"!", "claims 4704 bytes of data and has more"),
    "empty": (
        TRAIN_IMAGES,
        lambda data: data[:0],
        "does not begin as an IDX file of bytes with 3 axes",
    ),
    "other kind": (
        TRAIN_IMAGES,
        lambda data: b"\0\0\x0d\x03" + data[4:],
        "is an IDX file of float32 with 3 axes, not of bytes with 3",
    ),
    "labels as images": (
        TRAIN_IMAGES,
        lambda data: b"\0\0\x08\x01" + data[4:],
        "is an IDX file of bytes with 1 axes, not of bytes with 3",
    ),
    "unknown kind": (
        TRAIN_IMAGES,
        lambda data: b"\0\0\x07\x03" + data[4:],
        "does not begin as an IDX file of bytes with 3 axes",
    ),
    "a web page": (
        TRAIN_IMAGES + ".gz",
        lambda _: b"<html>403 Forbidden</html>",
        "is an HTML page",
    ),
    "not fetched": (
        TRAIN_IMAGES,
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "is a Git LFS pointer",
    ),
    "huge": (
        TRAIN_IMAGES,
        lambda data: data[:4] + b"\xff" * 12 + data[16:],
        "claims 79228162458924105385300197375 bytes, too many for a data set",
    ),
    "short gzip": (
        TRAIN_IMAGES + ".gz",
        lambda data: gzip.compress(data)[:-20],
        "is damaged or incomplete (",
    ),
    "bad checksum": (
        TRAIN_IMAGES + ".gz",
        lambda data: gzip.compress(data)[:-8] + bytes(8),
        "is damaged or incomplete (CRC check failed",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED_IDX)
def test_a_damaged_idx_file_is_named(tmp_path: Path, kind: str) -> None:
    name, damage, what = DAMAGED_IDX[kind]
    write_idx(tmp_path, compressed=False)
    contents = (tmp_path / TRAIN_IMAGES).read_bytes()
    (tmp_path / TRAIN_IMAGES).unlink()
    (tmp_path / name).write_bytes(damage(contents))
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path, BOTH)
    assert caught.value.where == str(tmp_path / name)
    assert what in caught.value.what


def test_an_idx_file_that_is_missing_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path, compressed=False)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte: is missing beside the other"):
        read_dataset(tmp_path, BOTH)
    assert len(read_dataset(tmp_path, frozenset({"test"})).test) == 3


def test_the_real_mnist_is_canonical_as_a_whole_and_in_part(mnist_directory: Path) -> None:
    path = find_files(mnist_directory)
    assert path is not None
    whole = read_dataset(path, BOTH)
    assert whole.identity.known_as == "canonical MNIST"
    assert whole.warnings == ()
    assert whole.train.images.shape == (60000, 28, 28)
    assert whole.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    part = read_dataset(path, frozenset({"test"}))
    assert part.identity.known_as == "canonical MNIST"
    assert part.identity.sha256 is None
