"""Image files -> uint8 arrays that look like the data set a network was trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.errors import DataError
from mnistcli.images.background import measure_border
from mnistcli.images.decoding import (
    CHECK_HINT,
    FORMATS_HINT,
    IMAGE_NAME,
    decode_image,
    fit_image,
    to_mode,
)
from mnistcli.images.options import AUTO, Crop, Preparation, Size, Treatment
from mnistcli.images.preparation import prepare_digit
from mnistcli.models.layers import Shape

DIGIT_SHAPE = (28, 28)
COLOUR_SHAPE = (32, 32, 3)
LIGHT = 128  # of 255: a border that is lighter is paper
GLOB = re.compile(r"[*?[]")


@dataclass(frozen=True)
class DecodedImage:
    """An image in the form of its data set.

    Attributes:
        pixels: uint8 [*image_shape]; digits are light on a dark ground, as in MNIST.
        preparation: what was done to it.
    """

    pixels: NDArray[np.uint8]
    preparation: Preparation


def expand_paths(paths: Sequence[Path]) -> list[Path]:
    """Replace directories and patterns by image files, in natural order (2.png before 10.png).

    A path that exists is never a pattern, whatever its characters.

    Raises:
        DataError: a path does not exist, a directory is unreadable or has no images, or nothing
            fits a pattern.
    """
    return [file for path in paths for file in _expand_path(path)]


def _expand_path(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            path.stat()
            return [path]
        files = [file for file in path.iterdir() if IMAGE_NAME.search(file.name) and file.is_file()]
    except FileNotFoundError:
        return _expand_pattern(path)
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror}", CHECK_HINT) from None
    if not files:
        raise DataError(str(path), "the directory holds no images", FORMATS_HINT)
    return sorted(files, key=_make_natural_key)


def _expand_pattern(path: Path) -> list[Path]:
    """Find what `scans/**/*.png` means, where no shell has done so."""
    from glob import glob

    if not GLOB.search(str(path)):
        raise DataError(str(path), "no such file or folder", "correct the path")
    found = [Path(name) for name in glob(str(path), recursive=True)]  # noqa: PTH207
    files = [file for file in found if IMAGE_NAME.search(file.name) and file.is_file()]
    if not files:
        raise DataError(str(path), "no image fits the pattern", "correct the path")
    return sorted(files, key=_make_natural_key)


def _make_natural_key(file: Path) -> tuple[list[str | int], str]:
    """Compare runs of digits as numbers; they are every second part of the split."""
    name = str(file)
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def read_image(
    source: Path | bytes, where: str, image_shape: Shape, treatment: Treatment = AUTO
) -> DecodedImage:
    """Return an image file as an example of its data set.

    Args:
        source: the file, or its contents.
        where: what messages call it.
        image_shape: (28, 28): a digit, found and framed as MNIST's are, unless the picture is
            28 x 28 already; (32, 32, 3): the middle square in RGB.
        treatment: how it is prepared.

    Raises:
        DataError: no such file, no image, damaged, too large; no digit on it; or a shape that is
            no image's.
    """
    if image_shape == DIGIT_SHAPE:
        return _fit_digit(decode_image(source, where), where, treatment)
    if image_shape == COLOUR_SHAPE:
        return _fit_colour_image(decode_image(source, where), where, treatment)
    what = f"the network takes {image_shape}, not images"
    hint = "give it numbers, as an array in an .npy file, say, or rows of its data with --split"
    raise DataError(where, what, hint)


def read_own_image(
    source: Path | bytes, where: str, image_shape: Shape, treatment: Treatment
) -> DecodedImage:
    """Return an image file as a folder of one's own images has them: the whole of it, resized.

    Args:
        source: the file, or its contents.
        where: what messages call it.
        image_shape: (height, width) for grey, (height, width, 3) for colour.
        treatment: `none` refuses pictures of another size.

    Raises:
        DataError: no such file, no image, damaged, too large, or not to be resized.
    """
    pixels = decode_image(source, where)
    if treatment.prepare == "none":
        _check_size(pixels, image_shape, where)
    size = Size(pixels.shape[1], pixels.shape[0])
    return DecodedImage(fit_image(pixels, image_shape), Preparation(treatment.prepare, size))


def _fit_colour_image(pixels: NDArray[np.uint8], where: str, treatment: Treatment) -> DecodedImage:
    """Cut out the middle square, as large as possible, and resize it; or resize the whole."""
    height, width = pixels.shape[:2]
    size, side = Size(width, height), min(height, width)
    crop = None
    if treatment.prepare == "none":
        _check_size(pixels, COLOUR_SHAPE, where)
    elif treatment.prepare == "auto":
        crop = Crop((width - side) // 2, (height - side) // 2, side, side)
        pixels = pixels[crop.top : crop.top + side, crop.left : crop.left + side]
    pixels = _scale_whole(to_mode(pixels, "RGB"), COLOUR_SHAPE)
    return DecodedImage(pixels, Preparation(treatment.prepare, size, crop=crop))


def _fit_digit(picture: NDArray[np.uint8], where: str, treatment: Treatment) -> DecodedImage:
    """Make light ink on black of it, in MNIST's frame."""
    is_framed = picture.shape[:2] == DIGIT_SHAPE
    if treatment.prepare == "auto" and not (is_framed and picture.any() and np.ptp(picture)):
        prepared = prepare_digit(picture, treatment)
        if prepared is None:
            hint = "--prepare resize shows the network the whole picture"
            raise DataError(where, "there is no digit on it", hint)
        return DecodedImage(*prepared)
    if treatment.prepare == "none":
        _check_size(picture, DIGIT_SHAPE, where)
    grey = to_mode(picture, "L")
    side = treatment.ink
    if side == "auto":
        is_paper = treatment.prepare != "none" and measure_border(grey) >= LIGHT
        side = "dark" if is_paper else "light"
    pixels = _scale_whole(255 - grey if side == "dark" else grey, DIGIT_SHAPE)
    size = Size(picture.shape[1], picture.shape[0])
    return DecodedImage(pixels, Preparation(treatment.prepare, size, ink=side))


def _check_size(picture: NDArray[np.uint8], shape: Shape, where: str) -> None:
    """Refuse to change what is to be taken as it is."""
    if picture.shape[:2] != shape[:2]:
        (height, width), (rows, columns) = picture.shape[:2], shape[:2]
        what = f"the picture has {width} x {height} pixels, the network takes {columns} x {rows}"
        raise DataError(where, what, "leave --prepare none out")


def _scale_whole(pixels: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """Scale a whole picture, its proportions kept, onto a ground as light as its border."""
    from PIL import Image

    scale = min(shape[0] / pixels.shape[0], shape[1] / pixels.shape[1])
    height, width = (max(1, round(size * scale)) for size in pixels.shape[:2])
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    whole = np.empty(shape, np.uint8)
    whole[:] = np.rint(measure_border(pixels))
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    whole[top : top + height, left : left + width] = np.asarray(small)
    return whole
