"""Read arrays from .npy files, and check that they are images.

The header of a .npy file is parsed with a pattern, since NumPy evaluates it as Python text. Format:
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnistcli.errors import DataError
from mnistcli.images.decoding import CHECK_HINT, MAX_FILE_BYTES

MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 4096
_HEADER = re.compile(
    r"\{\s*['\"]descr['\"]\s*:\s*(?P<descr>.+?)\s*,"
    r"\s*['\"]fortran_order['\"]\s*:\s*(?P<fortran>True|False)\s*,"
    r"\s*['\"]shape['\"]\s*:\s*\((?P<shape>[\dL,\s]*)\)\s*,?\s*\}\s*"
)
_INTEGERS = re.compile(r"['\"](?P<dtype>[<>|=]?[iu][1248])['\"]")
_HOW = "send whole numbers from 0 (black) to 255 (white), as uint8"
_WHITE = 255


@dataclass(frozen=True)
class Header:
    """The header of a .npy file of integers."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran_order: bool
    header_bytes: int

    @property
    def array_bytes(self) -> int:
        """Size of the array; a Python integer, which does not overflow."""
        return math.prod(self.shape) * self.dtype.itemsize

    def make_array(self, contents: bytes) -> NDArray[Any]:
        """Return the array with these bytes, C-contiguous, perhaps read-only."""
        order: Literal["C", "F"] = "F" if self.is_fortran_order else "C"
        array = np.frombuffer(contents, dtype=self.dtype)
        return np.asarray(array.reshape(self.shape, order=order), order="C")


def read_header(stream: IO[bytes]) -> Header:
    """Read a header, and leave the stream where the array begins.

    Raises:
        ValueError: there is no valid header, or the array is not of integers. The message
            continues a sentence about the array.
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


def is_array(content: bytes) -> bool:
    """Return whether a file is a .npy file, by its first bytes."""
    return content.startswith(MAGIC)


def read_array(content: bytes, where: str) -> NDArray[np.uint8]:
    """Return the array of a .npy file, unchanged: it is not cropped, scaled or inverted.

    Args:
        content: the file; integers from 0 to 255, of any integer type.
        where: the file's name, for messages.

    Returns:
        uint8 of the array's shape, perhaps read-only.

    Raises:
        DataError: the file is too large, damaged, or not of integers from 0 to 255.
    """
    if len(content) > MAX_FILE_BYTES:
        raise DataError(where, f"more than {MAX_FILE_BYTES >> 20} MiB", "send it in parts")
    stream = io.BytesIO(content)
    try:
        header = read_header(stream)
    except ValueError as error:
        raise DataError(where, f"the array {error}", _HOW) from None
    rest = len(content) - stream.tell()
    if header.array_bytes != rest:
        what = f"the array's header announces {header.array_bytes} bytes, {rest} follow"
        raise DataError(where, what, CHECK_HINT)
    if rest == 0:
        raise DataError(where, f"the array of shape {header.shape} holds no images", CHECK_HINT)
    values = header.make_array(stream.read())
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > _WHITE):
        what = f"the array holds numbers from {values.min()} to {values.max()}, not 0 to {_WHITE}"
        raise DataError(where, what, _HOW)
    return values.astype(np.uint8, copy=False)


def make_shape_error(where: str, shape: tuple[int, ...], input_shape: tuple[int, ...]) -> DataError:
    """Return the error for an array that is neither an input of a network nor a batch of them."""
    batch = ", ".join(("N", *map(str, input_shape)))
    what = f"an array of shape {shape}, where the network takes {input_shape} or a batch ({batch})"
    return DataError(where, what, "reshape it; a picture of another size can be sent as PNG")
