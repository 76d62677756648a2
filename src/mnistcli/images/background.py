"""Estimate the background of a digit, and find the page that it is on.

The background is what a morphological closing leaves: strokes, which are narrow, take the level of
the paper next to them, while shadows and vignettes, which are wide, keep their edges. See J. Serra,
"Image Analysis and Mathematical Morphology", 1982.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistcli.images.ink import Floats, Mask, find_components
from mnistcli.images.options import InkSide

CLOSING_SIDE = 64  # pixels: light changes slowly, and averages have little noise
STROKE_SHARE = 0.3  # the widest stroke, as a share of the longer side
CLOSE_UP_INK = 0.1  # share of ink from which on a digit fills the picture
MIN_BACKGROUND = 8  # of 255: darker levels are raised to it, since ink is a ratio to them
MEDIAN_SIDE, MEDIAN_STEP = 48, 4  # pixels of a coarse picture, and between its windows
MEDIAN_SHARE = 0.35  # size of a window, as a share of the longer side
COARSE_SIDE = 128  # pixels
MIN_SHARE, MAX_BORDER = 0.25, 0.6  # shares of the picture, and of its border, that a page takes
CERTAIN_BORDER = 0.1  # a region that takes more of the border may be a lit part of a page
MIN_BLANK = 0.6  # share of a page that has no ink
MIN_CONTRAST = 0.2  # of the page to its surroundings, as a share of its level
MIN_SQUARENESS = 0.85  # overlap of a page with the quadrilateral of its corners
RING, MAX_LIGHT = (2, 6), 0.1  # coarse pixels around a page, and what share may be light
MARGIN = 2  # coarse pixels inside a page's edge that are left out


@dataclass(frozen=True)
class Page:
    """A page that was cut out of a picture.

    Attributes:
        picture: uint8 [height, width, channels]; pixels outside the page have its median colour.
        top, left: its position in the picture.
        is_certain: whether all its sides are inside the picture.
    """

    picture: NDArray[np.uint8]
    top: int
    left: int
    is_certain: bool


def detect_ink_side(picture: NDArray[np.uint8]) -> InkSide:
    """Return whether ink is darker or lighter than its background.

    Ink covers less than half of any neighbourhood, so it is what differs most from local medians.

    Args:
        picture: uint8 [height, width, channels].
    """
    coarse = average_down(picture, MEDIAN_SIDE).mean(axis=2, dtype=np.float32)
    size = round(max(coarse.shape) * MEDIAN_SHARE) | 1
    padded = np.pad(coarse, size // 2, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    medians = np.median(windows[::MEDIAN_STEP, ::MEDIAN_STEP], axis=(2, 3)).astype(np.float32)
    height, width = coarse.shape
    contrast = (coarse - interpolate(medians, (height, width))).astype(np.float64)
    # A high power lets a few strokes outweigh much faint unevenness.
    return "light" if (np.sign(contrast) * contrast**4).sum() > 0 else "dark"


def estimate_background(picture: NDArray[np.uint8]) -> Floats:
    """Return the background's level at every pixel of a picture with dark ink.

    Args:
        picture: uint8 [height, width, channels], ink darker than the background.

    Returns:
        float32 [height, width, channels], in levels of 255, at least `MIN_BACKGROUND`.
    """
    coarse = average_down(picture, CLOSING_SIDE).astype(np.float32)
    size = max(3, round(max(coarse.shape[:2]) * STROKE_SHARE)) | 1
    height, width, channels = picture.shape
    closed = [_close(coarse[..., channel], size) for channel in range(channels)]
    background = np.stack([interpolate(levels, (height, width)) for levels in closed], axis=2)
    return np.maximum(background, MIN_BACKGROUND)


def make_flat_background(picture: NDArray[np.uint8]) -> Floats:
    """Return the border's median level, in the shape of `estimate_background`'s result."""
    return np.full(picture.shape, np.maximum(measure_border(picture), MIN_BACKGROUND), np.float32)


def measure_border(picture: NDArray[np.uint8]) -> Floats:
    """Return the median level of a picture's outermost pixels: float32 [channels]."""
    return np.asarray(np.median(_get_border(picture), axis=0), np.float32)


def detect_close_up(picture: NDArray[np.uint8]) -> InkSide | None:
    """Return the ink side of a picture that the digit fills; None if there is too little ink.

    In such a picture local medians may be those of the ink, so the border decides, of which most is
    background.
    """
    coarse = average_down(picture, CLOSING_SIDE).mean(axis=2)
    is_light = coarse > _split_levels(coarse)
    side: InkSide = "dark" if _get_border(is_light).mean() >= 0.5 else "light"
    ink_share = float((is_light if side == "light" else ~is_light).mean())
    return side if ink_share >= CLOSE_UP_INK else None


