"""Which pictures lie in a folder, of which class, and for which part of an experiment.

The folder may be anybody's: nothing is opened here, links lead at most two folders down, and
numbers are bounded.
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
