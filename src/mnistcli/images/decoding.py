"""Decode image files into upright uint8 arrays."""

from __future__ import annotations

import logging
import math
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnistcli.atomic_files import open_named_file
from mnistcli.available_memory import read_available_memory
from mnistcli.errors import DataError
from mnistcli.file_kinds import FORMATS_HINT, IMAGE_FORMATS, explain_wrong_kind
from mnistcli.tensorflow_import import redirect_descriptor_2

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 1 << 29
IMAGE_NAME = re.compile(r"^[^.].*\.(png|jpe?g|gif|bmp|tiff?|webp|p[bgpn]m)$", re.IGNORECASE)
DAMAGED = "the image is damaged or cut short"
TOO_LARGE = f"the image has more than {MAX_PIXELS:,} pixels or {MAX_FILE_BYTES >> 20} MiB"
CHECK_HINT = "check the file, or save it again"
SMALLER_HINT = "make it smaller"
OPAQUE, LIGHT_INK = 128, 128  # of 255
# Bytes of a pixel at the peak, as decoded by Pillow and as an array; measured.
GREY_BYTES, OTHER_BYTES = 3, 8
MAX_BYTES_AT_ONCE = 1 << 30  # of the images that threads decode side by side
_SMALL_BYTES = 1 << 24  # images for which nothing is counted
_ORIENTATION = 0x0112  # EXIF's tag
_STRIP_PIXELS = 1 << 20  # converted at a time
# EXIF's orientations: how an upright image was turned into the one that is stored.
_TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}
_DESCRIPTOR_2_LOCK = threading.Lock()  # redirected by one thread at a time
# What Pillow's decoders raise for damaged files, besides its own OSErrors.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, EOFError,
    ArithmeticError, RuntimeError, struct.error, zlib.error,
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
    with open_decoded(source, where) as pixels:
        return pixels


@contextmanager
def open_decoded(source: Path | bytes, where: str) -> Iterator[NDArray[np.uint8]]:
    """Decode an image as `decode_image` does; until the context ends, its memory is reserved.

    Of large images, only so many are decoded at a time as memory allows.
    """
    image = _open_image(source, where)
    width, height = image.size
    needed = width * height * (GREY_BYTES if image.mode in ("L", "I;16") else OTHER_BYTES)
    with _budget.reserve(needed) as available:
        if needed > available:
            what = (
                f"{width} x {height} pixels take about {needed / 1e6:,.0f} MB of memory,"
                f" {available / 1e6:,.0f} MB are available"
            )
            raise DataError(where, what, SMALLER_HINT)
        try:
            with warnings.catch_warnings(), image, _silence_libtiff(image):
                warnings.simplefilter("ignore")  # Pillow warns of damage that it can repair
                pixels = _make_array(image)
        except DECODER_ERRORS:
            raise DataError(where, DAMAGED, CHECK_HINT) from None
        except MemoryError:
            what = f"there is too little memory for its {width} x {height} pixels"
            raise DataError(where, what, SMALLER_HINT) from None
        del image
        yield pixels


class _MemoryBudget:
    """Lets threads decode images only as far as there is memory for all of them."""

    def __init__(self) -> None:
        self._reserved_bytes = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, needed_bytes: int) -> Iterator[float]:
        """Wait for memory to be given back; yield how much of it is available then.

        An image for which nothing else is decoded never waits.
        """
        if needed_bytes <= _SMALL_BYTES:
            yield math.inf
            return
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(needed_bytes))
            self._reserved_bytes += needed_bytes
        try:
            available = read_available_memory()
            yield math.inf if available is None else available
        finally:
            with self._changed:
                self._reserved_bytes -= needed_bytes
                self._changed.notify_all()

    def _has_room(self, needed_bytes: int) -> bool:
        if not self._reserved_bytes:
            return True
        available = read_available_memory() or MAX_BYTES_AT_ONCE
        # Half of it: what others have reserved may not be allocated yet.
        return self._reserved_bytes + needed_bytes <= min(MAX_BYTES_AT_ONCE, available // 2)


_budget = _MemoryBudget()


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

    _silence_pillow_logger()
    content, too_large = read_content(source, where), DataError(where, TOO_LARGE, SMALLER_HINT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(BytesIO(content), formats=IMAGE_FORMATS)
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
    """Decode an image of any of Pillow's modes into 8-bit grey or RGB, upright.

    It is converted in strips, since whole copies of a large image would fill the memory.
    """
    image.load()
    width, height = image.size
    orientation = image.getexif().get(_ORIENTATION, 1)
    background = _choose_background(image) if image.has_transparency_data else ""
    strips = (_convert(strip, background) for strip in _iter_strips(image))
    first = next(strips)
    swaps_axes = orientation in (5, 6, 7, 8)
    shape = (width, height) if swaps_axes else (height, width)
    upright = np.empty((*shape, *first.shape[2:]), np.uint8)
    turn = _TURNS.get(orientation)
    stored = upright if turn is None else turn(upright)  # a view
    top = 0
    for strip in chain((first,), strips):
        stored[top : top + len(strip)] = strip
        top += len(strip)
    return upright


def _iter_strips(image: Image.Image) -> Iterator[Image.Image]:
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows)))


def _convert(strip: Image.Image, background: str) -> NDArray[np.uint8]:
    """Return 8-bit grey or RGB; what is transparent is laid over a background."""
    from PIL import Image

    if strip.mode.startswith("I"):  # 16 bits per pixel, which Pillow's own conversion truncates
        values = np.clip(np.asarray(strip).astype(np.int64), 0, 65_535)
        return (values // 257).astype(np.uint8)
    if background:
        drawn = strip.convert("RGBA")
        strip = Image.alpha_composite(Image.new("RGBA", drawn.size, background), drawn)
    return np.asarray(strip if strip.mode == "L" else strip.convert("RGB"))


def _choose_background(image: Image.Image) -> str:
    is_drawn = False
    for strip in _iter_strips(image):
        pixels = np.asarray(strip.convert("RGBA"))
        drawn = pixels[pixels[..., 3] >= OPAQUE, :3]
        if len(drawn) and drawn.mean(axis=1).min() < LIGHT_INK:
            return "white"
        is_drawn = is_drawn or len(drawn) > 0
    return "black" if is_drawn else "white"
