"""List the images in a folder with a folder for each class.

Listing opens no file, follows links at most two folders deep and is limited in numbers, since the
folder may come from anywhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnistcli.config.schema import MAX_LABELS
from mnistcli.datasets.base import SplitName
from mnistcli.errors import DataError, escape_name, make_printable
from mnistcli.images.decoding import FORMATS_HINT, IMAGE_NAME

MAX_IMAGES = 5_000_000
HELD_OUT = 0.2
LAYOUT_HINT = "make a folder for each class, below train and test or alone"
_MAX_NAME_LENGTH = 200
_SPLITS: tuple[SplitName, SplitName] = ("train", "test")


@dataclass(frozen=True)
class ImageFile:
    """A file with the name of an image.

    Attributes:
        path: of the file.
        label: index of its class.
        size_bytes: of the file.
        changed_ns: its modification time.
    """

    path: Path
    label: int
    size_bytes: int
    changed_ns: int


@dataclass(frozen=True)
class FolderListing:
    """The image files of a folder.

    Attributes:
        class_names: in class order.
        files: of the splits that were asked for, by folder and name in alphabetical order.
        held_out: the fraction of each class that was held out for testing; 0 where there is a
            folder for testing.
        notes: messages to the user, one line each.
    """

    class_names: tuple[str, ...]
    files: dict[SplitName, tuple[ImageFile, ...]]
    held_out: float
    notes: tuple[str, ...]


def list_image_files(
    root: Path, classes: Sequence[str] | None, splits: frozenset[SplitName]
) -> FolderListing:
    """List the images in the folders train/CLASS and test/CLASS, or CLASS alone.

    Args:
        root: the folder.
        classes: the names of the class folders, in class order; None: all that are found, in
            alphabetical order.
        splits: the splits to list.

    Raises:
        DataError: the folder has another layout, a class without training images, or too many
            classes or images; or it cannot be read.
    """
    folders, others_found = _scan_folders(root)
    parts = {name: folders.pop(name) for name in _SPLITS if name in folders}
    if not parts:
        return _list_undivided(root, folders, others_found, classes, splits)
    missing = next((name for name in _SPLITS if name not in parts), None)
    if missing is not None:
        what = f"it has a folder {next(iter(parts))} and none that is named {missing}"
        raise DataError(str(root), what, LAYOUT_HINT)
    notes = _note_skipped(root, [*folders, *others_found], "neither train nor test")
    return _list_divided(parts, classes, splits, notes)


def _list_undivided(
    root: Path,
    folders: dict[str, Path],
    others_found: list[str],
    classes: Sequence[str] | None,
    splits: frozenset[SplitName],
) -> FolderListing:
    """Hold out a fifth of each class for testing, chosen by the names of the files alone."""
    names = _choose_classes(root, folders, classes)
    notes = _note_skipped(root, others_found, "no folder of a class")
    found: dict[SplitName, list[ImageFile]] = {"train": [], "test": []}
    for folder in sorted(names):
        files, skipped = _scan_images(folders[folder], names.index(folder))
        if not files:
            raise _make_no_images_error(folders[folder])
        chosen = _choose_test_files([file.path.name for file in files])
        found["train"] += [p for p in files if p.path.name not in chosen]
        found["test"] += [p for p in files if p.path.name in chosen]
        notes += skipped
        _check_count(root, len(found["train"]) + len(found["test"]))
    if "train" in splits:
        notes += (
            f"{make_printable(str(root))} has no folders train and test: a fifth of each class,"
            f" chosen by file name, is held out for testing ({len(found['test']):,} images)",
        )
    notes += _note_untested(names, found["test"])
    pictures_of = {split: tuple(found[split]) for split in _SPLITS if split in splits}
    return FolderListing(names, pictures_of, HELD_OUT, notes)


def _list_divided(
    parts: dict[SplitName, Path],
    classes: Sequence[str] | None,
    splits: frozenset[SplitName],
    notes: tuple[str, ...],
) -> FolderListing:
    """List the folders train and test; the folders of train are the classes."""
    folders = {split: _scan_folders(parts[split]) for split in _SPLITS}
    names = _choose_classes(parts["train"], folders["train"][0], classes)
    unknown = next((name for name in folders["test"][0] if name not in names), None)
    if unknown is not None:
        where = str(folders["test"][0][unknown])
        raise DataError(where, f"{parts['train']} has no such class", "name both alike")
    pictures_of: dict[SplitName, tuple[ImageFile, ...]] = {}
    for split in (split for split in _SPLITS if split in splits):
        found: list[ImageFile] = []
        notes += _note_skipped(parts[split], folders[split][1], "no folder of a class")
        for name in sorted(folders[split][0]):
            files, skipped = _scan_images(folders[split][0][name], names.index(name))
            if not files and split == "train":
                raise _make_no_images_error(folders[split][0][name])
            found += files
            notes += skipped
            _check_count(parts[split], len(found))
        if split == "test":
            notes += _note_untested(names, found)
        if not found:
            raise _make_no_images_error(parts[split])
        pictures_of[split] = tuple(found)
    return FolderListing(names, pictures_of, 0.0, notes)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """List what is not hidden in a folder, in alphabetical order."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise DataError(str(folder), what, "check the path and its permissions") from error
    return sorted(found, key=lambda entry: os.fsencode(entry.name))


def _scan_folders(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the folders in a folder, and the names of the other entries."""
    folders: dict[str, Path] = {}
    others: list[str] = []
    for entry in _scan(folder):
        if entry.is_dir():
            folders[entry.name] = Path(entry.path)
        else:
            others.append(entry.name)
    return folders, others


def _scan_images(folder: Path, label: int) -> tuple[list[ImageFile], tuple[str, ...]]:
    """Return the image files in a class' folder, and a note on other files."""
    files: list[ImageFile] = []
    others: list[str] = []
    for entry in _scan(folder):
        if entry.is_dir():
            hint = "put its images into the class's own folder, or move it away"
            raise DataError(entry.path, "a folder within the folder of a class", hint)
        if entry.is_file() and IMAGE_NAME.search(entry.name):
            status = entry.stat()
            found = ImageFile(Path(entry.path), label, status.st_size, status.st_mtime_ns)
            files.append(found)
        else:
            others.append(entry.name)
    return files, _note_skipped(folder, others, "not named like images")


def _choose_classes(
    root: Path, folders: dict[str, Path], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the class names in class order; DataError where the folders do not fit them."""
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


def _choose_test_files(names: Sequence[str]) -> set[str]:
    # by a hash of the name: a file that is added moves at most one other
    count = max(1, round(HELD_OUT * len(names))) if len(names) > 1 else 0
    by_digest = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return set(by_digest[:count])


def _check_count(root: Path, count: int) -> None:
    if count > MAX_IMAGES:
        what = f"it holds more than {MAX_IMAGES:,} images"
        raise DataError(str(root), what, "put them into an .npz file")


def _make_no_images_error(folder: Path) -> DataError:
    return DataError(str(folder), "the folder holds no images", FORMATS_HINT)


def _note_skipped(folder: Path, names: Sequence[str], why: str) -> tuple[str, ...]:
    """Return a note on entries that are skipped, which names one of them."""
    if not names:
        return ()
    first = make_printable(str(folder / names[0]))
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (f"left out, being {why}: {first}{rest}",)


def _note_untested(names: Sequence[str], files: Sequence[ImageFile]) -> tuple[str, ...]:
    """Return a note on classes without test images."""
    tested = {file.label for file in files}
    absent = [name for label, name in enumerate(names) if label not in tested]
    return (f"no test images of {', '.join(absent[:10])}",) if absent else ()
