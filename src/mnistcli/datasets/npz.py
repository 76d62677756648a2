"""NumPy's .npz archives, read without `numpy.load`: sizes are known before anything is inflated.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.reading import (
    MAX_ARRAY_BYTES,
    check_file_size,
    damaged,
    reporting_damage,
)

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 4096
_HEADER = re.compile(
    r"\{\s*['\"]descr['\"]\s*:\s*(?P<descr>.+?)\s*,"
    r"\s*['\"]fortran_order['\"]\s*:\s*(?P<fortran>True|False)\s*,"
    r"\s*['\"]shape['\"]\s*:\s*\((?P<shape>[\dL,\s]*)\)\s*,?\s*\}\s*"
)
_INTEGERS = re.compile(r"['\"](?P<dtype>[<>|=]?[iu][1248])['\"]")

# What zipfile and zlib raise on broken bytes; RuntimeError: encrypted members.
_ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, IndexError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True)
class _Header:
    """What an .npy header says of the array that follows."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran_order: bool
    header_bytes: int

    @property
    def array_bytes(self) -> int:
        """In Python's integers, which do not overflow."""
        return math.prod(self.shape) * self.dtype.itemsize


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
    with reporting_damage(path, *_ZIP_DAMAGE), zipfile.ZipFile(path) as archive:
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
        array = np.frombuffer(contents, dtype=header.dtype)
        order: Literal["C", "F"] = "F" if header.is_fortran_order else "C"
        return np.ascontiguousarray(array.reshape(header.shape, order=order))


def _find_member(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A KeyError would not say what the archive holds instead."""
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise damaged(path, f"holds no array {name}") from None
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise damaged(path, f"{name} is compressed in a way that NumPy does not write")
    return member


def _read_header(path: Path, name: str, stream: IO[bytes]) -> _Header:
    """By a pattern: the format's own way evaluates Python text."""
    start = stream.read(8)
    length_bytes = {1: 2, 2: 4, 3: 4}.get(start[6] if len(start) == 8 else 0)
    if start[:6] != _MAGIC or length_bytes is None:
        raise damaged(path, f"{name} does not begin as a NumPy array")
    length = int.from_bytes(stream.read(length_bytes), "little")
    if length > _MAX_HEADER_BYTES:
        raise damaged(path, f"{name} has a header of {length} bytes")
    match = _HEADER.fullmatch(stream.read(length).decode("latin1"))
    if match is None:
        raise damaged(path, f"{name} has a header that cannot be understood")
    integers = _INTEGERS.fullmatch(match["descr"])
    if integers is None:
        raise damaged(path, f"{name} has dtype {match['descr'].strip()}, not an integer one")
    return _Header(
        dtype=np.dtype(integers["dtype"]),
        shape=tuple(int(axis.strip(" L")) for axis in match["shape"].split(",") if axis.strip()),
        is_fortran_order=match["fortran"] == "True",
        header_bytes=8 + length_bytes + length,
    )
