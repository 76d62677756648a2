"""List the images in a folder with a folder for each class.

Listing opens no image, follows links at most two folders deep and is limited in numbers, since the
folder may come from anywhere. A folder in another layout is refused with the command that
rearranges it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnistcli.config.schema import MAX_LABELS
from mnistcli.datasets.base import SplitName
from mnistcli.errors import DataError, escape_name, make_printable, pluralize, quote_words
from mnistcli.file_kinds import FORMATS_HINT, read_head
from mnistcli.images.decoding import IMAGE_NAME

MAX_IMAGES = 5_000_000
HELD_OUT = 0.2
LAYOUT_HINT = "make a folder for each class, below train and test or alone"
_MAX_NAME_LENGTH = 200
_SPLITS: tuple[SplitName, SplitName] = ("train", "test")
# What systems leave in folders, besides hidden files.
_SYSTEM_NAMES = frozenset({
    "__MACOSX", "Icon\r", "Thumbs.db", "ehthumbs.db", "desktop.ini", "$RECYCLE.BIN",
    "System Volume Information", "lost+found", "@eaDir",
})  # fmt: skip
_TRAIN_NAME = re.compile(r"train(ing)?[-_ ]?(set|data|images)?", re.IGNORECASE)
_TEST_NAME = re.compile(r"test(ing)?[-_ ]?(set|data|images)?", re.IGNORECASE)
_VALIDATION_NAME = re.compile(r"(val(id(ation)?)?|dev|eval)[-_ ]?(set|data|images)?", re.IGNORECASE)
_PUBLISHED_NAME = re.compile(
    r"mnist\.npz|(train|t10k)-(images|labels)|data_batch_1|cifar-10-python"
)
_NAME_WITH_CLASS = re.compile(r"([^\W\d_]+)[._ -]?\d+\.\w+")  # cat.0.jpg
_TABLE_NAME = re.compile(r".*\.(csv|tsv|txt)", re.IGNORECASE)
_LABEL_COLUMN = re.compile(r"labels?|class(es)?|category|species|breed|target", re.IGNORECASE)


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
        warnings: about images that are missing, one line each.
    """

    class_names: tuple[str, ...]
    files: dict[SplitName, tuple[ImageFile, ...]]
    held_out: float
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Entries:
    """What is in a folder, in alphabetical order, without hidden and system files.

    Attributes:
        path: of the folder.
        folders: by name.
        images: files with the names of images.
        others: other files.
        lost: links that lead nowhere, and what cannot be looked at.
    """

    path: Path
    folders: dict[str, Path] = field(default_factory=dict)
    images: list[ImageFile] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    lost: list[Path] = field(default_factory=list)


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
        DataError: the folder has another layout, a class without training images, none for
            testing, or too many classes or images; or it cannot be read.
    """
    top = _scan(root)
    _check_split_names(top)
    if "train" in top.folders:
        return _list_divided(top, classes, splits)
    return _list_undivided(top, classes, splits)


def _list_undivided(
    top: _Entries, classes: Sequence[str] | None, splits: frozenset[SplitName]
) -> FolderListing:
    """Hold out a fifth of each class for testing, chosen by the names of the files alone."""
    _check_depth(top)
    names = _choose_classes(top, classes, top.others)
    scanned = _scan_classes(top, names, needs_images=True)
    found: dict[SplitName, list[ImageFile]] = {"train": [], "test": []}
    for entries in scanned:
        chosen = _choose_test_files([file.path.name for file in entries.images])
        found["train"] += [file for file in entries.images if file.path.name not in chosen]
        found["test"] += [file for file in entries.images if file.path.name in chosen]
    if not found["test"]:
        what = "no image is left for testing: each class has one"
        raise DataError(str(top.path), what, "add images, or make folders train and test")
    notes = _note_skipped([top, *scanned])
    if "train" in splits:
        count = len(found["test"])
        notes += (
            f"{make_printable(str(top.path))} has no folders train and test: a fifth of each"
            f" class, chosen by file name, is held out for testing ({pluralize(count, 'image')})",
        )
    notes += _note_untested(names, found["test"])
    files_of = {split: tuple(found[split]) for split in _SPLITS if split in splits}
    return FolderListing(names, files_of, HELD_OUT, notes, _warn_of_lost(scanned))


def _list_divided(
    top: _Entries, classes: Sequence[str] | None, splits: frozenset[SplitName]
) -> FolderListing:
    """List the folders train and test; the folders of train are the classes."""
    parts = {split: _scan(top.folders[split]) for split in _SPLITS}
    names = _choose_classes(parts["train"], classes, top.others)
    if parts["test"].images and not parts["test"].folders:
        hint = f"to hold out a fifth for testing, give --data {quote_words(parts['train'].path)}"
        raise _make_flat_error(parts["test"], top.others, hint)
    unknown = next((name for name in parts["test"].folders if name not in names), None)
    if unknown is not None:
        where = str(parts["test"].folders[unknown])
        raise DataError(where, f"{parts['train'].path} has no such class", "name both alike")
    files_of: dict[SplitName, tuple[ImageFile, ...]] = {}
    scanned: list[_Entries] = []
    notes = _note_left_out(
        [*(path for name, path in top.folders.items() if name not in _SPLITS),
         *(file.path for file in top.images), *top.others, *top.lost],
        "neither train nor test",
    )  # fmt: skip
    for split in (split for split in _SPLITS if split in splits):
        found = _scan_classes(parts[split], names, needs_images=split == "train")
        files_of[split] = tuple(file for entries in found for file in entries.images)
        if not files_of[split]:
            raise _make_no_images_error(parts[split])
        scanned += [parts[split], *found]
    notes += _note_skipped(scanned)
    if "test" in splits:
        notes += _note_untested(names, files_of["test"])
    return FolderListing(names, files_of, 0.0, notes, _warn_of_lost(scanned))


def _scan(folder: Path, label: int = 0) -> _Entries:
    """List what is in a folder and not hidden, in alphabetical order; images get a label."""
    found = _Entries(folder)
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise DataError(str(folder), what, "check the path and its permissions") from error
    for entry in listed:
        if entry.name.startswith(".") or entry.name in _SYSTEM_NAMES:
            continue
        path = Path(entry.path)
        try:
            status = entry.stat()
        except OSError:
            found.lost.append(path)
            continue
        if stat.S_ISDIR(status.st_mode):
            found.folders[entry.name] = path
        elif stat.S_ISREG(status.st_mode) and IMAGE_NAME.search(entry.name):
            found.images.append(ImageFile(path, label, status.st_size, status.st_mtime_ns))
        else:
            found.others.append(path)
    return found


def _scan_classes(part: _Entries, names: Sequence[str], *, needs_images: bool) -> list[_Entries]:
    """List the folders of classes, with the labels of the classes.

    Args:
        part: the folder that they are in.
        names: of all classes, in class order.
        needs_images: whether a class without images is an error.

    Raises:
        DataError: a class cannot be found, holds folders or no images; or there are too many.
    """
    if part.lost:
        what = "this link leads nowhere, and a class may be lost"
        raise DataError(str(part.lost[0]), what, "mend or remove it")
    scanned, count = [], 0
    for name in sorted(part.folders):
        entries = _scan(part.folders[name], names.index(name))
        if entries.folders:
            raise _make_nesting_error(part, entries)
        if not entries.images and (needs_images or entries.lost):
            raise _make_no_images_error(entries)
        count += len(entries.images)
        if count > MAX_IMAGES:
            what = f"it holds more than {MAX_IMAGES:,} images"
            raise DataError(str(part.path), what, "put them into an .npz file")
        scanned.append(entries)
    return scanned


def _choose_classes(
    part: _Entries, classes: Sequence[str] | None, tables: Sequence[Path]
) -> tuple[str, ...]:
    """Return the class names in class order; DataError where the folders do not fit them."""
    if not part.folders:
        raise _make_flat_error(part, tables, LAYOUT_HINT)
    folders = part.folders
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
        raise DataError(str(part.path), what, f"its folders are {', '.join(sorted(folders)[:10])}")
    if not 2 <= len(names) <= MAX_LABELS:
        what = f"{pluralize(len(names), 'class')}, where 2 to {MAX_LABELS} can be told apart"
        raise DataError(str(part.path), what, LAYOUT_HINT)
    return names


def _choose_test_files(names: Sequence[str]) -> set[str]:
    # by a hash of the name: a file that is added moves at most one other
    count = max(1, round(HELD_OUT * len(names))) if len(names) > 1 else 0
    by_digest = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return set(by_digest[:count])


def _check_split_names(top: _Entries) -> None:
    """Refuse folders for training and testing of other names than train and test."""
    found = dict.fromkeys((_TRAIN_NAME, _TEST_NAME, _VALIDATION_NAME), "")
    for name in reversed(top.folders):
        for pattern in found:
            if pattern.fullmatch(name):
                found[pattern] = name
    train, test, validation = found.values()
    named = [split for split in _SPLITS if split in top.folders]
    others = [name for name in top.folders if not any(p.fullmatch(name) for p in found)]
    if len(named) == 2 or (others and not named) or not top.folders:
        return
    renamed = {train: "train", test or validation: "test"}
    moves = [
        f"mv {quote_words(top.path / old)} {quote_words(top.path / new)}"
        for old, new in renamed.items() if old not in ("", new)
    ]  # fmt: skip
    if moves and all(renamed):
        what = f"its folders are {train} and {test or validation}, not train and test"
        hint = "rename them" if test else f"to use {validation} for testing, rename it"
        raise DataError(str(top.path), what, f"{hint}: {' && '.join(moves)}")
    only = train or test or validation
    missing = "testing" if train else "training"
    what = f"it has a folder {only} and none for {missing}"
    hint = f"to hold out a fifth of {only} for testing, give --data {quote_words(top.path / only)}"
    raise DataError(str(top.path), what, hint)


def _check_depth(top: _Entries) -> None:
    """Refuse a single folder that holds the folders or the images."""
    if len(top.folders) == 1 and not top.images:
        inner = _scan(next(iter(top.folders.values())))
        if inner.folders:
            what = f"its images are one folder deeper, in {inner.path.name}"
            raise DataError(str(top.path), what, f"give --data {quote_words(inner.path)}")
        if _sort_by_table(inner, [*top.others, *inner.others]):
            raise _make_flat_error(inner, top.others, LAYOUT_HINT)


def _make_nesting_error(part: _Entries, entries: _Entries) -> DataError:
    """Return the error for folders within the folder of a class."""
    names, where = list(entries.folders), str(part.path)
    patterns = (_TRAIN_NAME, _TEST_NAME, _VALIDATION_NAME)
    if all(any(pattern.fullmatch(name) for pattern in patterns) for name in names):
        what = f"each class has folders {' and '.join(names)}, which are to hold the classes"
        command = (
            f"cd {quote_words(part.path)} && for c in */; do for s in {quote_words(*names)}; do"
            ' mkdir -p "$s" && mv "$c$s" "$s/${c%/}"; done; rmdir "$c"; done'
        )
        return DataError(where, what, f"turn that round: {command}")
    inner = next(iter(entries.folders.values()))
    if len(names) == 1 and not entries.images:
        level = part.path.parent if part.path.name in _SPLITS else part.path
        stars = "*/*" if part.path.name in _SPLITS else "*"
        command = (
            f"for d in {quote_words(level)}/{stars}/{quote_words(names[0])}; do"
            ' mv "$d"/* "$d"/.. && rmdir "$d"; done'
        )
        what = f"the images of a class are one folder deeper, in {names[0]}"
        return DataError(str(entries.path), what, f"move them up: {command}")
    moved, own, parent = map(quote_words, (inner, entries.path, part.path))
    hint = (
        f"move its images up: mv -n {moved}/* {own} && rmdir {moved};"
        f" or make it a class: mv {moved} {parent}"
    )
    return DataError(str(inner), "a folder within the folder of a class", hint)


def _make_flat_error(part: _Entries, tables: Sequence[Path], hint: str) -> DataError:
    """Return the error for a folder without folders, with the command that makes some."""
    if part.images:
        what = f"it holds {pluralize(len(part.images), 'image')} and no folders of classes"
        hint = _sort_by_table(part, [*tables, *part.others]) or _sort_by_name(part) or hint
        return DataError(str(part.path), what, hint)
    shown = _list_paths([*part.others, *part.lost])
    archive = next((path for path in part.others if path.suffix == ".npz"), None)
    if any(_PUBLISHED_NAME.match(path.name) for path in part.others):
        hint = (
            f"the folder of a published data set is given with --data-dir {quote_words(part.path)}"
        )
    elif archive is not None:
        hint = f"give --data {quote_words(archive)}"
    return DataError(str(part.path), f"it holds no folders{shown and f', but {shown}'}", hint)


def _sort_by_table(part: _Entries, tables: Iterable[Path]) -> str:
    """Return the hint to sort images into classes by a table of their labels; empty without."""
    images = {file.path.name for file in part.images}
    suffixes = ("", *sorted({Path(name).suffix for name in images}))
    for table in (path for path in tables if _TABLE_NAME.fullmatch(path.name)):
        lines = read_head(table).decode("utf-8-sig", "replace").splitlines()
        delimiter = max(",;\t", key=lines[0].count) if lines else ","
        rows = list(csv.reader(lines, delimiter=delimiter))
        place = next(
            ((column, suffix)
             for row in rows for column, cell in enumerate(row) for suffix in suffixes
             if os.path.basename(cell) + suffix in images),  # noqa: PTH119 (no path yet)
            None,
        )  # fmt: skip
        if place is None or len(rows[0]) < 2:
            continue
        name, suffix = place
        others = [column for column in range(len(rows[0])) if column != name]
        label = next((c for c in others if _LABEL_COLUMN.fullmatch(rows[0][c])), others[0])
        folder, source, ending, comma = (
            json.dumps(str(text), ensure_ascii=False)
            for text in (part.path, table, suffix, delimiter)
        )
        code = (
            f"import csv, os; os.chdir({folder});"
            f" [os.renames(n, os.path.join(r[{label}], n))"
            f" for r in csv.reader(open({source}), delimiter={comma})"
            f" if len(r) > {max(name, label)}"
            f" for n in [os.path.basename(r[{name}]) + {ending}] if os.path.isfile(n)]"
        )
        given = f"then give --data {quote_words(part.path)}"
        return f"sort them by {table.name}, {given}: python -c {quote_words(code)}"
    return ""


def _sort_by_name(part: _Entries) -> str:
    """Return the hint to sort images such as cat.0.jpg into classes; empty for other names."""
    matches = [_NAME_WITH_CLASS.fullmatch(file.path.name) for file in part.images]
    classes = {match[1] for match in matches if match is not None}
    if None in matches or not 2 <= len(classes) <= MAX_LABELS:
        return ""
    command = (
        f'cd {quote_words(part.path)} && for f in *.*; do c="${{f%%[0-9]*}}"; c="${{c%[._ -]}}";'
        ' mkdir -p "$c" && mv "$f" "$c"; done'
    )
    return f"sort them by their names: {command}"


def _make_no_images_error(entries: _Entries) -> DataError:
    if entries.lost:
        what = f"it holds no images, but links that lead nowhere: {_list_paths(entries.lost)}"
        return DataError(str(entries.path), what, "mend them, or mount what they lead to")
    if entries.others:
        what = f"the folder holds no images, but {_list_paths(entries.others)}"
        return DataError(str(entries.path), what, FORMATS_HINT)
    hint = "put images into it, or remove it"
    return DataError(str(entries.path), "the folder holds no images", hint)


def _note_skipped(scanned: Sequence[_Entries]) -> tuple[str, ...]:
    """Return one note on the files in and beside the folders of classes that are no images."""
    beside = [f.path for entries in scanned if entries.folders for f in entries.images]
    others = [path for entries in scanned for path in entries.others]
    return _note_left_out(beside + others, "no images of a class")


def _note_left_out(paths: Sequence[Path], why: str) -> tuple[str, ...]:
    return (f"left out, being {why}: {_list_paths(paths)}",) if paths else ()


def _warn_of_lost(scanned: Sequence[_Entries]) -> tuple[str, ...]:
    lost = [path for entries in scanned for path in entries.lost]
    return (f"left out, being links that lead nowhere: {_list_paths(lost)}",) if lost else ()


def _note_untested(names: Sequence[str], files: Sequence[ImageFile]) -> tuple[str, ...]:
    """Return a note on classes without test images."""
    tested = {file.label for file in files}
    absent = [name for label, name in enumerate(names) if label not in tested]
    return (f"no test images of {', '.join(absent[:10])}",) if absent else ()


def _list_paths(paths: Sequence[Path]) -> str:
    """Return the first of some paths, and how many there are besides."""
    rest = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
    return make_printable(f"{paths[0]}{rest}") if paths else ""