def find_page(picture: NDArray[np.uint8]) -> Page | None:
    """Cut out a light page with four corners; None if there is none.

    Args:
        picture: uint8 [height, width, channels].
    """
    coarse = average_down(picture, COARSE_SIDE).mean(axis=2)
    is_light = coarse > _split_levels(coarse)
    regions = find_components(is_light)
    if not len(regions.areas):
        return None
    bright = regions.labels == regions.areas.argmax() + 1
    mask = _fill_holes(bright)
    around = _dilate_mask(mask, RING[1]) & ~_dilate_mask(mask, RING[0])
    if not _is_page(mask, bright, coarse) or is_light[around].sum() > MAX_LIGHT * around.sum():
        return None
    inner = interpolate((~_dilate_mask(~mask, MARGIN)).astype(np.float32), picture.shape[:2]) > 0.5
    if not inner.any():
        return None
    (top, bottom), (left, right) = (_find_extent(inner, axis) for axis in (1, 0))
    is_certain = float(_get_border(mask).mean()) <= CERTAIN_BORDER
    colour = np.median(picture[inner], axis=0)
    cut = np.where(inner[..., np.newaxis], picture, np.rint(colour).astype(np.uint8))
    return Page(np.ascontiguousarray(cut[top:bottom, left:right]), top, left, is_certain)


def average_down(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Shrink a picture by averaging, so that no side is longer than `side`.

    Args:
        picture: uint8 [height, width, channels], one channel or three.
        side: in pixels; a smaller picture is returned as it is.
    """
    from PIL import Image

    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(size * scale)) for size in picture.shape[:2])
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    small = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    return small.reshape(height, width, picture.shape[2])


def interpolate(levels: Floats, shape: tuple[int, int]) -> Floats:
    """Enlarge smooth levels [h, w] to a shape by bilinear interpolation: float32 [*shape]."""
    from PIL import Image

    stretched = Image.fromarray(levels).resize(shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(stretched)


def _get_border(picture: NDArray[Any]) -> NDArray[Any]:
    """Return a picture's outermost pixels in one axis: [n], or [n, channels]."""
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def _split_levels(levels: NDArray[np.floating]) -> float:
    """Return the threshold between dark and light levels, 0 to 255, by Otsu's method.

    N. Otsu, "A threshold selection method from gray-level histograms", 1979.
    """
    counts = np.bincount(levels.astype(np.intp).ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    difference = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return float((below * above * difference**2).argmax()) + 0.5


def _close(levels: Floats, size: int) -> Floats:
    """Apply a morphological closing: a dilation, then an erosion, by a square."""
    padded = _extend(levels, size // 2 * 2)
    return -_dilate(-_dilate(padded, size), size)


def _extend(levels: Floats, margin: int) -> Floats:
    # Light that fades towards an edge continues to fade beyond it; nothing becomes brighter.
    fading = np.pad(levels, margin, mode="reflect", reflect_type="odd")
    return np.asarray(np.minimum(fading, np.pad(levels, margin, mode="edge")), np.float32)


def _dilate(levels: Floats, size: int) -> Floats:
    """Return the maximum of each square window inside the picture."""
    for axis in (0, 1):
        levels = np.lib.stride_tricks.sliding_window_view(levels, size, axis).max(axis=-1)
    return levels


def _find_extent(mask: Mask, axis: int) -> tuple[int, int]:
    """Return the first row or column with a set pixel, and the one after the last."""
    places = np.flatnonzero(np.any(mask, axis=axis))
    return int(places[0]), int(places[-1]) + 1


def _fill_holes(mask: Mask) -> Mask:
    """Set the pixels that cannot be reached from the picture's edge."""
    outside = find_components(np.pad(~mask, 1, constant_values=True))
    return np.asarray(outside.labels != outside.labels[0, 0])[1:-1, 1:-1]


def _is_page(mask: Mask, bright: Mask, coarse: NDArray[np.floating]) -> bool:
    """Return whether a region is a page, not a chalk digit, a lit half, or paper all over."""
    if mask.mean() < MIN_SHARE or float(_get_border(mask).mean()) > MAX_BORDER or mask.all():
        return False
    if bright.sum() < MIN_BLANK * mask.sum():
        return False
    level = float(np.median(coarse[bright]))
    if level - float(np.median(coarse[~mask])) < MIN_CONTRAST * level:
        return False
    return _measure_squareness(mask) >= MIN_SQUARENESS


def _measure_squareness(mask: Mask) -> float:
    """Return the intersection over union with the quadrilateral of the four corners.

    A corner is the pixel that is farthest along a diagonal.
    """
    rows, columns = np.nonzero(mask)
    sums, differences = rows + columns, columns - rows
    corners = [sums.argmin(), differences.argmax(), sums.argmax(), differences.argmin()]
    points = np.stack([rows, columns], axis=1)[corners]
    y, x = np.indices(mask.shape)
    inside = np.ones_like(mask)
    for (row, column), (next_row, next_column) in zip(points, np.roll(points, -1, 0), strict=True):
        turn = (next_column - column) * (y - row) - (next_row - row) * (x - column)
        inside &= turn >= 0
    return float((mask & inside).sum() / (mask | inside).sum())


def _dilate_mask(mask: Mask, count: int) -> Mask:
    """Dilate a mask by a number of pixels."""
    for _ in range(count):
        padded = np.pad(mask, 1, mode="edge")
        rows = padded[:-2] | padded[1:-1] | padded[2:]
        mask = np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])
    return mask
