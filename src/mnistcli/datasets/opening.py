"""Data of one's own, by their config: what they are, and the data themselves."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path

from mnistcli.config.schema import FilesConfig
from mnistcli.datasets.archive import ImageArchive, open_archive
from mnistcli.datasets.base import Dataset, DatasetInfo, Identity, Split, SplitName
from mnistcli.datasets.download import OnDownload
from mnistcli.datasets.folder import PictureFolder, open_folder
from mnistcli.datasets.identity import hash_array, join_hashes
from mnistcli.errors import DataError, escape_name, make_printable

ROWS_FOLDER = "rows"
_BOTH: frozenset[SplitName] = frozenset({"train", "test"})


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
    return _describe(_open(config, locate(config), _BOTH))


def recall_info(config: FilesConfig) -> DatasetInfo:
    """Return what a complete config says of its data, which may be gone; nothing is counted."""
    return DatasetInfo(
        name=config.name,
        title=_name(Path(config.path)),
        image_shape=config.size or (),
        class_names=config.classes or (),
        train_count=0,
        test_count=0,
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
    info, notes = _describe(source), list(source.notes)
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


def _describe(source: PictureFolder | ImageArchive) -> DatasetInfo:
    """Return what is known before rows are read."""
    return DatasetInfo(
        name="files",
        title=_name(source.path),
        image_shape=source.image_shape,
        class_names=source.class_names,
        train_count=source.count("train"),
        test_count=source.count("test"),
    )


def _name(path: Path) -> str:
    """Call data as their folder or file is called."""
    return make_printable(path.stem if path.suffix == ".npz" else path.name) or str(path)
