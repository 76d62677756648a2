"""MNIST: 28 x 28 grey images of handwritten digits.

Source: Yann LeCun, Corinna Cortes, Christopher J. C. Burges, "The MNIST database of handwritten
digits", 1998, http://yann.lecun.com/exdb/mnist/; licence: CC BY-SA 3.0. 60000 training and 10000
test images; a pixel is 0 (background) to 255 (ink).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mnistcli.datasets.base import Dataset, DatasetInfo, SplitName
from mnistcli.datasets.download import RemoteFile
from mnistcli.datasets.files import Source, is_file
from mnistcli.datasets.identity import hash_splits, make_dataset
from mnistcli.datasets.idx import read_idx
from mnistcli.datasets.npz import read_npz
from mnistcli.datasets.reading import incomplete
from mnistcli.datasets.splits import make_split

INFO = DatasetInfo(
    name="mnist",
    title="MNIST",
    image_shape=(28, 28),
    class_names=tuple("0123456789"),
    train_count=60_000,
    test_count=10_000,
)

_NPZ_NAME = "mnist.npz"

_IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}

_IDX_FOLDERS = (".", "MNIST/raw")  # LeCun's files as they come, and torchvision's layout

_CANONICAL_SHA256 = {
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}


def find_files(directory: Path) -> Path | None:
    """MNIST in one directory: `mnist.npz`, else a folder with any of the four IDX files.

    Raises:
        DataError: the system will not let us look.
    """
    if is_file(directory / _NPZ_NAME):
        return directory / _NPZ_NAME
    for folder in _IDX_FOLDERS:
        if any(_find_idx(directory / folder, array) for array in _IDX_NAMES):
            return directory / folder
    return None


SOURCE = Source(
    title=INFO.title,
    find=find_files,
    remote=RemoteFile(
        name=_NPZ_NAME,
        urls=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
            "https://s3.amazonaws.com/img-datasets/mnist.npz",
        ),
        sha256="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
        max_bytes=16 * 2**20,
    ),
    alternative="use --dataset synthetic",
)


def read_dataset(path: Path, splits: frozenset[SplitName]) -> Dataset:
    """Read the splits that are asked for, and nothing else.

    Another number of images than the published one is legal; like all contents that are not
    the published ones it comes with a warning.

    Args:
        path: what `find_files` returned: an .npz file or a folder of IDX files.
        splits: which to read.

    Returns:
        uint8 images [count, 28, 28] and uint8 labels [count], 0 to 9, in file order.

    Raises:
        DataError: a file is missing, damaged, or not MNIST's layout.
    """
    names = [f"{axis}_{split}" for split in sorted(splits) for axis in "xy"]
    arrays = read_npz(path, names) if is_file(path) else _read_idx_files(path, names)
    read = {
        split: make_split(path, split, arrays[f"x_{split}"], arrays[f"y_{split}"], INFO)
        for split in splits
    }
    hashes = hash_splits(read)
    is_canonical = all(_CANONICAL_SHA256[name] == hashes[name] for name in hashes)
    return make_dataset(INFO, read, hashes, str(path), is_canonical=is_canonical)


def _read_idx_files(folder: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    """Inflating lets go of the interpreter, so the files are read at the same time."""
    paths = [_find_idx(folder, name) for name in names]
    for name, path in zip(names, paths, strict=True):
        if path is None:
            raise incomplete(folder / _IDX_NAMES[name], INFO.title)
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        read = pool.map(
            read_idx, filter(None, paths), (3 if name[0] == "x" else 1 for name in names)
        )
        return dict(zip(names, read, strict=True))


def _find_idx(folder: Path, array: str) -> Path | None:
    """The file of one array, unpacked or not."""
    for suffix in ("", ".gz"):
        if is_file(path := folder / f"{_IDX_NAMES[array]}{suffix}"):
            return path
    return None
