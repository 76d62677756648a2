"""Rows that took time to make, kept in the user's cache: one flat .npy file, named by its sha256.

A file holds what its name says or is made again: it is read through and compared each time. What
nobody has used for a month goes when something new comes.

Arrays of bytes that stay in their file: the system reads what is looked at, and forgets it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.atomic_files import open_temporary
from mnistcli.errors import ResourceError
from mnistcli.images.decoding import read_header

PIECE_BYTES = 1 << 24


def map_rows(path: Path, offset_bytes: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return rows that begin somewhere in a file, read-only; nothing is read yet.

    Args:
        path: the file.
        offset_bytes: where the first row begins.
        shape: of the array, [count, *image_shape].

    Raises:
        OSError: the file cannot be opened.
        ValueError: it ends before the last row.
    """
    with path.open("rb") as file:
        contents = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    count = int(np.prod(shape))
    return np.frombuffer(contents, np.uint8, count, offset_bytes).reshape(shape)


def find_map(array: NDArray[np.uint8]) -> mmap.mmap | None:
    """Return the mapped file that an array lies in; null for an array in memory."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return owner if isinstance(owner, mmap.mmap) else None


def release(array: NDArray[np.uint8]) -> None:
    """Let go of the parts of a mapped file that were read; of an array in memory nothing.

    They stay in the system's cache for as long as there is room, and count as its memory, no
    longer as ours.
    """
    contents = find_map(array)
    if contents is not None and hasattr(mmap, "MADV_DONTNEED"):
        contents.madvise(mmap.MADV_DONTNEED)


def expect_random_reads(array: NDArray[np.uint8]) -> None:
    """Tell the system not to read ahead in a mapped file, whose rows will be taken in any order."""
    contents = find_map(array)
    if contents is not None and hasattr(mmap, "MADV_RANDOM"):
        contents.madvise(mmap.MADV_RANDOM)


def walk_pieces(array: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield an array's bytes in C order, some megabytes at a time, and let go of what was read."""
    flat = np.ascontiguousarray(array).reshape(-1)
    for start in range(0, flat.size, PIECE_BYTES):
        yield flat[start : start + PIECE_BYTES]
        release(array)


def select_rows(
    images: NDArray[np.uint8], chosen: NDArray[np.bool_], scratch: Path
) -> NDArray[np.uint8]:
    """Return some of the rows, in their order: those of a mapped file in a mapped file.

    Args:
        images: uint8 [count, …].
        chosen: bool [count].
        scratch: the folder for that file, which has no name and is gone with the process.

    Raises:
        OSError: it cannot be written.
    """
    if find_map(images) is None:
        return images[chosen]
    rows = np.flatnonzero(chosen)
    shape = (len(rows), *images.shape[1:])
    if len(rows) == 0:
        return np.empty(shape, np.uint8)
    step = max(1, PIECE_BYTES // max(1, images[0].size))
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        for start in range(0, len(rows), step):
            file.write(images[rows[start : start + step]].data)
            release(images)
        file.flush()
        contents = mmap.mmap(file.fileno(), os.fstat(file.fileno()).st_size, prot=mmap.PROT_READ)
    return np.frombuffer(contents, np.uint8).reshape(shape)


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
    digest, done = hashlib.sha256(), 0
    with open_temporary(directory / key) as (file, temporary):
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
