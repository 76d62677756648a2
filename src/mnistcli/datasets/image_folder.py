"""Data of one's own, by their config: what they are, and the data themselves.

Which pictures lie in a folder, of which class, and for which part of an experiment. The folder
may be anybody's: nothing is opened here, links lead at most two folders down, and numbers are
bounded.

A folder of pictures, a folder for each class, as a data set.
"""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.config.schema import MAX_LABELS, FilesConfig
from mnistcli.datasets.base import (
    BOTH_SPLITS,
    Dataset,
    DatasetInfo,
    Identity,
    Split,
    SplitName,
    hash_array,
    join_hashes,
)
from mnistcli.datasets.download import OnDownload
from mnistcli.datasets.memory_map import FoundRows, OnProgress, RowSource, load_rows
from mnistcli.datasets.npz import ImageArchive, open_archive
from mnistcli.errors import DataError, escape_name, make_printable
from mnistcli.images.decoding import FORMATS_HINT, IMAGE_NAME, decode_image, fit_image

MAX_PICTURES = 5_000_000
HELD_OUT = 0.2
LAYOUT_HINT = "make a folder for each class, below train and test or alone"
_MAX_NAME_LENGTH = 200
_SPLITS: tuple[SplitName, SplitName] = ("train", "test")


@dataclass(frozen=True)
class Picture:
    """A file that is named like an image.

    Attributes:
        path: where it is.
        label: its class, an index.
        size_bytes: of the file.
        changed_ns: when it was last written.
    """

    path: Path
    label: int
    size_bytes: int
    changed_ns: int


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder, by folder and name in alphabetical order.

    Attributes:
        class_names: in class order.
        pictures: of the splits that were asked for.
        held_out: the share of each class that was taken for testing; 0 where the folder says
            itself which pictures are for testing.
        notes: what the user should hear, a line each.
    """

    class_names: tuple[str, ...]
    pictures: dict[SplitName, tuple[Picture, ...]]
    held_out: float
    notes: tuple[str, ...]


def list_pictures(
    root: Path, classes: Sequence[str] | None, splits: frozenset[SplitName]
) -> Listing:
    """List a folder that has train/CLASS and test/CLASS, or only CLASS, with images in them.

    Args:
        root: the folder.
        classes: the names of all class folders, in class order; null: as they are found, in
            alphabetical order.
        splits: which parts are wanted.

    Raises:
        DataError: it has another layout, a class without pictures to learn from, or too many
            classes or pictures; or the system will not let us look.
    """
    folders, strays = _scan_folders(root)
    parts = {name: folders.pop(name) for name in _SPLITS if name in folders}
    if not parts:
        return _list_undivided(root, folders, strays, classes, splits)
    missing = next((name for name in _SPLITS if name not in parts), None)
    if missing is not None:
        what = f"it has a folder {next(iter(parts))} and none that is named {missing}"
        raise DataError(str(root), what, LAYOUT_HINT)
    notes = _note_left_out(root, [*folders, *strays], "neither train nor test")
    return _list_divided(parts, classes, splits, notes)


def _list_undivided(
    root: Path,
    folders: dict[str, Path],
    strays: list[str],
    classes: Sequence[str] | None,
    splits: frozenset[SplitName],
) -> Listing:
    """Hold a fifth of each class out for testing, chosen by the pictures' names alone."""
    names = _choose_classes(root, folders, classes)
    notes = _note_left_out(root, strays, "no folder of a class")
    found: dict[SplitName, list[Picture]] = {"train": [], "test": []}
    for folder in sorted(names):
        pictures, left_out = _scan_pictures(folders[folder], names.index(folder))
        if not pictures:
            raise _no_pictures(folders[folder])
        chosen = _hold_out([picture.path.name for picture in pictures])
        found["train"] += [p for p in pictures if p.path.name not in chosen]
        found["test"] += [p for p in pictures if p.path.name in chosen]
        notes += left_out
        _check_count(root, len(found["train"]) + len(found["test"]))
    if "train" in splits:
        notes += (
            f"{make_printable(str(root))} has no folders train and test: a fifth of each class,"
            f" chosen by file name, is held out for testing ({len(found['test']):,} images)",
        )
    notes += _note_untested(names, found["test"])
    pictures_of = {split: tuple(found[split]) for split in _SPLITS if split in splits}
    return Listing(names, pictures_of, HELD_OUT, notes)


