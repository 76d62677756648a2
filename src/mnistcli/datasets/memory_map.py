"""Rows that took time to make, kept in the user's cache: one flat .npy file, named by its sha256.

A file holds what its name says or is made again: it is read through and compared each time. What
nobody has used for a month goes when something new comes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.mapped import map_rows, walk_pieces
from mnistcli.errors import ResourceError
from mnistcli.images.npy import read_header

FORGOTTEN_S = 30 * 86_400
_ABANDONED_S = 86_400
_HINT = "name a folder with room in XDG_CACHE_HOME"

OnProgress = Callable[[int, int], None]
"""Hears of bytes made so far, and in all."""


@dataclass(frozen=True)
class FoundRows:
    """Rows in a file.

    Attributes:
        images: uint8 [count, *image_shape], mapped.
        sha256: of their bytes.
        is_new: they were made just now.
    """

    images: NDArray[np.uint8]
    sha256: str
    is_new: bool = False


@dataclass(frozen=True)
class RowSource:
    """What rows are made of.

    Attributes:
        keys: hexadecimal, other for other rows; any of them will do, new rows go by the last.
        shape: of the array, [count, *image_shape].
        make_pieces: yields the rows in order, uint8 arrays of any number of them.
    """

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    make_pieces: Callable[[], Iterator[NDArray[np.uint8]]]

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows."""
        return int(np.prod(self.shape))


def load_rows(source: RowSource, directory: Path, on_progress: OnProgress) -> FoundRows:
    """Return rows from the cache, or make them and keep them there.

    Args:
        source: how they are made.
        directory: of the cache; made where it does not exist.
        on_progress: hears of the making.

    Raises:
        ResourceError: the file cannot be written, or has no room.
        DataError: the rows cannot be made.
    """
    for path in [path for key in source.keys for path in directory.glob(f"{key}-*.npy")]:
        kept = _read(path, source.shape)
        if kept is not None:
            return kept
        with contextlib.suppress(OSError):
            path.unlink()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _prune(directory)
        _check_room(directory, source.size_bytes)
        made = _write(source, directory, on_progress)
        kept = _read(made, source.shape)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(
            str(directory), f"rows cannot be kept there: {reason}", _HINT
        ) from error
    if kept is None:
        what = f"{made.name} does not hold what was written"
        raise ResourceError(str(directory), what, "check the disk")
    return replace(kept, is_new=True)


def _read(path: Path, shape: tuple[int, ...]) -> FoundRows | None:
    """Map a file, and compare it with its name; null where it is damaged."""
    try:
        with path.open("rb") as file:
            header = read_header(file)
        if header.shape != shape or header.dtype != np.uint8:
            return None
        rows = map_rows(path, header.header_bytes, shape)
        os.utime(path)
    except (OSError, ValueError):
        return None
    digest = hashlib.sha256()
    for piece in walk_pieces(rows):
        digest.update(piece.data)
    sha256 = digest.hexdigest()
    return FoundRows(rows, sha256) if path.stem.endswith(f"-{sha256}") else None


def _write(source: RowSource, directory: Path, on_progress: OnProgress) -> Path:
    """Make the rows in a file of another name, and give it its own once it is whole."""
    key = source.keys[-1]
    temporary = directory / f".{key}.{secrets.token_hex(8)}.tmp"
    digest, done = hashlib.sha256(), 0
    try:
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": source.shape}
            )
            for piece in source.make_pieces():
                file.write(piece.data)
                digest.update(piece.data)
                done += piece.nbytes
                on_progress(done, source.size_bytes)
            file.flush()
            os.fsync(file.fileno())
        return temporary.replace(directory / f"{key}-{digest.hexdigest()}.npy")
    finally:
        temporary.unlink(missing_ok=True)


def _check_room(directory: Path, size_bytes: int) -> None:
    """Find out before minutes of work; OSError."""
    free = shutil.disk_usage(directory).free
    if size_bytes > free:
        what = f"{size_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise OSError(errno.ENOSPC, what)


def _prune(directory: Path) -> None:
    """Remove what was not used for long, and what a killed process left."""
    now_s = time.time()
    for pattern, age_s in (("*.npy", FORGOTTEN_S), (".*.tmp", _ABANDONED_S)):
        for path in directory.glob(pattern):
            with contextlib.suppress(OSError):
                if now_s - path.stat().st_mtime > age_s:
                    path.unlink()
