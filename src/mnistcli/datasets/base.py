"""The types of data sets, and what their readers share.

`FileDataset` and `BuiltInDataset` describe a data set before it is read: each data set's module has
one of them as its `SPEC`. `Dataset` holds the arrays once they are read. Also here: checks and
hashes of arrays, limits on the sizes of files and errors that name them, the validation split, and
the order of an epoch's images.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.download import RemoteFile
from mnistcli.datasets.memory_map import select_rows
from mnistcli.errors import DataError, ResourceError, escape_name, pluralize
from mnistcli.file_kinds import explain_wrong_kind, read_head
from mnistcli.images.options import ImageKind
from mnistcli.user_folders import find_cache

SplitName = Literal["train", "test"]
BOTH_SPLITS: frozenset[SplitName] = frozenset({"train", "test"})

WHITE = 255

ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")
"""The arrays of a data set, in the order in which `Identity.sha256` joins their hashes."""

MAX_ARRAY_BYTES = 256 * 2**20
"""The limit for one array after decompression: five times the largest that is published."""

MAX_FILE_BYTES = 512 * 2**20
"""The limit for one file or archive on disk."""

# How archives, IDX files and pickles of several protocols begin: what is damaged is still one.
_FORMATS = (b"PK", b"\x1f\x8b", b"\0\0", b"\x80", b"(")

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_MAX_REASON = 200  # characters: libraries quote whatever stands in a damaged file

# Keeps the draw of a validation split apart from the orders of epochs, which use [seed, epoch].
_VALIDATION_STREAM = 0x56414C


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set that are known before it is read.

    Attributes:
        name: the name in configs, `mnist` for example.
        title: the name in texts, `MNIST` for example.
        image_shape: shape of one image: (28, 28), (32, 32, 3), or (2,) for `xor`.
        class_names: the names of the classes, in class order.
        train_count: number of training images as published; 0 where they were not counted.
        test_count: number of test images, likewise.
        image_kind: what the images show.
        max_value: the value of white; `unit` normalization divides by it.
    """

    name: str
    title: str
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train_count: int
    test_count: int
    image_kind: ImageKind
    max_value: int = WHITE

    def to_uint8_range(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scale stored images for display, from 0 (black) to 255 (white)."""
        if self.max_value == WHITE:
            return images
        shares = np.minimum(images, self.max_value) / self.max_value
        return np.rint(shares * WHITE).astype(np.uint8)


@dataclass(frozen=True)
class Split:
    """Images and their classes, in the order of the file.

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
    """The identity of data: hashes of the arrays, whatever archive they came in.

    Attributes:
        name: the data set's name.
        sha256: over the hex digests of the four arrays; None where not all of them were read.
        arrays: the sha256 of each array's bytes in C order, by array name (`ARRAY_NAMES`); only of
            arrays that were read.
        known_as: "canonical MNIST" for example; None for other contents.
        location: the file or folder that was read, or how the data were made.
        held_out: the fraction of each class that was held out for testing where the files have no
            test set; 0 where they have one.
    """

    name: str
    sha256: str | None
    arrays: dict[str, str]
    known_as: str | None
    location: str
    held_out: float = 0.0


@dataclass(frozen=True)
class Dataset:
    """A data set that has been read.

    Attributes:
        info: the facts about it.
        identity: the identity of this copy.
        splits: the splits that were asked for.
        warnings: warnings about this copy, one line each.
        notes: further messages to the user, one line each.
    """

    info: DatasetInfo
    identity: Identity
    splits: dict[SplitName, Split]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> Split:
        """The training set; KeyError where it was not read."""
        return self.splits["train"]

    @property
    def test(self) -> Split:
        """The test set; KeyError where it was not read."""
        return self.splits["test"]


@dataclass(frozen=True)
class FileLocator:
    """How the files of a data set are found and downloaded.

    Attributes:
        find: returns the file or folder to read within a directory, or None; raises DataError
            where the directory cannot be read.
        file_names: what `find` looks for, a phrase for messages.
        downloads: the files to download where nothing is found.
        folder: the folder for several downloads, within the download directory; empty for a single
            file, which is put into the directory itself.
        alternative: what to do without these data, a phrase for hints; may be empty.
    """

    find: Callable[[Path], Path | None]
    file_names: str
    downloads: tuple[RemoteFile, ...]
    folder: str = ""
    alternative: str = ""


@dataclass(frozen=True)
class FileDataset:
    """A data set that is published as files.

    Attributes:
        info: the facts about it.
        source: how its files are found and downloaded.
        read: reads splits from a path that `source.find` returned or that was downloaded.
        array_sha256: the sha256 of the published arrays by name, as far as they are known; the
            files are recognised by them where another data set was asked for.
    """

    info: DatasetInfo
    source: FileLocator
    read: Callable[[Path, frozenset[SplitName]], Dataset]
    array_sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuiltInDataset:
    """A data set that is generated or comes with a package.

    Attributes:
        info: the facts about it.
        make: returns splits; may keep files in the cache directory, its second argument.
        package: the optional package that provides the images; empty for none.
    """

    info: DatasetInfo
    make: Callable[[frozenset[SplitName], Path], Dataset]
    package: str = ""


DatasetSpec = FileDataset | BuiltInDataset


class OtherDatasetError(DataError):
    """Files that were found belong to another data set than the one that was asked for."""


def match_classes(wanted: Sequence[str], found: Sequence[str]) -> tuple[int, ...] | None:
    """Find classes by their names; "zero" to "nine" are other names of "0" to "9".

    Args:
        wanted: names in class order.
        found: the same classes in another order, perhaps.

    Returns:
        For each class that was found its index among those wanted; None where they are not the
        same classes.
    """
    names, others = tuple(wanted), tuple(found)
    if set(names) != set(others):
        names, others = unify_class_names(wanted), unify_class_names(found)
    if sorted(names) != sorted(others) or len(set(names)) < len(names):
        return None
    return tuple(names.index(name) for name in others)


def unify_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return class names with digits in place of the words from "zero" to "nine"."""
    digits = {word: str(digit) for digit, word in enumerate(_DIGITS)}
    return tuple(digits.get(name.lower(), name) for name in names)


def shuffle_indices(seed: int, epoch: int, count: int) -> NDArray[np.int32]:
    """Return the order of the training images in an epoch (from 0): int32 [count]."""
    indices = np.random.default_rng([seed, epoch]).permutation(count)
    return indices.astype(np.int32)


def split_validation(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split a training set into training and validation set, stratified by class.

    Both parts keep the order of the file.

    Args:
        split: the whole training set.
        fraction: of each class for validation, in [0, 1); counts are rounded.
        seed: the run's.

    Raises:
        ResourceError: the images are in a memory-mapped file, and those of the parts cannot be
            written to another.
    """
    generator = np.random.default_rng([seed, 0, _VALIDATION_STREAM])
    held_out = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        rows = np.flatnonzero(split.labels == label)
        held_out[generator.permutation(rows)[: round(fraction * len(rows))]] = True
    return _select(split, ~held_out), _select(split, held_out)


def make_split(
    path: Path, name: SplitName, images: NDArray[Any], labels: NDArray[Any], info: DatasetInfo
) -> Split:
    """Validate arrays that were read, and convert the labels to uint8.

    Args:
        path: the file or folder that was read, for messages.
        name: of the split, for messages.
        images: expected to be uint8 [count, *info.image_shape].
        labels: expected to be integers [count], class indices.
        info: the facts about the data set.

    Raises:
        DataError: wrong dtype, shape or count, no images, or a label out of range.
    """
    _check_images(path, f"x_{name}", images, info)
    _check_labels(path, f"y_{name}", labels, info)
    if len(images) != len(labels):
        count = pluralize(len(images), "image")
        what = f"x_{name} has {count}, y_{name} {pluralize(len(labels), 'label')}"
        raise make_damage_error(path, what)
    return Split(images=images, labels=labels.astype(np.uint8, copy=False))


def make_dataset(
    info: DatasetInfo,
    splits: dict[SplitName, Split],
    arrays: dict[str, str],
    location: str,
    *,
    is_canonical: bool,
) -> Dataset:
    """Return a data set with its identity; contents that are not published get a warning.

    Args:
        info: the facts about the data set.
        splits: the splits that were read.
        arrays: their hashes, from `hash_splits`.
        location: the file or folder that was read.
        is_canonical: whether everything that was read is as published.
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


def hash_splits(splits: dict[SplitName, Split]) -> dict[str, str]:
    """Return the sha256 hex digest of each array's bytes in C order, by array name."""
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name, split in splits.items():
        arrays |= {f"x_{name}": split.images, f"y_{name}": split.labels}
    names = [name for name in ARRAY_NAMES if name in arrays]
    # hashlib releases the interpreter lock
    with ThreadPoolExecutor(max_workers=len(ARRAY_NAMES)) as pool:
        return dict(zip(names, pool.map(hash_array, (arrays[name] for name in names)), strict=True))


def join_hashes(arrays: dict[str, str]) -> str | None:
    """Return the sha256 hex digest over the four arrays' hex digests in the order of `ARRAY_NAMES`.

    Returns:
        The digest; None where one of the arrays was not read.
    """
    if any(name not in arrays for name in ARRAY_NAMES):
        return None
    return hashlib.sha256("".join(arrays[name] for name in ARRAY_NAMES).encode("ascii")).hexdigest()


def hash_array(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def make_damage_error(path: Path, what: str) -> DataError:
    """Return the error for a file with invalid contents.

    Args:
        path: the file, which is never deleted.
        what: what is wrong, a phrase without a full stop.
    """
    cure, head = "replace it by a sound copy", read_head(path)
    if not head.startswith(_FORMATS) and (kind := explain_wrong_kind(head, "data", str(path))):
        what = kind[0].partition(", not ")[0]
        if not kind[1].startswith("give "):  # what to give as your own images is no cure here
            cure = kind[1]
    return DataError(str(path), what, f"{cure}, or move it away to have the data downloaded again")


def make_other_data_error(path: Path, what: str) -> DataError:
    """Return the error for arrays that are sound, and not those of a published data set.

    Args:
        path: the file or folder.
        what: what is different, a phrase without a full stop.
    """
    is_archive = path.suffix == ".npz"
    given = (
        shlex.quote(str(path))
        if is_archive
        else ("FILE.npz, made by numpy.savez('FILE.npz', x_train=…, y_train=…, x_test=…, y_test=…)")
    )
    hint = f"to use these data as your own images, give --data {given}"
    return DataError(str(path), what, hint)


def make_missing_file_error(path: Path, title: str) -> DataError:
    """Return the error for a file that is missing where others of its data set are.

    Args:
        path: where it should be.
        title: of the data set.
    """
    return DataError(
        str(path),
        f"is missing beside the other files of {title}",
        "put it there, or move the others away to have the data downloaded again",
    )


def make_read_error(path: Path, error: OSError) -> DataError:
    """Return the error for a file or folder that cannot be read."""
    reason = error.strerror or str(error)
    return DataError(
        str(path),
        f"cannot be read: {reason}",
        "check the path and its permissions, or name another folder with --data-dir",
    )


@contextmanager
def translate_read_errors(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """Turn the exceptions of a decoder into errors that name the file.

    Args:
        path: the file being read.
        *damage: what the decoder raises on invalid bytes; may include kinds of OSError.

    Raises:
        DataError: the file is damaged, or the system cannot read it.
    """
    try:
        yield
    except damage as error:
        reason = (str(error) or type(error).__name__)[:_MAX_REASON]
        raise make_damage_error(path, f"is damaged or incomplete ({reason})") from error
    except OSError as error:
        raise make_read_error(path, error) from error


def check_file_size(path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
    """Check before opening that a path is a regular file of at most `max_bytes`.

    Raises:
        DataError: it is not, or cannot be looked at.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise make_read_error(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise make_damage_error(path, "is not a regular file")
    if status.st_size > max_bytes:
        raise make_damage_error(
            path, f"has {status.st_size} bytes, more than the {max_bytes} allowed"
        )


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`.

    Raises:
        DataError: the file is missing, unreadable or too large.
    """
    check_file_size(path, max_bytes)
    try:
        return path.read_bytes()
    except OSError as error:
        raise make_read_error(path, error) from error


def is_file(path: Path) -> bool:
    """Like `Path.is_file`, but DataError where that cannot be found out (permissions)."""
    return _exists(path, Path.is_file)


def is_folder(path: Path) -> bool:
    """Like `Path.is_dir`, but DataError where that cannot be found out (permissions)."""
    return _exists(path, Path.is_dir)


def _check_images(path: Path, name: str, images: NDArray[Any], info: DatasetInfo) -> None:
    # float images are refused: how they were scaled is not known
    if images.dtype != np.uint8:
        raise make_other_data_error(path, f"{name} has dtype {images.dtype}, not uint8")
    if images.shape[1:] != info.image_shape:
        expected = ", ".join(map(str, info.image_shape))
        what = f"{name} has shape {images.shape}, not (count, {expected})"
        raise make_other_data_error(path, what)
    if len(images) == 0:
        raise make_damage_error(path, f"{name} is empty")


def _check_labels(path: Path, name: str, labels: NDArray[Any], info: DatasetInfo) -> None:
    # any integer dtype: writers differ
    if labels.dtype.kind not in "iu":
        what = f"{name} has dtype {labels.dtype}, not an integer one"
        raise make_other_data_error(path, what)
    if labels.ndim != 1:
        raise make_other_data_error(path, f"{name} has shape {labels.shape}, not (count,)")
    if len(labels) == 0:
        raise make_damage_error(path, f"{name} is empty")
    last = len(info.class_names) - 1
    if labels.min() < 0 or labels.max() > last:
        wrong = labels[(labels < 0) | (labels > last)][0]
        what = f"{name} holds the label {wrong}; classes are 0 to {last}"
        raise make_other_data_error(path, what)


def _select(split: Split, chosen: NDArray[np.bool_]) -> Split:
    scratch = find_cache(os.environ)
    try:
        return Split(select_rows(split.images, chosen, scratch), split.labels[chosen])
    except OSError as error:
        reason = error.strerror or str(error)
        what = f"the images of a part cannot be written there: {reason}"
        hint = "name a folder of your own with room in XDG_CACHE_HOME"
        raise ResourceError(str(scratch), what, hint) from error


def _exists(path: Path, test: Callable[[Path], bool]) -> bool:
    # Python versions differ in which errors `is_file` and `is_dir` swallow
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise make_read_error(path, error) from error
    return test(path)
