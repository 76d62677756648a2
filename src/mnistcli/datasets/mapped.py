"""Arrays of bytes that stay in their file: the system reads what is looked at, and forgets it."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
