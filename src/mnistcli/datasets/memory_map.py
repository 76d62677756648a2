"""Arrays of images in memory-mapped files, and the cache of images that took time to decode.

The cache has flat .npy files in the user's cache folder, named by the sha256 of their contents.
A file is verified each time it is used, and made again where it is damaged. Files that were not
used for a month are deleted when a new one is written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import re
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
from mnistcli.images.arrays import read_header
from mnistcli.user_folders import make_private_folder

CHUNK_BYTES = 1 << 24
UNUSED_S = 30 * 86_400
_LEFT_BEHIND_S = 86_400
_KEPT = re.compile(r"[0-9a-f]+-[0-9a-f]{64}\.npy")
_UNFINISHED = re.compile(r"\.[0-9a-f]+\.mnistcli-\w{8}\.tmp")
_HINT = "name a folder of your own with room in XDG_CACHE_HOME"

OnProgress = Callable[[int, int], None]
"""Called with the bytes made so far and in total."""


@dataclass(frozen=True)
class CachedRows:
    """Images in a memory-mapped file.

    Attributes:
        images: uint8 [count, *image_shape].
        sha256: of their bytes.
        is_new: whether they were made just now.
    """

    images: NDArray[np.uint8]
    sha256: str
    is_new: bool = False


@dataclass(frozen=True)
class RowSource:
    """How images are made that are to be kept in the cache.

    Attributes:
        keys: cache keys, hexadecimal: files of any of them are used, a new one gets the last.
        shape: of the array, [count, *image_shape].
        make_chunks: yields the images in order, as uint8 arrays of any length.
    """

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    make_chunks: Callable[[], Iterator[NDArray[np.uint8]]]

    @property
    def size_bytes(self) -> int:
        """Size of all images."""
        return int(np.prod(self.shape))


def map_rows(path: Path, offset_bytes: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Map an array in a file into memory, read-only: uint8 [count, *image_shape].

    Args:
        path: the file.
        offset_bytes: where the array begins.
        shape: of the array.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it ends before the array does.
    """
    with path.open("rb") as file:
        contents = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    count = int(np.prod(shape))
    return np.frombuffer(contents, np.uint8, count, offset_bytes).reshape(shape)


def find_mmap(array: NDArray[np.uint8]) -> mmap.mmap | None:
    """Return the memory map that an array is in; None for an array in memory."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return owner if isinstance(owner, mmap.mmap) else None


def release_pages(array: NDArray[np.uint8]) -> None:
    """Release the pages of a memory map that were read; an array in memory is left alone.

    They stay in the system's page cache and no longer count as this process' memory.
    """
    contents = find_mmap(array)
    if contents is not None and hasattr(mmap, "MADV_DONTNEED"):
        contents.madvise(mmap.MADV_DONTNEED)


def advise_random_access(array: NDArray[np.uint8]) -> None:
    """Advise the system not to read ahead in a memory map, since it is read in random order."""
    contents = find_mmap(array)
    if contents is not None and hasattr(mmap, "MADV_RANDOM"):
        contents.madvise(mmap.MADV_RANDOM)


def iter_chunks(array: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield an array's bytes in C order in chunks of some megabytes, and release them when read."""
    flat = np.ascontiguousarray(array).reshape(-1)
    for start in range(0, flat.size, CHUNK_BYTES):
        yield flat[start : start + CHUNK_BYTES]
        release_pages(array)


def select_rows(
    images: NDArray[np.uint8], chosen: NDArray[np.bool_], scratch: Path
) -> NDArray[np.uint8]:
    """Return some of the images in their order; of a memory-mapped file in another one.

    Args:
        images: uint8 [count, …].
        chosen: bool [count].
        scratch: the folder for that file, which is temporary and has no name.

    Raises:
        OSError: the file cannot be written.
    """
    if find_mmap(images) is None:
        return images[chosen]
    rows = np.flatnonzero(chosen)
    shape = (len(rows), *images.shape[1:])
    if len(rows) == 0:
        return np.empty(shape, np.uint8)
    step = max(1, CHUNK_BYTES // max(1, images[0].size))
    make_private_folder(scratch)
    with tempfile.TemporaryFile(dir=scratch) as file:
        for start in range(0, len(rows), step):
            file.write(images[rows[start : start + step]].data)
            release_pages(images)
        file.flush()
        contents = mmap.mmap(file.fileno(), os.fstat(file.fileno()).st_size, prot=mmap.PROT_READ)
    return np.frombuffer(contents, np.uint8).reshape(shape)


def load_rows(source: RowSource, directory: Path, on_progress: OnProgress) -> CachedRows:
    """Return images from the cache, or make them and keep them there.

    Args:
        source: how they are made.
        directory: of the cache; created if missing.
        on_progress: called while they are made.

    Raises:
        ResourceError: the file cannot be written, or the disk is full.
        DataError: the images cannot be made.
    """
    try:
        make_private_folder(directory)
        for path in [path for key in source.keys for path in directory.glob(f"{key}-*.npy")]:
            kept = _read(path, source.shape)
            if kept is not None:
                return kept
            with contextlib.suppress(OSError):
                path.unlink()
        _remove_unused(directory)
        _check_free_space(directory, source.size_bytes)
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


def _read(path: Path, shape: tuple[int, ...]) -> CachedRows | None:
    """Map a file and verify its sha256; None where it is damaged."""
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
    for chunk in iter_chunks(rows):
        digest.update(chunk.data)
    sha256 = digest.hexdigest()
    return CachedRows(rows, sha256) if path.stem.endswith(f"-{sha256}") else None


def _write(source: RowSource, directory: Path, on_progress: OnProgress) -> Path:
    """Write the images to a temporary file, and rename it once it is complete."""
    key = source.keys[-1]
    digest, done = hashlib.sha256(), 0
    with open_temporary(directory / key) as (file, temporary):
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": source.shape}
        )
        for chunk in source.make_chunks():
            file.write(chunk.data)
            digest.update(chunk.data)
            done += chunk.nbytes
            on_progress(done, source.size_bytes)
        file.flush()
        os.fsync(file.fileno())
        return temporary.replace(directory / f"{key}-{digest.hexdigest()}.npy")


def _check_free_space(directory: Path, size_bytes: int) -> None:
    # before minutes of work
    free = shutil.disk_usage(directory).free
    if size_bytes > free:
        what = f"{size_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise OSError(errno.ENOSPC, what)


def _remove_unused(directory: Path) -> None:
    """Delete files that were not used for long, and temporary files of killed processes."""
    now_s = time.time()
    for path in directory.iterdir():
        with contextlib.suppress(OSError):
            age_s = now_s - path.lstat().st_mtime
            if (_KEPT.fullmatch(path.name) and age_s > UNUSED_S) or (
                _UNFINISHED.fullmatch(path.name) and age_s > _LEFT_BEHIND_S
            ):
                path.unlink()
