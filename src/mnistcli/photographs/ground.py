"""The ground that a digit stands on: how light it is where, and on which side of it the ink is.

The ground is what a morphological closing leaves: strokes, which are narrow, take the level of the
paper beside them, while shadows and vignettes, which are wide, keep their edges. See J. Serra,
"Image Analysis and Mathematical Morphology", 1982.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnistcli.photographs.report import InkSide
from mnistcli.photographs.scaling import Floats, average_down, interpolate

CLOSING_SIDE = 64  # pixels: light changes slowly, and averages have little noise
STROKE_SHARE = 0.3  # of the picture's longer side: no stroke is wider
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
    sides = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    return np.asarray(np.median(np.concatenate(sides), axis=0), np.float32)


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