def _list_divided(
    parts: dict[SplitName, Path],
    classes: Sequence[str] | None,
    splits: frozenset[SplitName],
    notes: tuple[str, ...],
) -> Listing:
    """Take what the folders train and test have; train's folders are the classes."""
    folders = {split: _scan_folders(parts[split]) for split in _SPLITS}
    names = _choose_classes(parts["train"], folders["train"][0], classes)
    unknown = next((name for name in folders["test"][0] if name not in names), None)
    if unknown is not None:
        where = str(folders["test"][0][unknown])
        raise DataError(where, f"{parts['train']} has no such class", "name both alike")
    pictures_of: dict[SplitName, tuple[Picture, ...]] = {}
    for split in (split for split in _SPLITS if split in splits):
        found: list[Picture] = []
        notes += _note_left_out(parts[split], folders[split][1], "no folder of a class")
        for name in sorted(folders[split][0]):
            pictures, left_out = _scan_pictures(folders[split][0][name], names.index(name))
            if not pictures and split == "train":
                raise _no_pictures(folders[split][0][name])
            found += pictures
            notes += left_out
            _check_count(parts[split], len(found))
        if split == "test":
            notes += _note_untested(names, found)
        if not found:
            raise _no_pictures(parts[split])
        pictures_of[split] = tuple(found)
    return Listing(names, pictures_of, 0.0, notes)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """Read a folder, without what is hidden, in alphabetical order."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise DataError(str(folder), what, "check the path and its permissions") from error
    return sorted(found, key=lambda entry: os.fsencode(entry.name))


def _scan_folders(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the folders in a folder, and the names of what else is there."""
    folders: dict[str, Path] = {}
    others: list[str] = []
    for entry in _scan(folder):
        if entry.is_dir():
            folders[entry.name] = Path(entry.path)
        else:
            others.append(entry.name)
    return folders, others


def _scan_pictures(folder: Path, label: int) -> tuple[list[Picture], tuple[str, ...]]:
    """Return the pictures in a class's folder, and a note on what is none."""
    pictures: list[Picture] = []
    others: list[str] = []
    for entry in _scan(folder):
        if entry.is_dir():
            hint = "put its images into the class's own folder, or move it away"
            raise DataError(entry.path, "a folder within the folder of a class", hint)
        if entry.is_file() and IMAGE_NAME.search(entry.name):
            status = entry.stat()
            found = Picture(Path(entry.path), label, status.st_size, status.st_mtime_ns)
            pictures.append(found)
        else:
            others.append(entry.name)
    return pictures, _note_left_out(folder, others, "not named like images")


