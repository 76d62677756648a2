"""Prepare image files as network input: arrays like the images of the data set.

A digit is found on its picture and framed as MNIST's digits are (`prepare_digit`); other pictures
are scaled to the size of the data set's images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.errors import DataError
from mnistcli.file_kinds import FORMATS_HINT, explain_missing
from mnistcli.images.background import (
    Page,
    average_down,
    detect_close_up,
    detect_ink_side,
    estimate_background,
    find_page,
    make_flat_background,
    measure_border,
)
from mnistcli.images.decoding import (
    CHECK_HINT,
    IMAGE_NAME,
    fit_image,
    open_decoded,
    to_mode,
)
from mnistcli.images.ink import (
    CUT_SHARE,
    Components,
    Floats,
    Ink,
    Ints,
    Mask,
    choose_digit,
    find_components,
    find_strongest,
    join_boxes,
    measure_ink,
    measure_sharpness,
    remove_lines,
)
from mnistcli.images.options import (
    AUTO,
    DIGIT_SHAPE,
    Background,
    Centre,
    Crop,
    ImageKind,
    InkSide,
    Lines,
    Preparation,
    PreparationOptions,
    Regions,
    Size,
)

WORKING_SIDE = 640  # pixels of the longer side: enough for a digit of a twentieth of it
FRAME_SIZE, DIGIT_SIZE = 28, 20  # pixels: the picture, and the digit's longer side
MIDDLE = 14  # where MNIST's centres of mass lie on average, counting pixels from 0
INK_LEVEL = 0.5  # density from which on a pixel is ink
EDGE_LEVELS = (0.2, 0.8)  # densities that count as none and as full ink: MNIST was black and white
WEAKEST_AFTER_LINES = 0.6  # a digit's density next to darker lines
# Limits of a digit: shares of the background's light, deviations of noise, pixels, shares.
MIN_CONTRAST, MIN_DEVIATIONS, MAX_NOISE = 0.15, 5.0, 0.15
MIN_SIDE, MIN_SIDE_SHARE = 6, 0.02
MIN_INK_SHARE, MAX_REGIONS = 0.3, 100
MIN_FILL = 0.06  # share of its box that a digit's ink covers
SHARPNESS = (0.7, 2.0)  # density across a stroke's outline; shadows below, halos of lines above
CLOSE_UP_SHARE = 0.6  # of the picture's height or width, where the digit fills it
OTHER_SIDE: dict[InkSide, InkSide] = {"dark": "light", "light": "dark"}
LIGHT = 128  # of 255: a border that is lighter is paper
GLOB = re.compile(r"[*?[]")


@dataclass(frozen=True)
class DecodedImage:
    """An image file as an image of a data set.

    Attributes:
        pixels: uint8 [*image_shape]; digits are light on a dark background, as in MNIST.
        preparation: what was done to the file's picture.
    """

    pixels: NDArray[np.uint8]
    preparation: Preparation


def prepare_digit(
    picture: NDArray[np.uint8], options: PreparationOptions
) -> tuple[NDArray[np.uint8], Preparation] | None:
    """Find the digit on a picture, and frame it as in MNIST.

    Args:
        picture: uint8 [height, width] or [height, width, 3].
        options: of the preparation; `prepare` is taken to be `auto`.

    Returns:
        uint8 [28, 28], light on black, and what was done; None if there is no digit.
    """
    skipped = options.skipped
    full = picture.reshape(*picture.shape[:2], -1)
    small = average_down(full, WORKING_SIDE)
    page, found = _find_page_and_digit(small, options)
    if found is None:
        return None
    corner = (page.top, page.left) if page is not None else (0, 0)
    scale = (full.shape[0] / small.shape[0], full.shape[1] / small.shape[1])
    regions, kept = found.components, found.make_mask()
    box = join_boxes(regions.boxes[found.kept])
    if "specks" in skipped:
        kept, box = regions.labels > 0, join_boxes(regions.boxes)
    is_whole = "crop" in skipped
    if is_whole:
        box = (0, 0, *kept.shape)
    pixels, centre = _frame_digit(
        _crop_ink(found, kept, box),
        FRAME_SIZE if is_whole else DIGIT_SIZE,
        is_centred="centre" not in skipped,
    )
    return pixels, Preparation(
        prepare="auto",
        picture=Size(full.shape[1], full.shape[0]),
        ink=found.side,
        contrast=round(found.ink.contrast, 4),
        page=None if page is None else _scale_box((0, 0, *page.picture.shape[:2]), corner, scale),
        ground=None if "ground" in skipped else _describe_background(found.background, found.side),
        lines=None if "lines" in skipped else Lines(found.line_count),
        specks=None if "specks" in skipped else Regions(len(regions.areas), len(found.kept)),
        crop=None if is_whole else _scale_box(box, corner, scale),
        centre=centre,
    )


def expand_paths(paths: Sequence[Path]) -> list[Path]:
    """Expand directories and glob patterns to image files, in natural order (2.png before 10.png).

    A path that exists is not treated as a pattern.

    Raises:
        DataError: a path does not exist, a directory is unreadable or has no images, or no image
            fits a pattern.
    """
    return [file for path in paths for file in _expand_path(path)]


def read_image(
    source: Path | bytes,
    where: str,
    image_shape: tuple[int, ...],
    options: PreparationOptions = AUTO,
    kind: ImageKind | None = None,
) -> DecodedImage:
    """Return an image file as an image of a data set.

    Args:
        source: the file, or its contents.
        where: the file's name, for messages.
        image_shape: (height, width) for grey, (height, width, 3) for colour; of digits (28, 28).
        options: how it is prepared.
        kind: what the data set's images show. digit: found and framed as MNIST's are, unless the
            picture is 28 x 28 already; picture: in colour its middle square, in grey the whole,
            light on dark; custom: the whole, resized. None where nothing says it: 28 x 28 in grey
            is a digit.

    Raises:
        DataError: no such file, no image, damaged, too large, or not to be resized; no digit on
            it; or a shape that is no image's.
    """
    kind = kind or ("digit" if image_shape == DIGIT_SHAPE else "picture")
    is_image = len(image_shape) == 2 or image_shape[2:] == (3,)
    if not is_image or (kind == "digit" and image_shape != DIGIT_SHAPE) or kind == "numbers":
        what = f"the network takes {image_shape}, not images"
        hint = "give it numbers: an array in an .npy file, or rows of its data with --split"
        raise DataError(where, what, hint)
    with open_decoded(source, where) as pixels:
        if kind == "custom":
            return _resize(pixels, where, image_shape, options)
        if kind == "digit":
            return _fit_digit(pixels, where, options)
        if len(image_shape) == 3:
            return _fit_colour_image(pixels, where, image_shape, options)
        return _fit_grey_image(pixels, where, image_shape, options)


@dataclass(frozen=True)
class _DigitCandidate:
    """A candidate for the digit, and the measurements that led to it."""

    side: InkSide
    background: Floats
    ink: Ink
    line_count: int
    components: Components
    kept: Ints

    def make_mask(self) -> Mask:
        """Return the mask of the candidate's regions."""
        is_kept = np.zeros(len(self.components.areas) + 1, np.bool_)
        is_kept[self.kept + 1] = True
        return np.asarray(is_kept[self.components.labels])

    def is_digit(self) -> bool:
        """Return whether it is a digit, not noise, shadows, lines or dust on an empty page."""
        ink, areas = self.ink, self.components.areas
        if not 0 < len(self.kept) <= len(areas) <= MAX_REGIONS:
            return False
        if ink.contrast < MIN_CONTRAST or ink.noise > MAX_NOISE:
            return False
        area = int(areas[self.kept].sum())
        top, left, bottom, right = join_boxes(self.components.boxes[self.kept])
        height, width = bottom - top, right - left
        if max(height, width) < max(MIN_SIDE, MIN_SIDE_SHARE * max(ink.density.shape)):
            return False
        if area < max(MIN_INK_SHARE * int(areas.sum()), MIN_FILL * height * width):
            return False
        sharpness = measure_sharpness(ink.density, self.make_mask())
        return SHARPNESS[0] <= sharpness <= SHARPNESS[1]

    def fills_picture(self) -> bool:
        """Return whether the picture was cut to the digit's size, or a little more."""
        top, left, bottom, right = join_boxes(self.components.boxes[self.kept])
        height, width = self.ink.density.shape
        sides = ((bottom - top) / height, (right - left) / width)
        touches = top == 0 or left == 0 or bottom == height or right == width
        return min(sides) >= CUT_SHARE or (max(sides) >= CLOSE_UP_SHARE and not touches)


