"""Decode image files into upright uint8 arrays."""

from __future__ import annotations

import logging
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnistcli.atomic_files import open_named_file
from mnistcli.errors import DataError
from mnistcli.file_kinds import explain_wrong_kind
from mnistcli.tensorflow_import import redirect_descriptor_2

if TYPE_CHECKING:
    from PIL import Image

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
        with os.fdopen(open_named_file(source, os.O_RDONLY), "rb") as file:
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
        kind = explain_wrong_kind(content, "image", where)
        raise DataError(where, *(kind or (what, FORMATS_HINT))) from None
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
