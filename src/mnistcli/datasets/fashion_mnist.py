"""Fashion-MNIST: 28 x 28 grey images of ten kinds of clothes and shoes.

Source: Han Xiao, Kashif Rasul, Roland Vollgraf, "Fashion-MNIST: a Novel Image Dataset for
Benchmarking Machine Learning Algorithms", 2017, https://arxiv.org/abs/1708.07747,
https://github.com/zalandoresearch/fashion-mnist; licence: MIT. 60000 training and 10000 test
images; a pixel is 0 (background) to 255. The four IDX files have the names of MNIST's.
"""

from __future__ import annotations

import hashlib
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import (
    Dataset,
    DatasetInfo,
    FileDataset,
    FileLocator,
    SplitName,
    hash_splits,
    make_dataset,
    make_split,
)
from mnistcli.datasets.download import RemoteFile
from mnistcli.datasets.mnist import IDX_FILES, find_idx_folder, read_idx_files

INFO = DatasetInfo(
    name="fashion_mnist",
    title="Fashion-MNIST",
    image_shape=(28, 28),
    class_names=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    train_count=60_000,
    test_count=10_000,
    image_kind="picture",
)  # fmt: skip

_FOLDER = "fashion-mnist"  # where Keras keeps the files, within its own folder
# Keras' and torchvision's layout, the latter also seen from within; as published.
_FOLDERS = (_FOLDER, "FashionMNIST/raw", "raw", ".")

# The sha256 of the files as unpacked, which several projects state alike, next to those of MNIST's,
# which are right. Those of the labels were compared with the publisher's own files (md5
# 25c81989df183df01b3e8a0aad5dffbe and bb300cfdad3c16e7a12a480ee83cd310 in its README), those of the
# images could not be.
_IDX_SHA256 = {
    "x_train": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "y_train": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "x_test": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "y_test": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

# Of the labels alone, without the files' headers: computed from the publisher's own files.
_ARRAY_SHA256 = {
    "y_train": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    "y_test": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}

# Name, size in bytes and sha256 of the published files, as Keras (keras/src/datasets/
# fashion_mnist.py) and TensorFlow Datasets (url_checksums/fashion_mnist.txt) state them.
_PUBLISHED = (
    (
        "train-images-idx3-ubyte.gz",
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        4_422_102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        5_148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)
_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
)


def find_files(directory: Path) -> Path | None:
    """Return Fashion-MNIST's folder in a directory, or None.

    Raises:
        DataError: the directory cannot be read.
    """
    return find_idx_folder(directory, _FOLDERS)


def read_dataset(path: Path, splits: frozenset[SplitName]) -> Dataset:
    """Read splits of Fashion-MNIST; contents that are not the published ones give a warning.

    Args:
        path: from `find_files`, a folder of IDX files.
        splits: the splits to read.

    Returns:
        uint8 images [count, 28, 28] and uint8 labels [count], 0 to 9, in file order.

    Raises:
        DataError: a file is missing, damaged or of another layout.
    """
    names = [f"{axis}_{split}" for axis in "xy" for split in sorted(splits)]
    arrays = read_idx_files(path, names, INFO.title)
    read = {
        split: make_split(path, split, arrays[f"x_{split}"], arrays[f"y_{split}"], INFO)
        for split in sorted(splits, reverse=True)
    }
    with ThreadPoolExecutor() as pool:
        sha256 = dict(zip(names, pool.map(_hash_idx, map(arrays.__getitem__, names)), strict=True))
    is_canonical = all(sha256[name] == _IDX_SHA256[name] for name in names)
    return make_dataset(INFO, read, hash_splits(read), str(path), is_canonical=is_canonical)


def _hash_idx(array: NDArray[np.uint8]) -> str:
    """Return the sha256 of the unpacked IDX file that holds an array."""
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    digest = hashlib.sha256(header)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


SPEC = FileDataset(
    info=INFO,
    source=FileLocator(
        find=find_files,
        file_names=IDX_FILES,
        downloads=tuple(
            RemoteFile(name, tuple(f"{mirror}/{name}" for mirror in _MIRRORS), sha256, size)
            for name, size, sha256 in _PUBLISHED
        ),
        folder=_FOLDER,
    ),
    read=read_dataset,
    array_sha256=_ARRAY_SHA256,
)