def _find_page_and_digit(
    picture: NDArray[np.uint8], options: PreparationOptions
) -> tuple[Page | None, _DigitCandidate | None]:
    """Look for the digit on a page that is on something darker, or else on the whole picture.

    A part of the picture that is merely lit is told from a page by its fainter ink.
    """
    page = None if "page" in options.skipped else find_page(picture)
    on_page = _find_digit(page.picture, options) if page is not None else None
    if page is not None and page.is_certain:
        return page, on_page
    anywhere = _find_digit(picture, options)
    if on_page is None or (anywhere and anywhere.ink.contrast >= on_page.ink.contrast):
        return None, anywhere
    return page, on_page


def _find_digit(picture: NDArray[np.uint8], options: PreparationOptions) -> _DigitCandidate | None:
    """Look for a digit of the more probable ink side, then of the other one."""
    if options.ink != "auto":
        candidate = _find_candidate(picture, options.ink, options)
        return candidate if candidate.is_digit() else None
    close_up = _find_close_up(picture, options)
    if close_up is not None:
        return close_up
    likely = detect_ink_side(picture)
    for side in (likely, OTHER_SIDE[likely]):
        candidate = _find_candidate(picture, side, options)
        if candidate.is_digit():
            return candidate
    return None


def _find_close_up(
    picture: NDArray[np.uint8], options: PreparationOptions
) -> _DigitCandidate | None:
    """Look for a digit that fills the picture, whose background is taken to have one level."""
    side = detect_close_up(picture)
    if side is None:
        return None
    candidate = _find_candidate(
        picture, side, replace(options, skipped=options.skipped | {"ground"})
    )
    return candidate if candidate.is_digit() and candidate.fills_picture() else None


