"""An image file of whatever kind -> an upright uint8 array, grey or RGB."""

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

from mnistcli.errors import DataError

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
STDERR = 2
OPAQUE, LIGHT_INK = 128, 128  # of 255

_STDERR_IN_USE = threading.Lock()  # by one thread at a time: there is one

# What Pillow's decoders raise for damaged files, besides its own OSErrors.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, EOFError,
    ArithmeticError, MemoryError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip


def decode_image(source: Path | bytes, where: str) -> NDArray[np.uint8]:
    """Return the first frame of an image: upright, and on a ground where it is transparent.

    The ground is white; black where all that is drawn is light, as white ink on nothing is.

    Args:
        source: the file, or its contents.
        where: what messages call it.

    Returns:
        uint8 [height, width], or [height, width, 3] in RGB.

    Raises:
        DataError: no such file, no image, damaged, or too large.
    """
    _silence_pillow_logger()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damage that it can live with
        image = _open_image(source, where)
        try:
            with _silence_libtiff(image):
                return _make_array(image)
        except DECODER_ERRORS:
            raise DataError(where, DAMAGED, CHECK_HINT) from None


def _silence_pillow_logger() -> None:
    """Give its messages a handler: without any, Python writes them to the terminal."""
    logger = logging.getLogger("PIL")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


@contextmanager
def _silence_libtiff(image: Image.Image) -> Iterator[None]:
    """Keep from the terminal what libtiff, alone among decoders, writes there itself."""
    if image.format != "TIFF":
        yield
        return
    with _STDERR_IN_USE:
        kept = os.dup(STDERR)
        try:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), STDERR)
            yield
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)


def read_content(source: Path | bytes, where: str) -> bytes:
    """Read no more than is bearable, even of a file that never ends.

    Raises:
        DataError: no such file, or it cannot be read.
    """
    if isinstance(source, bytes):
        return source
    try:
        with source.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(where, f"cannot be read: {error.strerror}", CHECK_HINT) from None


def _open_image(source: Path | bytes, where: str) -> Image.Image:
    """Read the header; nothing is decoded before its size is known to be bearable."""
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
    """Decode, and bring every mode that Pillow has down to eight bits of grey or RGB."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion cuts them off
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65_535)
        return (values // 257).astype(np.uint8)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _choose_ground(image)), image)
    return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def _choose_ground(image: Image.Image) -> str:
    """Name the ground on which a transparent picture is seen."""
    pixels = np.asarray(image)
    drawn = pixels[pixels[..., 3] >= OPAQUE, :3]
    return "black" if len(drawn) and drawn.mean(axis=1).min() >= LIGHT_INK else "white"


def to_mode(pixels: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
    """Make grey (L) or RGB of either."""
    from PIL import Image

    if pixels.ndim == (2 if mode == "L" else 3):
        return pixels
    return np.asarray(Image.fromarray(pixels).convert(mode))


def fit_image(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bring a whole picture to a shape, by Pillow's Lanczos filter; its proportions may change.

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
