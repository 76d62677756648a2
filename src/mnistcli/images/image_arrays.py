"""A .npy file -> the images in it, exactly as they are: nothing is cropped, scaled or inverted."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from mnistcli.errors import DataError
from mnistcli.images.decoding import CHECK_HINT, MAX_FILE_BYTES
from mnistcli.images.npy import MAGIC, read_header
from mnistcli.models.layers import Shape

_HOW = "send whole numbers from 0 (black) to 255 (white), as uint8"
_WHITE = 255


def is_array(content: bytes) -> bool:
    """Tell whether a file is an array, by how it begins."""
    return content.startswith(MAGIC)


def read_array(content: bytes, where: str) -> NDArray[np.uint8]:
    """Return the array in an .npy file.

    Args:
        content: the file; whole numbers from 0 to 255 of any integer type.
        where: what messages call it.

    Returns:
        uint8 of the file's shape, perhaps read-only.

    Raises:
        DataError: too large, damaged, no integers, or not from 0 to 255.
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


def refuse_shape(where: str, shape: Shape, input_shape: Shape) -> DataError:
    """Say that an array is neither one input of a network nor a batch of them."""
    batch = ", ".join(("N", *map(str, input_shape)))
    what = f"an array of shape {shape}, where the network takes {input_shape} or a batch ({batch})"
    return DataError(where, what, "reshape it; a picture of another size can be sent as PNG")
