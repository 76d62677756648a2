"""Finds the checkpoints that a command line names: files, and folders of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mnistcli.errors import CheckpointError

SUFFIXES = (".h5", ".hdf5")


def find_files(paths: Sequence[Path]) -> list[Path | CheckpointError]:
    """Return files, and the checkpoints in folders, each once; an error for what is not there."""
    found: dict[Path, Path | CheckpointError] = {}
    for path in paths:
        try:
            files = _list_folder(path) if path.is_dir() else [path]
            path.lstat()
        except FileNotFoundError:
            error = CheckpointError(str(path), "no such file or folder", "correct the path")
            found[path] = error
            continue
        except OSError as system:
            hint = "see who may, with ls -ld"
            found[path] = CheckpointError(str(path), f"cannot be read: {system.strerror}", hint)
            continue
        for file in files:
            found.setdefault(file, file)
    return list(found.values())


def _list_folder(folder: Path) -> list[Path]:
    """List the checkpoints in a folder; those that are being written are hidden files."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES)
            and not entry.name.startswith(".")
            and not entry.is_dir()
        ]
    return [folder / name for name in sorted(names)]