def _find_candidate(
    picture: NDArray[np.uint8], side: InkSide, options: PreparationOptions
) -> _DigitCandidate:
    """Measure the ink, and choose the regions of it that may be a digit."""
    levels = picture if side == "dark" else 255 - picture
    is_flat = "ground" in options.skipped
    background = make_flat_background(levels) if is_flat else estimate_background(levels)
    ink, count = measure_ink(levels, background), 0
    if "lines" not in options.skipped:
        ink, count = _remove_lines(ink)
    components = find_components(ink.density > max(INK_LEVEL, MIN_DEVIATIONS * ink.noise))
    return _DigitCandidate(side, background, ink, count, components, choose_digit(components))


def _remove_lines(ink: Ink) -> tuple[Ink, int]:
    """Remove ruled lines, and return how many."""
    density, count = remove_lines(ink.density)
    if not count:
        return ink, 0
    # Lines darker than the digit have been taken for its ink.
    strongest = min(1.0, max(WEAKEST_AFTER_LINES, find_strongest(density)))
    rest = density / np.float32(strongest)
    return Ink(rest, ink.contrast * strongest, ink.noise / strongest), count


def _crop_ink(candidate: _DigitCandidate, kept: Mask, box: tuple[int, int, int, int]) -> Floats:
    """Return the ink of the kept regions in a box, with the grey pixels around them."""
    top, left, bottom, right = box
    low, high = EDGE_LEVELS
    sharp = np.clip((candidate.ink.density - low) / (high - low), 0, 1) * _dilate_mask(kept)
    return np.asarray(sharp[top:bottom, left:right], np.float32)