def _choose_classes(
    root: Path, folders: dict[str, Path], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Put the folders into class order; DataError where they are not those that were named."""
    if not folders:
        raise DataError(str(root), "it holds no folders", LAYOUT_HINT)
    names = tuple(sorted(folders)) if classes is None else tuple(classes)
    for name, folder in folders.items():
        if not name.isprintable() or name != escape_name(name) or len(name) > _MAX_NAME_LENGTH:
            what = "the name is too long for a class, or cannot be printed"
            raise DataError(str(folder), what, "rename the folder")
        if name not in names:
            hint = "add it there, or move it away"
            raise DataError(str(folder), "dataset.classes does not name it", hint)
    absent = next((name for name in names if name not in folders), None)
    if absent is not None:
        what = f"it has no folder for the class {absent}"
        raise DataError(str(root), what, f"its folders are {', '.join(sorted(folders)[:10])}")
    if not 2 <= len(names) <= MAX_LABELS:
        what = f"{len(names)} classes, where 2 to {MAX_LABELS} can be told apart"
        raise DataError(str(root), what, LAYOUT_HINT)
    return names


def _hold_out(names: Sequence[str]) -> set[str]:
    """Choose a fifth of a class by its files' names, so that others coming or going move few."""
    count = max(1, round(HELD_OUT * len(names))) if len(names) > 1 else 0
    by_digest = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return set(by_digest[:count])


def _check_count(root: Path, count: int) -> None:
    """Bound what is kept of a folder."""
    if count > MAX_PICTURES:
        what = f"it holds more than {MAX_PICTURES:,} images"
        raise DataError(str(root), what, "put them into an .npz file")


def _no_pictures(folder: Path) -> DataError:
    """What is to be learned needs an example."""
    return DataError(str(folder), "the folder holds no images", FORMATS_HINT)


def _note_left_out(folder: Path, names: Sequence[str], why: str) -> tuple[str, ...]:
    """Say what is passed over, by one name."""
    if not names:
        return ()
    first = make_printable(str(folder / names[0]))
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (f"left out, being {why}: {first}{rest}",)


def _note_untested(names: Sequence[str], pictures: Sequence[Picture]) -> tuple[str, ...]:
    """Say which classes a test will say nothing about."""
    tested = {picture.label for picture in pictures}
    absent = [name for label, name in enumerate(names) if label not in tested]
    return (f"no test images of {', '.join(absent[:10])}",) if absent else ()


_FORMAT = 1  # of the rows; another one where pictures are brought to their size in another way
_CHUNK = 512  # pictures decoded at a time


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder, and what they are brought to.

    Attributes:
        path: the folder.
        listing: which pictures there are.
        image_shape: of one row.
        is_given: the shape was asked for; else it is the first picture's, and must be every one's.
    """

    path: Path
    listing: Listing
    image_shape: tuple[int, ...]
    is_given: bool

    @property
    def class_names(self) -> tuple[str, ...]:
        """In class order."""
        return self.listing.class_names

    @property
    def held_out(self) -> float:
        """The share of each class that was taken for testing."""
        return self.listing.held_out

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should hear."""
        return self.listing.notes

    def count(self, split: SplitName) -> int:
        """Count the pictures of a split; 0 where it was not asked for."""
        return len(self.listing.pictures.get(split, ()))

    def read_labels(self, split: SplitName) -> NDArray[np.uint8]:
        """Return the classes of the pictures, uint8 [count]."""
        return np.array([p.label for p in self.listing.pictures[split]], np.uint8)

    def read_rows(self, split: SplitName, cache: Path, on_progress: OnProgress) -> FoundRows:
        """Return the pictures as rows, decoded now or another time; see `load_rows`.

        Raises:
            DataError: a picture is damaged, or of another size where none was given.
            ResourceError: the cache cannot be written.
        """
        pictures = self.listing.pictures[split]
        shape = (len(pictures), *self.image_shape)
        same, fitted = (self._make_key(pictures, is_given=given) for given in (False, True))
        first = next(iter(self.listing.pictures.values()))[0]
        return load_rows(
            RowSource(
                (same, fitted) if self.is_given else (same,),
                shape,
                lambda: self._decode(pictures, first.path),
            ),
            cache,
            on_progress,
        )

    def _make_key(self, pictures: Sequence[Picture], *, is_given: bool) -> str:
        """Sum up what the rows depend on: the files as the folder lists them, shape, decoder.

        Rows of pictures that all had their shape before are good for runs that ask for it too.
        """
        about = (_FORMAT, version("pillow"), self.image_shape, is_given)
        digest = hashlib.sha256(repr(about).encode())
        for picture in pictures:
            stamp = f"\0{picture.size_bytes}\0{picture.changed_ns}\0"
            digest.update(os.fsencode(picture.path) + stamp.encode())
        return digest.hexdigest()[:32]

    def _decode(self, pictures: Sequence[Picture], first: Path) -> Iterator[NDArray[np.uint8]]:
        """Decode pictures side by side, in order."""

        def read(picture: Picture) -> NDArray[np.uint8]:
            pixels = decode_image(picture.path, str(picture.path))
            if not self.is_given and pixels.shape != self.image_shape:
                raise _refuse_other_size(picture.path, pixels.shape, first, self.image_shape)
            return fit_image(pixels, self.image_shape)

        with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
            # the decoder's own way to silence warnings restores what another thread has set
            for start in range(0, len(pictures), _CHUNK):
                yield np.stack(list(pool.map(read, pictures[start : start + _CHUNK])))


def open_folder(config: FilesConfig, path: Path, splits: frozenset[SplitName]) -> PictureFolder:
    """List a folder, and look at one picture where no size is given.

    Raises:
        DataError: see `list_pictures`; or that picture is damaged.
    """
    listing = list_pictures(path, config.classes, splits)
    if config.size is not None:
        return PictureFolder(path, listing, config.size, is_given=True)
    first = next(iter(listing.pictures.values()))[0].path
    return PictureFolder(path, listing, decode_image(first, str(first)).shape, is_given=False)


def _refuse_other_size(
    path: Path, shape: tuple[int, ...], first: Path, wanted: tuple[int, ...]
) -> DataError:
    """Name two pictures that differ, and the key that brings all to one size."""
    size = ", ".join(map(str, wanted))
    what = f"it is {_describe(shape)}, and {first} is {_describe(wanted)}"
    return DataError(str(path), what, f"bring all to one size: --set dataset.size=[{size}], say")


def _describe(shape: tuple[int, ...]) -> str:
    """Write a picture's shape for people, width first."""
    return f"{shape[1]} x {shape[0]} in {'colour' if len(shape) == 3 else 'grey'}"


ROWS_FOLDER = "rows"


def locate(config: FilesConfig) -> Path:
    """Return the folder or file that a config names, from the root on.

    Raises:
        DataError: it is not there.
    """
    path = Path(os.path.abspath(Path(config.path).expanduser()))  # noqa: PTH100 (links stay)
    where = config.path if Path(config.path).is_absolute() else f"{config.path} ({path})"
    if str(path) != escape_name(str(path)):
        raise DataError(where, "its name is no UTF-8 text", "rename it")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        what = "there is no such folder or file"
        raise DataError(where, what, "say where the data lie with --data PATH") from None
    except (OSError, ValueError) as error:
        raise DataError(where, f"cannot be read: {error}", "check its permissions") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise DataError(where, "neither a folder nor a file", "name another with --data PATH")
    return path


def get_info(config: FilesConfig) -> DatasetInfo:
    """Return what a folder's listing or a file's headers say, without reading what is in them.

    Raises:
        DataError: there are no such data, or they are not laid out as they have to be.
    """
    return _describe_classes(_open(config, locate(config), BOTH_SPLITS))


def recall_info(config: FilesConfig) -> DatasetInfo:
    """Return what a complete config says of its data, which may be gone; nothing is counted."""
    return DatasetInfo(
        name=config.name,
        title=_name(Path(config.path)),
        image_shape=config.size or (),
        class_names=config.classes or (),
        train_count=0,
        test_count=0,
        image_kind="custom",
    )


def read_dataset(
    config: FilesConfig,
    splits: frozenset[SplitName],
    cache_directory: Path,
    on_preparation: OnDownload,
) -> Dataset:
    """Return images of one's own: mapped from a file, so that they need not fit into memory.

    Args:
        config: says where they are.
        splits: which are wanted.
        cache_directory: rows that are decoded or unpacked are kept in a folder below it.
        on_preparation: hears of that: what it is, bytes so far, bytes in all.

    Raises:
        DataError: they are missing, damaged, or not laid out as they have to be.
        ResourceError: the cache cannot be written.
    """
    path = locate(config)
    source = _open(config, path, splits)
    info, notes = _describe_classes(source), list(source.notes)
    read: dict[SplitName, Split] = {}
    arrays: dict[str, str] = {}
    made_bytes, cache = 0, cache_directory / ROWS_FOLDER
    for name in sorted(splits, reverse=True):
        labels = source.read_labels(name)
        rows = source.read_rows(name, cache, partial(on_preparation, f"{info.title} {name}"))
        made_bytes += rows.images.nbytes if rows.is_new else 0
        read[name] = Split(rows.images, labels)
        arrays |= {f"x_{name}": rows.sha256, f"y_{name}": hash_array(labels)}
    if made_bytes:
        size = f"{made_bytes / 1e6:,.1f} MB"
        notes.append(f"what was decoded of {info.title} is kept ({size}) in {cache}")
    identity = Identity(
        name=info.name,
        sha256=join_hashes(arrays),
        arrays=arrays,
        known_as=f"{info.title} ({info.name})",
        location=str(path),
        held_out=source.held_out,
    )
    return Dataset(info, identity, read, notes=tuple(notes))


def resolve(config: FilesConfig, dataset: Dataset) -> FilesConfig:
    """Write down what was found, so that a run goes on with it from any folder."""
    found = {
        "path": dataset.identity.location,
        "size": dataset.info.image_shape,
        "classes": dataset.info.class_names,
    }
    return config.model_copy(update=found)


def _open(
    config: FilesConfig, path: Path, splits: frozenset[SplitName]
) -> PictureFolder | ImageArchive:
    """Look at a folder or a file."""
    return open_folder(config, path, splits) if path.is_dir() else open_archive(config, path)


def _describe_classes(source: PictureFolder | ImageArchive) -> DatasetInfo:
    """Return what is known before rows are read."""
    return DatasetInfo(
        name="files",
        title=_name(source.path),
        image_shape=source.image_shape,
        class_names=source.class_names,
        train_count=source.count("train"),
        test_count=source.count("test"),
        image_kind="custom",
    )


def _name(path: Path) -> str:
    """Call data as their folder or file is called."""
    return make_printable(path.stem if path.suffix == ".npz" else path.name) or str(path)
