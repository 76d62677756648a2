"""MNIST: 28 x 28 grey images of handwritten digits.

Source: Yann LeCun, Corinna Cortes, Christopher J. C. Burges, "The MNIST database of handwritten
digits", 1998, http://yann.lecun.com/exdb/mnist/; licence: CC BY-SA 3.0. 60000 training and 10000
test images; a pixel is 0 (background) to 255 (ink).

It is read from Keras' mnist.npz or from IDX files, plain or gzipped, as it was published. An IDX
file has two zero bytes, the type (8: unsigned byte), the number of axes, the size of each axis as a
big-endian 32-bit number, then the data in C order.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import (
    MAX_ARRAY_BYTES,
    Dataset,
    DatasetInfo,
    FileDataset,
    FileLocator,
    SplitName,
    check_file_size,
    hash_splits,
    is_file,
    make_damage_error,
    make_dataset,
    make_missing_file_error,
    make_other_data_error,
    make_split,
    translate_read_errors,
)
from mnistcli.datasets.download import RemoteFile
from mnistcli.datasets.npz import read_npz
from mnistcli.file_kinds import is_gzipped

INFO = DatasetInfo(
    name="mnist",
    title="MNIST",
    image_shape=(28, 28),
    class_names=tuple("0123456789"),
    train_count=60_000,
    test_count=10_000,
    image_kind="digit",
)

_NPZ_NAME = "mnist.npz"
IDX_FILES = "the four IDX files (train-images-idx3-ubyte, …)"

_IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}

# LeCun's files as they come, and torchvision's layout seen from its root and from within it.
_IDX_TYPES = {b"\x08": "bytes", b"\x09": "int8", b"\x0b": "int16", b"\x0c": "int32",
              b"\x0d": "float32", b"\x0e": "float64"}  # fmt: skip

_IDX_FOLDERS = (".", "MNIST/raw", "raw")

_ARRAY_SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}


def find_files(directory: Path) -> Path | None:
    """Return MNIST's place in a directory: `mnist.npz`, else a folder with any of the IDX files.

    Raises:
        DataError: the directory cannot be read.
    """
    if is_file(directory / _NPZ_NAME):
        return directory / _NPZ_NAME
    return find_idx_folder(directory, _IDX_FOLDERS)


def read_dataset(path: Path, splits: frozenset[SplitName]) -> Dataset:
    """Read splits of MNIST.

    Contents that are not the published ones, or another number of images, give a warning.

    Args:
        path: from `find_files`: an .npz file or a folder of IDX files.
        splits: the splits to read.

    Returns:
        uint8 images [count, 28, 28] and uint8 labels [count], 0 to 9, in file order.

    Raises:
        DataError: a file is missing, damaged or of another layout.
    """
    names = [f"{axis}_{split}" for split in sorted(splits) for axis in "xy"]
    arrays = read_npz(path, names) if is_file(path) else read_idx_files(path, names, INFO.title)
    read = {
        split: make_split(path, split, arrays[f"x_{split}"], arrays[f"y_{split}"], INFO)
        for split in sorted(splits, reverse=True)  # of two errors, the training set's
    }
    hashes = hash_splits(read)
    is_canonical = all(_ARRAY_SHA256[name] == hashes[name] for name in hashes)
    return make_dataset(INFO, read, hashes, str(path), is_canonical=is_canonical)


def find_idx_folder(directory: Path, folders: Sequence[str]) -> Path | None:
    """Return the first folder with any of MNIST's four IDX files, or None.

    Args:
        directory: where the folders are.
        folders: their names; `.` is the directory itself.

    Raises:
        DataError: a folder cannot be read.
    """
    for folder in folders:
        if any(_find_idx(directory / folder, array) for array in _IDX_NAMES):
            return directory / folder
    return None


def read_idx_files(folder: Path, names: Sequence[str], title: str) -> dict[str, NDArray[np.uint8]]:
    """Read arrays from the IDX files in a folder, all at the same time.

    Args:
        folder: where the files are, plain or gzipped.
        names: of the arrays, `x_train` for example.
        title: of the data set, for messages.

    Returns:
        The arrays by name, read-only.

    Raises:
        DataError: a file is missing, damaged or holds another array.
    """
    paths = [_find_idx(folder, name) for name in names]
    for name, path in zip(names, paths, strict=True):
        if path is None:
            raise make_missing_file_error(folder / _IDX_NAMES[name], title)
    # inflating releases the interpreter lock
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        axes = (3 if name[0] == "x" else 1 for name in names)
        return dict(zip(names, pool.map(read_idx, filter(None, paths), axes), strict=True))


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Args:
        path: the file, plain or gzipped.
        axes: the number of axes: 3 for images, 1 for labels.

    Returns:
        The array, read-only.

    Raises:
        DataError: the file holds another array, is too large, damaged or cannot be read.
    """
    check_file_size(path)
    damage = (gzip.BadGzipFile, zlib.error, EOFError, ValueError)
    with translate_read_errors(path, *damage), _open(path) as stream:
        shape = _read_shape(path, stream, axes)
        count = math.prod(shape)
        if count > MAX_ARRAY_BYTES:
            raise make_damage_error(path, f"claims {count} bytes, too many for a data set")
        contents = stream.read(count + 1)  # one more, to detect trailing bytes
        if len(contents) != count:
            has = "more" if len(contents) > count else str(len(contents))
            raise make_damage_error(path, f"claims {count} bytes of data and has {has}")
        return np.frombuffer(contents, dtype=np.uint8).reshape(shape)


def _find_idx(folder: Path, array: str) -> Path | None:
    """Return an array's file: LeCun's name, or with the dot of Kaggle's copies."""
    published = _IDX_NAMES[array]
    for name in (published, published.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            if is_file(path := folder / f"{name}{suffix}"):
                return path
    return None


def _open(path: Path) -> IO[bytes]:
    # both kinds of stream decompress no more than is read of them
    return gzip.open(path) if is_gzipped(path) else path.open("rb")  # type: ignore[return-value]


def _read_shape(path: Path, stream: IO[bytes], axes: int) -> tuple[int, ...]:
    header = stream.read(4 + 4 * axes)
    dtype = _IDX_TYPES.get(header[2:3], "") if header[:2] == b"\0\0" else ""
    if len(header) < 4 + 4 * axes or not dtype:
        raise make_damage_error(path, f"does not begin as an IDX file of bytes with {axes} axes")
    if header[2:4] != bytes((8, axes)):
        what = f"is an IDX file of {dtype} with {header[3]} axes, not of bytes with {axes}"
        raise make_other_data_error(path, what)
    return struct.unpack(f">{axes}I", header[4:])


SPEC = FileDataset(
    info=INFO,
    source=FileLocator(
        find=find_files,
        file_names=f"{_NPZ_NAME} or {IDX_FILES}",
        downloads=(
            RemoteFile(
                name=_NPZ_NAME,
                urls=(
                    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
                    "https://s3.amazonaws.com/img-datasets/mnist.npz",
                ),
                sha256="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
                max_bytes=16 * 2**20,
            ),
        ),
        alternative="use --dataset synthetic",
    ),
    read=read_dataset,
    array_sha256=_ARRAY_SHA256,
)
