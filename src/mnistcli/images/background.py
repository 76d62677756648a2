"""The ground that a digit stands on: how light it is where, and on which side of it the ink is.

The ground is what a morphological closing leaves: strokes, which are narrow, take the level of the
paper beside them, while shadows and vignettes, which are wide, keep their edges. See J. Serra,
"Image Analysis and Mathematical Morphology", 1982.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistcli.images.options import InkSide
from mnistcli.images.scaling import Floats, average_down, interpolate

CLOSING_SIDE = 64  # pixels: light changes slowly, and averages have little noise
STROKE_SHARE = 0.3  # of the picture's longer side: no stroke is wider
CLOSE_UP_INK = 0.1  # of the picture: the digit fills it
DARKEST = 8  # of 255: a ratio to a darker ground means nothing

MEDIAN_SIDE, MEDIAN_STEP = 48, 4  # pixels of a coarse picture, and between its windows
MEDIAN_SHARE = 0.35  # of the longer side: a window's


def detect_ink_side(picture: NDArray[np.uint8]) -> InkSide:
    """Tell whether ink is darker or lighter than its ground.

    Of what surrounds it ink is the smaller part; so it is what differs most from local medians.

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


def estimate_ground(picture: NDArray[np.uint8]) -> Floats:
    """Return the level of dark ink's ground at every pixel.

    Args:
        picture: uint8 [height, width, channels], ink darker than the ground.

    Returns:
        float32 [height, width, channels], in levels of 255, at least `DARKEST`.
    """
    coarse = average_down(picture, CLOSING_SIDE).astype(np.float32)
    size = max(3, round(max(coarse.shape[:2]) * STROKE_SHARE)) | 1
    height, width, channels = picture.shape
    closed = [_close(coarse[..., channel], size) for channel in range(channels)]
    ground = np.stack([interpolate(levels, (height, width)) for levels in closed], axis=2)
    return np.maximum(ground, DARKEST)


def take_border_level(picture: NDArray[np.uint8]) -> Floats:
    """Return the border's median as the ground of a whole picture, as `estimate_ground` does."""
    return np.full(picture.shape, np.maximum(measure_border(picture), DARKEST), np.float32)


def measure_border(picture: NDArray[np.uint8]) -> Floats:
    """The median level of a picture's outermost pixels: float32 [channels]."""
    return np.asarray(np.median(take_border(picture), axis=0), np.float32)


def take_border(picture: NDArray[Any]) -> NDArray[Any]:
    """A picture's outermost pixels in a row: [n], or [n, channels]."""
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def detect_close_up(picture: NDArray[np.uint8]) -> InkSide | None:
    """Say on which side the ink is, if there is so much that the picture must be all digit.

    Then local medians may be the ink's; but the ground still has most of the border.
    """
    coarse = average_down(picture, CLOSING_SIDE).mean(axis=2)
    is_light = coarse > split_levels(coarse)
    side: InkSide = "dark" if take_border(is_light).mean() >= 0.5 else "light"
    ink_share = float((is_light if side == "light" else ~is_light).mean())
    return side if ink_share >= CLOSE_UP_INK else None


def split_levels(levels: NDArray[np.floating]) -> float:
    """Return the level that parts dark from light best, between 0 and 255.

    N. Otsu, "A threshold selection method from gray-level histograms", 1979.
    """
    counts = np.bincount(levels.astype(np.intp).ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    difference = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return float((below * above * difference**2).argmax()) + 0.5


def _close(levels: Floats, size: int) -> Floats:
    """A dilation, then an erosion, by a square."""
    padded = _extend(levels, size // 2 * 2)
    return -_dilate(-_dilate(padded, size), size)


def _extend(levels: Floats, margin: int) -> Floats:
    """Go on beyond the picture: light that fades towards an edge fades on, nothing brightens."""
    fading = np.pad(levels, margin, mode="reflect", reflect_type="odd")
    return np.asarray(np.minimum(fading, np.pad(levels, margin, mode="edge")), np.float32)


def _dilate(levels: Floats, size: int) -> Floats:
    """The largest level in each square window that fits in."""
    for axis in (0, 1):
        levels = np.lib.stride_tricks.sliding_window_view(levels, size, axis).max(axis=-1)
    return levels
