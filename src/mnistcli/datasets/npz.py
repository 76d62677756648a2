"""NumPy's .npz archives, read without `numpy.load`: sizes are known before anything is inflated."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from mnistcli.datasets.reading import MAX_ARRAY_BYTES, check_file_size, damaged, reporting_damage
from mnistcli.images.npy import Header, read_header

# What zipfile and zlib raise on broken bytes; RuntimeError: encrypted members.
ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, IndexError, OverflowError,
)  # fmt: skip


def read_npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read arrays of integers by name, all at the same time; others are not touched.

    Args:
        path: the archive.
        names: of the arrays wanted, `x_train` for example.

    Returns:
        The arrays by name, each C-contiguous, perhaps read-only.

    Raises:
        DataError: no such array, one that is no array of integers or too large, a file that is
            damaged, no zip archive, or not readable.
    """
    check_file_size(path)
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        arrays = pool.map(lambda name: _read_array(path, name), names)
        return dict(zip(names, arrays, strict=True))


def _read_array(path: Path, name: str) -> NDArray[Any]:
    """Each thread opens the archive for itself: one file position cannot serve two."""
    with reporting_damage(path, *ZIP_DAMAGE), zipfile.ZipFile(path) as archive:
        member = _find_member(path, archive, name)
        with archive.open(member) as stream:
            header = _read_header(path, name, stream)
            declared = header.header_bytes + header.array_bytes
            if declared > MAX_ARRAY_BYTES:
                raise damaged(path, f"{name} claims {declared} bytes, too many for a data set")
            if declared != member.file_size:
                raise damaged(path, f"{name} claims {declared} bytes and has {member.file_size}")
            contents = stream.read(header.array_bytes)
            at_end = stream.read(1) == b""  # zipfile compares the CRC only when it sees the end
        if not at_end or len(contents) != header.array_bytes:
            raise damaged(path, f"{name} has another length than the archive says")
        return header.make_array(contents)


def _find_member(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A KeyError would not say what the archive holds instead."""
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise damaged(path, f"holds no array {name}") from None
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise damaged(path, f"{name} is compressed in a way that NumPy does not write")
    return member


def _read_header(path: Path, name: str, stream: IO[bytes]) -> Header:
    """Name file and array in what is wrong with a header."""
    try:
        return read_header(stream)
    except ValueError as error:
        raise damaged(path, f"{name} {error}") from None
