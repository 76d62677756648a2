"""Image files -> uint8 arrays that look like the data set a network was trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.errors import DataError
from mnistcli.image_decoding import CHECK_HINT, FORMATS_HINT, decode_image
from mnistcli.layers import Shape

IMAGE_NAME = re.compile(r"^[^.].*\.(png|jpe?g|gif|bmp|tiff?|webp|p[bgpn]m)$", re.IGNORECASE)

DIGIT_SHAPE, DIGIT_SIZE = (28, 28), 20  # of MNIST: the picture, and the digit's longer side
DIGIT_CENTRE = 14  # where MNIST's centres of mass lie on average, counting pixels from 0
COLOUR_SHAPE = (32, 32, 3)
INK_SHARE = 0.2  # of the darkest ink: what is fainter does not count when the digit is cropped


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
    except FileNotFoundError:
        raise DataError(str(path), "no such file or folder", "correct the path") from None
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
    if image_shape == DIGIT_SHAPE:
        return _fit_digit(_to_grey(decode_image(source, where)))
    if image_shape == COLOUR_SHAPE:
        return DecodedImage(_fit_colour_image(decode_image(source, where)), inverted=False)
    raise DataError(where, f"the network takes {image_shape}, not images", "give it numbers")


def _to_grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def _fit_colour_image(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut out the middle square, as large as possible, and resize it."""
    from PIL import Image

    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side]).convert("RGB")
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
