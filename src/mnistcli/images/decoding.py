"""Decode image files into upright uint8 arrays, and read arrays from .npy files.

The header of a .npy file is parsed with a pattern, since NumPy evaluates it as Python text. Format:
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import logging
import math
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnistcli.errors import DataError
from mnistcli.tensorflow_import import redirect_descriptor_2

if TYPE_CHECKING:
    from PIL import Image

MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 4096
_HEADER = re.compile(
    r"\{\s*['\"]descr['\"]\s*:\s*(?P<descr>.+?)\s*,"
    r"\s*['\"]fortran_order['\"]\s*:\s*(?P<fortran>True|False)\s*,"
    r"\s*['\"]shape['\"]\s*:\s*\((?P<shape>[\dL,\s]*)\)\s*,?\s*\}\s*"
)
_INTEGERS = re.compile(r"['\"](?P<dtype>[<>|=]?[iu][1248])['\"]")
MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 1 << 29
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # no EPS: it starts a program
IMAGE_NAME = re.compile(r"^[^.].*\.(png|jpe?g|gif|bmp|tiff?|webp|p[bgpn]m)$", re.IGNORECASE)
DAMAGED = "the image is damaged or cut short"
TOO_LARGE = f"the image has more than {MAX_PIXELS:,} pixels or {MAX_FILE_BYTES >> 20} MiB"
FORMATS_HINT = f"images are read from {', '.join(FORMATS)} files"
CHECK_HINT = "check the file, or save it again"
OPAQUE, LIGHT_INK = 128, 128  # of 255
_DESCRIPTOR_2_LOCK = threading.Lock()  # redirected by one thread at a time
# What Pillow's decoders raise for damaged files, besides its own OSErrors.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, EOFError,
    ArithmeticError, MemoryError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip
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


def decode_image(source: Path | bytes, where: str) -> NDArray[np.uint8]:
    """Return the first frame of an image, upright and without transparency.

    A transparent background becomes white, or black if everything drawn on it is light.

    Args:
        source: the file, or its contents.
        where: the file's name, for messages.

    Returns:
        uint8 [height, width], or [height, width, 3] in RGB.

    Raises:
        DataError: the file is missing, not an image, damaged, or too large.
    """
    _silence_pillow_logger()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damage that it can repair
        image = _open_image(source, where)
        try:
            with _silence_libtiff(image):
                return _make_array(image)
        except DECODER_ERRORS:
            raise DataError(where, DAMAGED, CHECK_HINT) from None


def read_content(source: Path | bytes, where: str) -> bytes:
    """Return the contents of a file, cut after `MAX_FILE_BYTES` + 1 bytes.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    if isinstance(source, bytes):
        return source
    try:
        with source.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(where, f"cannot be read: {error.strerror}", CHECK_HINT) from None


def to_mode(pixels: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
    """Convert between grey (`L`) and RGB."""
    from PIL import Image

    if pixels.ndim == (2 if mode == "L" else 3):
        return pixels
    return np.asarray(Image.fromarray(pixels).convert(mode))


def fit_image(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Resize a whole picture with Pillow's Lanczos filter; its proportions may change.

    Args:
        pixels: uint8 [height, width] or [height, width, 3], from `decode_image`.
        shape: (height, width) for grey, (height, width, 3) for RGB.
    """
    from PIL import Image

    pixels = to_mode(pixels, "L" if len(shape) == 2 else "RGB")
    if pixels.shape == shape:
        return pixels
    height, width = shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


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


def _silence_pillow_logger() -> None:
    # Without a handler, Python would write its messages to the terminal.
    logger = logging.getLogger("PIL")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


@contextmanager
def _silence_libtiff(image: Image.Image) -> Iterator[None]:
    # Unlike other decoders, libtiff itself writes messages to descriptor 2.
    if image.format != "TIFF":
        yield
        return
    with _DESCRIPTOR_2_LOCK, redirect_descriptor_2():
        yield


def _open_image(source: Path | bytes, where: str) -> Image.Image:
    """Read the header, and check the size before anything is decoded."""
    from PIL import Image, UnidentifiedImageError

    content, too_large = read_content(source, where), DataError(where, TOO_LARGE, "make it smaller")
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        what = "is not an image that can be read" if content else "the file is empty"
        raise DataError(where, what, FORMATS_HINT) from None
    except Image.DecompressionBombError:
        raise too_large from None
    except DECODER_ERRORS:
        raise DataError(where, DAMAGED, CHECK_HINT) from None
    if image.width * image.height > MAX_PIXELS or len(content) > MAX_FILE_BYTES:
        raise too_large
    if image.mode == "F":  # nothing says which number is white
        raise DataError(where, "floating-point pixels are not supported", "save it as PNG")
    return image


def _make_array(image: Image.Image) -> NDArray[np.uint8]:
    """Decode an image of any of Pillow's modes into 8-bit grey or RGB."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow's own conversion truncates
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65_535)
        return (values // 257).astype(np.uint8)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(
            Image.new("RGBA", image.size, _choose_background(image)), image
        )
    return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def _choose_background(image: Image.Image) -> str:
    pixels = np.asarray(image)
    drawn = pixels[pixels[..., 3] >= OPAQUE, :3]
    return "black" if len(drawn) and drawn.mean(axis=1).min() >= LIGHT_INK else "white"
