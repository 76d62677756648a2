"""The header of NumPy's .npy files, read by a pattern: the format's own way evaluates Python text.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 4096
_HEADER = re.compile(
    r"\{\s*['\"]descr['\"]\s*:\s*(?P<descr>.+?)\s*,"
    r"\s*['\"]fortran_order['\"]\s*:\s*(?P<fortran>True|False)\s*,"
    r"\s*['\"]shape['\"]\s*:\s*\((?P<shape>[\dL,\s]*)\)\s*,?\s*\}\s*"
)
_INTEGERS = re.compile(r"['\"](?P<dtype>[<>|=]?[iu][1248])['\"]")


@dataclass(frozen=True)
class Header:
    """What an .npy header says of the integers that follow."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran_order: bool
    header_bytes: int

    @property
    def array_bytes(self) -> int:
        """In Python's integers, which do not overflow."""
        return math.prod(self.shape) * self.dtype.itemsize

    def make_array(self, contents: bytes) -> NDArray[Any]:
        """Return the array of which these are the bytes, C-contiguous, perhaps read-only."""
        order: Literal["C", "F"] = "F" if self.is_fortran_order else "C"
        array = np.frombuffer(contents, dtype=self.dtype)
        return np.asarray(array.reshape(self.shape, order=order), order="C")


def read_header(stream: IO[bytes]) -> Header:
    """Read a header, and leave the stream where the array begins.

    Raises:
        ValueError: it is none, or that of an array of anything but integers; its text is a
            phrase that says so.
    """
    start = stream.read(8)
    length_bytes = {1: 2, 2: 4, 3: 4}.get(start[6] if len(start) == 8 else 0)
    if start[:6] != MAGIC or length_bytes is None:
        raise ValueError("does not begin as a NumPy array")
    length = int.from_bytes(stream.read(length_bytes), "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"has a header of {length} bytes")
    match = _HEADER.fullmatch(stream.read(length).decode("latin1"))
    if match is None:
        raise ValueError("has a header that cannot be understood")
    integers = _INTEGERS.fullmatch(match["descr"])
    if integers is None:
        raise ValueError(f"has dtype {match['descr'].strip()}, not an integer one")
    return Header(
        dtype=np.dtype(integers["dtype"]),
        shape=tuple(int(axis.strip(" L")) for axis in match["shape"].split(",") if axis.strip()),
        is_fortran_order=match["fortran"] == "True",
        header_bytes=8 + length_bytes + length,
    )
