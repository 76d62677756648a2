"""IDX files, plain or gzipped, as MNIST was published.

Format: two zero bytes, the type (8: unsigned byte), the number of axes, the size of each axis as
a big-endian 32-bit number, then the data in C order (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.reading import MAX_ARRAY_BYTES, check_file_size, damaged, reporting_damage


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Read one array of unsigned bytes.

    Args:
        path: the file; gzipped where its name ends in `.gz`.
        axes: how many the array must have: 3 for images, 1 for labels.

    Returns:
        The array, read-only.

    Raises:
        DataError: the file is no such array, is too large, damaged or not readable.
    """
    check_file_size(path)
    damage = (gzip.BadGzipFile, zlib.error, EOFError, ValueError)
    with reporting_damage(path, *damage), _open(path) as stream:
        shape = _read_shape(path, stream, axes)
        count = math.prod(shape)
        if count > MAX_ARRAY_BYTES:
            raise damaged(path, f"claims {count} bytes, too many for a data set")
        contents = stream.read(count + 1)  # one more, to notice what should not be there
        if len(contents) != count:
            has = "more" if len(contents) > count else str(len(contents))
            raise damaged(path, f"claims {count} bytes of data and has {has}")
        return np.frombuffer(contents, dtype=np.uint8).reshape(shape)


def _open(path: Path) -> IO[bytes]:
    """Both kinds of file inflate no more than is asked of them."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _read_shape(path: Path, stream: IO[bytes], axes: int) -> tuple[int, ...]:
    """The header decides how much is read at all."""
    header = stream.read(4 + 4 * axes)
    if len(header) < 4 + 4 * axes or header[:4] != bytes((0, 0, 8, axes)):
        raise damaged(path, f"does not begin as an IDX file of bytes with {axes} axes")
    return struct.unpack(f">{axes}I", header[4:])