def _frame_digit(
    density: Floats, size: int, *, is_centred: bool
) -> tuple[NDArray[np.uint8], Centre | None]:
    """Scale a digit, and place it in a frame as MNIST does.

    See Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".

    Args:
        density: float32 [height, width], 0 for paper and 1 for ink, cropped to the digit.
        size: of its longer side, at most 28 pixels.
        is_centred: whether it is centred by mass, or else by its bounding box.

    Returns:
        uint8 [28, 28], light on black, its strongest ink 255; and the offset by centring.
    """
    scale = size / max(density.shape)
    height, width = (max(1, round(side * scale)) for side in density.shape)
    levels = np.clip(_shrink(density, (height, width)), 0, 1)
    levels *= 255 / max(1 / 255, float(levels.max()))
    row, column = middle = ((FRAME_SIZE - height) // 2, (FRAME_SIZE - width) // 2)
    if is_centred:
        row, column = (_place(levels.sum(axis=axis)) for axis in (1, 0))
    frame = np.zeros((FRAME_SIZE, FRAME_SIZE), np.uint8)
    frame[row : row + height, column : column + width] = np.rint(levels)
    moved = Centre(right=column - middle[1], down=row - middle[0])
    return frame, moved if is_centred else None


def _shrink(levels: Floats, shape: tuple[int, int]) -> Floats:
    """Scale levels [h, w] to a shape, anti-aliased: float32 [*shape]."""
    from PIL import Image

    return np.asarray(Image.fromarray(levels).resize(shape[::-1], Image.Resampling.HAMMING))


def _place(masses: Floats) -> int:
    """Return where a profile begins if its mass is centred and nothing of it is cut off."""
    centre = float(masses @ np.arange(len(masses)) / max(1.0, float(masses.sum())))
    return min(max(0, round(MIDDLE - centre)), FRAME_SIZE - len(masses))


def _dilate_mask(mask: Mask) -> Mask:
    """Dilate a mask by one pixel."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])


def _describe_background(background: Floats, side: InkSide) -> Background:
    levels = background.mean(axis=2)
    level = float(np.median(levels))
    unevenness = 1 - float(levels.min() / levels.max())
    return Background(round(level if side == "dark" else 255 - level), round(unevenness, 4))


def _scale_box(
    box: tuple[int, int, int, int], corner: tuple[int, int], scale: tuple[float, float]
) -> Crop:
    """Return a box of the page in the coordinates of the file's picture."""
    top, bottom = (round((row + corner[0]) * scale[0]) for row in box[::2])
    left, right = (round((column + corner[1]) * scale[1]) for column in box[1::2])
    return Crop(left, top, right - left, bottom - top)


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
    # For patterns that no shell has expanded, as on Windows or with ** in some shells.
    from glob import glob

    if not GLOB.search(str(path)):
        missing = explain_missing(str(path), "no such file or folder", "correct the path")
        raise DataError(str(path), *missing)
    found = [Path(name) for name in glob(str(path), recursive=True)]  # noqa: PTH207
    files = [file for file in found if IMAGE_NAME.search(file.name) and file.is_file()]
    if not files:
        raise DataError(str(path), "no image fits the pattern", "correct the path")
    return sorted(files, key=_make_natural_key)


def _make_natural_key(file: Path) -> tuple[list[str | int], str]:
    # Runs of digits, every second part of the split, are compared as numbers.
    name = str(file)
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _resize(
    pixels: NDArray[np.uint8], where: str, image_shape: tuple[int, ...], options: PreparationOptions
) -> DecodedImage:
    if options.prepare == "none":
        _check_size(pixels, image_shape, where)
    size = Size(pixels.shape[1], pixels.shape[0])
    return DecodedImage(fit_image(pixels, image_shape), Preparation(options.prepare, size))


def _fit_colour_image(
    pixels: NDArray[np.uint8], where: str, image_shape: tuple[int, ...], options: PreparationOptions
) -> DecodedImage:
    """Cut out the middle square, as large as possible, and resize it; or resize the whole."""
    height, width = pixels.shape[:2]
    size, side = Size(width, height), min(height, width)
    crop = None
    if options.prepare == "none":
        _check_size(pixels, image_shape, where)
    elif options.prepare == "auto":
        crop = Crop((width - side) // 2, (height - side) // 2, side, side)
        pixels = pixels[crop.top : crop.top + side, crop.left : crop.left + side]
    pixels = _scale_whole(to_mode(pixels, "RGB"), image_shape)
    return DecodedImage(pixels, Preparation(options.prepare, size, crop=crop))


def _fit_digit(picture: NDArray[np.uint8], where: str, options: PreparationOptions) -> DecodedImage:
    is_framed = picture.shape[:2] == DIGIT_SHAPE
    if options.prepare == "auto" and not (is_framed and picture.any() and np.ptp(picture)):
        prepared = prepare_digit(picture, options)
        if prepared is None:
            hint = "--prepare resize shows the network the whole picture"
            raise DataError(where, "there is no digit on it", hint)
        return DecodedImage(*prepared)
    return _fit_grey_image(picture, where, DIGIT_SHAPE, options)


def _fit_grey_image(
    picture: NDArray[np.uint8],
    where: str,
    image_shape: tuple[int, ...],
    options: PreparationOptions,
) -> DecodedImage:
    """Scale the whole picture; where its border is light, make it light on dark."""
    if options.prepare == "none":
        _check_size(picture, image_shape, where)
    grey = to_mode(picture, "L")
    side = options.ink
    if side == "auto":
        is_paper = options.prepare != "none" and measure_border(grey) >= LIGHT
        side = "dark" if is_paper else "light"
    pixels = _scale_whole(255 - grey if side == "dark" else grey, image_shape)
    size = Size(picture.shape[1], picture.shape[0])
    return DecodedImage(pixels, Preparation(options.prepare, size, ink=side))


def _check_size(picture: NDArray[np.uint8], shape: tuple[int, ...], where: str) -> None:
    if picture.shape[:2] != shape[:2]:
        (height, width), (rows, columns) = picture.shape[:2], shape[:2]
        what = f"the picture has {width} x {height} pixels, the network takes {columns} x {rows}"
        raise DataError(where, what, "leave --prepare none out")


def _scale_whole(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Scale a whole picture, its proportions kept, onto a background as light as its border."""
    from PIL import Image

    scale = min(shape[0] / pixels.shape[0], shape[1] / pixels.shape[1])
    height, width = (max(1, round(size * scale)) for size in pixels.shape[:2])
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    whole = np.empty(shape, np.uint8)
    whole[:] = np.rint(measure_border(pixels))
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    whole[top : top + height, left : left + width] = np.asarray(small)
    return whole
