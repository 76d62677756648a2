"""Checkpoint files: what they hold, reading and writing them, and reading untrusted ones."""

import os
from collections.abc import Sequence
from pathlib import Path

from mnistcli.errors import CheckpointError
from mnistcli.file_kinds import HDF5_SIGNATURE, explain_missing, read_head

_LISTED_SUFFIXES = (".h5", ".hdf5")
_SUFFIXES = (*_LISTED_SUFFIXES, ".keras")


def has_checkpoint_name(path: str | os.PathLike[str]) -> bool:
    """Return whether a path ends like a checkpoint's, of mnistcli or of Keras."""
    return Path(path).suffix.lower() in _SUFFIXES


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a checkpoint, by its contents or, where it is none, by its name.

    A recipe's name wins over a file of the same name, as it does where a config is read.
    """
    if has_checkpoint_name(path):
        return True
    from mnistcli.config.recipes import list_recipe_names

    return read_head(path).startswith(HDF5_SIGNATURE) and path not in list_recipe_names()


def find_checkpoints(paths: Sequence[Path]) -> list[Path | CheckpointError]:
    """Return the files among paths and the checkpoints in folders, each once.

    Args:
        paths: files, whatever their names, and folders.

    Returns:
        Paths in order, with an error in the place of each that does not exist.
    """
    found: dict[Path, Path | CheckpointError] = {}
    for path in paths:
        try:
            files = _list_folder(path) if path.is_dir() else [path]
            path.lstat()
        except FileNotFoundError:
            missing = explain_missing(str(path), "no such file or folder", "correct the path")
            found[path] = CheckpointError(str(path), *missing)
            continue
        except OSError as system:
            hint = "see who may, with ls -ld"
            found[path] = CheckpointError(str(path), f"cannot be read: {system.strerror}", hint)
            continue
        for file in files:
            found.setdefault(file, file)
    return list(found.values())


def _list_folder(folder: Path) -> list[Path]:
    # Hidden files are checkpoints that are being written.
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(_LISTED_SUFFIXES)
            and not entry.name.startswith(".")
            and not entry.is_dir()
        ]
    return [folder / name for name in sorted(names)]
