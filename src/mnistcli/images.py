"""Image files -> uint8 arrays that look like the data set a network was trained on."""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnistcli.errors import DataError
from mnistcli.layers import Shape

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

DIGIT_SHAPE, DIGIT_SIZE = (28, 28), 20  # of MNIST: the picture, and the digit's longer side
DIGIT_CENTRE = 14  # where MNIST's centres of mass lie on average, counting pixels from 0
COLOUR_SHAPE = (32, 32, 3)
INK_SHARE = 0.2  # of the darkest ink: what is fainter does not count when the digit is cropped

# What Pillow's decoders raise for damaged files, besides its own OSErrors.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, EOFError,
    ArithmeticError, MemoryError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class DecodedImage:
    """An image in the form of its data set.

    Attributes:
        pixels: uint8 [*image_shape]; digits are light on a dark ground, as in MNIST.
        inverted: the file had dark ink on a light ground.
    """

    pixels: NDArray[np.uint8]
    inverted: bool


def expand_paths(paths: Sequence[Path]) -> list[Path]:
    """Replace directories by their image files, in natural order (2.png before 10.png).

    Raises:
        DataError: a path does not exist, or a directory is unreadable or has no images.
    """
    return [file for path in paths for file in _expand_path(path)]


def _expand_path(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            path.stat()
            return [path]
        files = [file for file in path.iterdir() if IMAGE_NAME.search(file.name) and file.is_file()]
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror}", CHECK_HINT) from None
    if not files:
        raise DataError(str(path), "the directory holds no images", FORMATS_HINT)
    return sorted(files, key=_make_natural_key)


def _make_natural_key(file: Path) -> tuple[list[str | int], str]:
    """Compare runs of digits as numbers; they are every second part of the split."""
    parts = re.split(r"(\d+)", file.name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], file.name


def read_image(source: Path | bytes, where: str, image_shape: Shape) -> DecodedImage:
    """Return an image file as an example of its data set.

    Args:
        source: the file, or its contents.
        where: what messages call it.
        image_shape: (28, 28): a digit in grey, centred as MNIST's are, unless the picture is
            28 x 28 already; (32, 32, 3): the middle square in RGB.

    Raises:
        DataError: no such file, no image, damaged, too large; or a shape that is no image's.
    """
    if image_shape not in (DIGIT_SHAPE, COLOUR_SHAPE):
        raise DataError(where, f"the network takes {image_shape}, not images", "give it numbers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damage that it can live with
        image = _open_image(source, where)
        try:
            upright = _decode_image(image)
            if image_shape == COLOUR_SHAPE:
                return DecodedImage(_fit_colour_image(upright), inverted=False)
            return _fit_digit(np.asarray(upright.convert("L")))
        except DECODER_ERRORS:
            raise DataError(where, DAMAGED, CHECK_HINT) from None


def _read_content(source: Path | bytes) -> bytes:
    """Read no more than is bearable, even of a file that never ends."""
    if isinstance(source, bytes):
        return source
    with source.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _open_image(source: Path | bytes, where: str) -> Image.Image:
    """Read the header; nothing is decoded before its size is known to be bearable."""
    from PIL import Image, UnidentifiedImageError

    content, too_large = b"", DataError(where, TOO_LARGE, "make it smaller")
    try:
        content = _read_content(source)
        image = Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        what = "is not an image that can be read" if content else "the file is empty"
        raise DataError(where, what, FORMATS_HINT) from None
    except Image.DecompressionBombError:
        raise too_large from None
    except DECODER_ERRORS as error:
        reason = getattr(error, "strerror", None)
        what = f"cannot be read: {reason}" if reason else DAMAGED
        raise DataError(where, what, CHECK_HINT) from None
    if image.width * image.height > MAX_PIXELS or len(content) > MAX_FILE_BYTES:
        raise too_large
    return image


def _decode_image(image: Image.Image) -> Image.Image:
    """Return the first frame, upright, in L or RGB, on white where it is transparent."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion cuts them off
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65_535)
        return Image.fromarray((values // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known white")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


def _fit_colour_image(image: Image.Image) -> NDArray[np.uint8]:
    """Cut out the middle square, as large as possible, and resize it."""
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    return np.array(square.resize(COLOUR_SHAPE[:2], Image.Resampling.LANCZOS))


def _fit_digit(grey: NDArray[np.uint8]) -> DecodedImage:
    """Make light ink on black of it, centred by mass, http://yann.lecun.com/exdb/mnist/."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    inverted = bool(np.median(border) >= 128)
    if inverted:
        grey, border = 255 - grey, 255 - border
    if grey.shape == DIGIT_SHAPE:
        return DecodedImage(np.array(grey), inverted)
    ink = grey - np.minimum(grey, np.uint8(np.median(border)))
    return DecodedImage(
        _centre_ink(ink) if ink.any() else np.zeros(DIGIT_SHAPE, np.uint8), inverted
    )


def _centre_ink(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop to the ink, fit it into 20 x 20, put its centre of mass into the middle of 28 x 28."""
    from PIL import Image

    is_ink = ink > INK_SHARE * ink.max()
    rows, columns = (np.flatnonzero(is_ink.any(axis=axis)) for axis in (1, 0))
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = DIGIT_SIZE / max(cropped.shape)
    height, width = (max(1, round(size * scale)) for size in cropped.shape)
    small = Image.fromarray(cropped).resize((width, height), Image.Resampling.LANCZOS)
    values = np.asarray(small, np.float64)
    values *= 255 / max(1.0, values.max())
    digit = np.zeros(DIGIT_SHAPE, np.uint8)
    row, column = (_place(values.sum(axis=axis)) for axis in (1, 0))
    digit[row : row + height, column : column + width] = np.round(values)
    return digit


def _place(masses: NDArray[np.float64]) -> int:
    """Say where a profile begins, so that its mass is centred and nothing of it is cut off."""
    centre = float(masses @ np.arange(len(masses)) / max(1.0, masses.sum()))
    return min(max(0, round(DIGIT_CENTRE - centre)), DIGIT_SHAPE[0] - len(masses))
