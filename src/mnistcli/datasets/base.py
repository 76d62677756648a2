"""Which data this is, whatever archive it came in: hashes of the arrays themselves.

The order in which an epoch takes the rows of its training set.

What a data set is, once it is in memory; and what is known of it before.

Arrays as they were read -> a split, or an error that says what is wrong with them.

Holds part of a training set out for validation: stratified, and the same for the same seed.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.download import damaged
from mnistcli.datasets.memory_map import select_rows
from mnistcli.errors import ResourceError, escape_name
from mnistcli.user_folders import find_cache


def draw_order(seed: int, number: int, count: int) -> NDArray[np.int32]:
    """Return the order of rows in the epoch `number` (from 0) of a run: int32 [count]."""
    order = np.random.default_rng([seed, number]).permutation(count)
    return order.astype(np.int32)


SplitName = Literal["train", "test"]

WHITE = 255


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set that hold wherever its files came from.

    Attributes:
        name: as in the config, `mnist` for example.
        title: as people write it, `MNIST` for example.
        image_shape: of one example: (28, 28), (32, 32, 3), or (2,) for `xor`.
        class_names: one label a class, in class order.
        train_count: number of training examples; 0 where none were counted.
        test_count: number of test examples, likewise.
        max_value: the largest that is stored, white; `unit` divides by it.
    """

    name: str
    title: str
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train_count: int
    test_count: int
    max_value: int = WHITE

    @property
    def is_binary(self) -> bool:
        """True where one output unit decides between two classes."""
        return len(self.class_names) == 2

    def brighten(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return stored images as they are drawn, from 0 (black) to 255 (white)."""
        if self.max_value == WHITE:
            return images
        shares = np.minimum(images, self.max_value) / self.max_value
        return np.rint(shares * WHITE).astype(np.uint8)


@dataclass(frozen=True)
class Split:
    """Examples and their classes, in the order of the file.

    Attributes:
        images: uint8 [count, *image_shape], values 0 to `DatasetInfo.max_value`.
        labels: uint8 [count], class indices.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Identity:
    """Which data this is, whatever archive it came in.

    Attributes:
        name: the data set's name.
        sha256: over the hex digests of the four named arrays; null where not all were read.
        arrays: array name (x_train, y_train, x_test, y_test) to the sha256 of its bytes
            in C order; only those that were read.
        known_as: "canonical MNIST" for example; null for contents that nobody has named.
        location: the file or folder that was read, or how it was made.
        held_out: the share of each class that was taken for testing where the files themselves
            do not say what is for testing; 0 where they do.
    """

    name: str
    sha256: str | None
    arrays: dict[str, str]
    known_as: str | None
    location: str
    held_out: float = 0.0


@dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes:
        info: what holds for every copy of it.
        identity: what holds for this copy.
        splits: those that were asked for.
        warnings: what the user should hear about this copy; one line each.
        notes: what is good to know and no reason to worry, likewise.
    """

    info: DatasetInfo
    identity: Identity
    splits: dict[SplitName, Split]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> Split:
        """The training set; KeyError where it was not asked for."""
        return self.splits["train"]

    @property
    def test(self) -> Split:
        """The test set; KeyError where it was not asked for."""
        return self.splits["test"]


def make_split(
    path: Path, name: SplitName, images: NDArray[Any], labels: NDArray[Any], info: DatasetInfo
) -> Split:
    """Check what a file held, and convert its labels.

    Args:
        path: the file or folder that was read, for messages.
        name: which of the splits it is, for messages.
        images: must be uint8 [count, *info.image_shape].
        labels: must be integers [count], each a class index.
        info: of the data set.

    Returns:
        The split, its labels as uint8.

    Raises:
        DataError: wrong dtype, shape or count, no images, or a label out of range.
    """
    _check_images(path, f"x_{name}", images, info)
    _check_labels(path, f"y_{name}", labels, info)
    if len(images) != len(labels):
        raise damaged(path, f"x_{name} has {len(images)} images, y_{name} {len(labels)} labels")
    return Split(images=images, labels=labels.astype(np.uint8, copy=False))


def _check_images(path: Path, name: str, images: NDArray[Any], info: DatasetInfo) -> None:
    """Pixels are taken as they are: a float image was scaled by someone, who knows how."""
    if images.dtype != np.uint8:
        raise damaged(path, f"{name} has dtype {images.dtype}, not uint8")
    if images.shape[1:] != info.image_shape:
        expected = ", ".join(map(str, info.image_shape))
        raise damaged(path, f"{name} has shape {images.shape}, not (count, {expected})")
    if len(images) == 0:
        raise damaged(path, f"{name} is empty")


def _check_labels(path: Path, name: str, labels: NDArray[Any], info: DatasetInfo) -> None:
    """Any integer dtype will do: writers differ, and class indices fit them all."""
    if labels.dtype.kind not in "iu":
        raise damaged(path, f"{name} has dtype {labels.dtype}, not an integer one")
    if labels.ndim != 1:
        raise damaged(path, f"{name} has shape {labels.shape}, not (count,)")
    if len(labels) == 0:
        raise damaged(path, f"{name} is empty")
    last = len(info.class_names) - 1
    if labels.min() < 0 or labels.max() > last:
        wrong = labels[(labels < 0) | (labels > last)][0]
        raise damaged(path, f"{name} holds the label {wrong}; classes are 0 to {last}")


_STREAM = 0x56414C  # keeps this draw apart from the orders of epochs, which use [seed, epoch]


def split_validation(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Return the training set without what is held out, and what is held out.

    Each class gives `fraction` of its examples, rounded; both parts keep the order of the file.

    Args:
        split: the whole training set.
        fraction: in [0, 1).
        seed: the run's.

    Raises:
        ResourceError: images that lie in a file are divided in a file, which cannot be written.
    """
    generator = np.random.default_rng([seed, 0, _STREAM])
    held_out = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        rows = np.flatnonzero(split.labels == label)
        held_out[generator.permutation(rows)[: round(fraction * len(rows))]] = True
    return _select(split, ~held_out), _select(split, held_out)


def _select(split: Split, chosen: NDArray[np.bool_]) -> Split:
    """Take some of the rows; ResourceError where those of a file cannot be written to another."""
    scratch = find_cache(os.environ)
    try:
        return Split(select_rows(split.images, chosen, scratch), split.labels[chosen])
    except OSError as error:
        reason = error.strerror or str(error)
        what = f"the images of a part cannot be written there: {reason}"
        hint = "name a folder with room in XDG_CACHE_HOME"
        raise ResourceError(str(scratch), what, hint) from error


ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")
"""The four named arrays, in the order in which `Identity.sha256` joins their hashes."""


def hash_splits(splits: dict[SplitName, Split]) -> dict[str, str]:
    """The sha256 hex digest of each array's bytes in C order, by array name.

    Arrays are hashed at the same time: hashlib lets go of the interpreter meanwhile.
    """
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name, split in splits.items():
        arrays |= {f"x_{name}": split.images, f"y_{name}": split.labels}
    names = [name for name in ARRAY_NAMES if name in arrays]
    with ThreadPoolExecutor(max_workers=len(ARRAY_NAMES)) as pool:
        return dict(zip(names, pool.map(hash_array, (arrays[name] for name in names)), strict=True))


def join_hashes(arrays: dict[str, str]) -> str | None:
    """The data set's own sha256: over the four hex digests, `ARRAY_NAMES` order, as ASCII.

    Returns:
        The hex digest; None where one of the four was not read.
    """
    if any(name not in arrays for name in ARRAY_NAMES):
        return None
    return hashlib.sha256("".join(arrays[name] for name in ARRAY_NAMES).encode("ascii")).hexdigest()


def make_dataset(
    info: DatasetInfo,
    splits: dict[SplitName, Split],
    arrays: dict[str, str],
    location: str,
    *,
    is_canonical: bool,
) -> Dataset:
    """Join what was read with what is known of it; unknown contents come with a warning.

    Args:
        info: of the data set.
        splits: those that were read.
        arrays: their hashes, from `hash_splits`.
        location: the file or folder that was read.
        is_canonical: True where everything that was read is as published.
    """
    identity = Identity(
        name=info.name,
        sha256=join_hashes(arrays),
        arrays=arrays,
        known_as=f"canonical {info.title}" if is_canonical else None,
        location=escape_name(location),
    )
    warning = f"{location} is not canonical {info.title}: figures may differ from published ones"
    return Dataset(info, identity, splits, warnings=() if is_canonical else (warning,))


def hash_array(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
