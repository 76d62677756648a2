"""What a data set is: its facts and where it comes from, before it is read; then its arrays.

Every data set's module has a `SPEC`, which `mnistcli.datasets.registry` finds by the set's name.
Also here: what the readers of data files share (limits on sizes, errors that name the file), the
hashes that identify data, the validation split, and the order of an epoch's rows.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.download import RemoteFile
from mnistcli.datasets.memory_map import select_rows
from mnistcli.errors import DataError, ResourceError, escape_name
from mnistcli.images.options import ImageKind
from mnistcli.user_folders import find_cache

SplitName = Literal["train", "test"]
BOTH_SPLITS: frozenset[SplitName] = frozenset({"train", "test"})

WHITE = 255

ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")
"""The four named arrays, in the order in which `Identity.sha256` joins their hashes."""

MAX_ARRAY_BYTES = 256 * 2**20
"""What one array, inflated, may have: five times the largest that is published."""

MAX_FILE_BYTES = 512 * 2**20
"""What one file or archive may have on disk."""

_MAX_REASON = 200  # characters: libraries quote whatever stands in a damaged file

_STREAM = 0x56414C  # keeps the draw of a validation split apart from the orders of epochs


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
        image_kind: what the images show.
        max_value: the largest that is stored, white; `unit` divides by it.
    """

    name: str
    title: str
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train_count: int
    test_count: int
    image_kind: ImageKind
    max_value: int = WHITE

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


@dataclass(frozen=True)
class FileSource:
    """How the files of a data set are recognised, and where they were published.

    Attributes:
        find: the file or folder to read within one directory; None where it holds none. It may
            raise DataError where it cannot look.
        downloads: the files that are downloaded when nothing was found.
        folder: the folder within the download directory that several files go into; empty for
            one file, which lies in the directory itself.
        alternative: what to do without these data, a phrase for hints; may be empty.
    """

    find: Callable[[Path], Path | None]
    downloads: tuple[RemoteFile, ...]
    folder: str = ""
    alternative: str = ""


@dataclass(frozen=True)
class FileDataset:
    """A data set that is published as files.

    Attributes:
        info: the facts.
        source: where its files are.
        read: reads splits from what `source.find` returned, or from what was downloaded.
        array_sha256: the sha256 of the published arrays, as far as they are known. Other data
            sets' readers are told by them whose files they have read.
    """

    info: DatasetInfo
    source: FileSource
    read: Callable[[Path, frozenset[SplitName]], Dataset]
    array_sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuiltInDataset:
    """A data set that needs no files.

    Attributes:
        info: the facts.
        make: makes splits, perhaps with the help of the cache directory.
        package: the package that brings its images and has to be installed; empty for none.
    """

    info: DatasetInfo
    make: Callable[[frozenset[SplitName], Path], Dataset]
    package: str = ""


DatasetSpec = FileDataset | BuiltInDataset


class OtherDatasetError(DataError):
    """Files that were found are those of another data set than the one that was asked for."""


def draw_order(seed: int, number: int, count: int) -> NDArray[np.int32]:
    """Return the order of rows in the epoch `number` (from 0) of a run: int32 [count]."""
    order = np.random.default_rng([seed, number]).permutation(count)
    return order.astype(np.int32)


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


def hash_array(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def damaged(path: Path, what: str) -> DataError:
    """The error for a file whose contents are not what its name promises.

    Args:
        path: the file; it is named, never deleted.
        what: the mistake, a phrase without a full stop.
    """
    hint = "replace it by a sound copy, or move it away to have the data downloaded again"
    return DataError(str(path), what, hint)


def incomplete(path: Path, title: str) -> DataError:
    """The error for a file that is missing from a set of files that is there.

    Args:
        path: where it should be.
        title: the data set's.
    """
    return DataError(
        str(path),
        f"is missing beside the other files of {title}",
        "put it there, or move the others away to have the data downloaded again",
    )


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file or folder that the system will not let us read."""
    reason = error.strerror or str(error)
    return DataError(
        str(path),
        f"cannot be read: {reason}",
        "check the path and its permissions, or name another folder with --data-dir",
    )


@contextmanager
def reporting_damage(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """Turn what a decoder raises on broken bytes into the error that names the file.

    Args:
        path: the file being read.
        *damage: what the decoder raises; it may include kinds of OSError.

    Raises:
        DataError: the file is damaged, or the system cannot read it.
    """
    try:
        yield
    except damage as error:
        reason = (str(error) or type(error).__name__)[:_MAX_REASON]
        raise damaged(path, f"is damaged or incomplete ({reason})") from error
    except OSError as error:
        raise unreadable(path, error) from error


def check_file_size(path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
    """Refuse what is no regular file, or is larger than any data set, before it is opened.

    Raises:
        DataError: as said, or the system cannot tell.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise damaged(path, "is not a regular file")
    if status.st_size > max_bytes:
        raise damaged(path, f"has {status.st_size} bytes, more than the {max_bytes} allowed")


def read_file(path: Path, max_bytes: int) -> bytes:
    """All of a regular file that has at most `max_bytes`.

    Raises:
        DataError: the file is missing, unreadable or too large.
    """
    check_file_size(path, max_bytes)
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def is_file(path: Path) -> bool:
    """Like `Path.is_file`; but where the system will not tell, that is an error.

    Raises:
        DataError: no permission to look, for example.
    """
    return _exists(path, Path.is_file)


def is_folder(path: Path) -> bool:
    """Like `Path.is_dir`; but where the system will not tell, that is an error.

    Raises:
        DataError: no permission to look, for example.
    """
    return _exists(path, Path.is_dir)


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


def _exists(path: Path, test: Callable[[Path], bool]) -> bool:
    """Python versions differ in which errors `is_file` and `is_dir` swallow."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(path, error) from error
    return test(path)
