"""How much ink there is at each pixel of a picture, whatever its colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistcli.images.scaling import Floats

LEAST_PIXELS = 30  # that a digit has, of a picture of working size: fewer do not set its ink
STRONG = 0.6  # of the strongest: pixels that show the ink's colour
REACH = 3  # pixels from an outline within which a stroke's edge has risen
OUTLINE_SAMPLE = 400  # pixels of an outline that are looked at, at most
SAMPLE_STEP = 3  # pixels between those that noise is measured at


@dataclass(frozen=True)
class Ink:
    """The ink of a picture.

    Attributes:
        density: float32 [height, width], 0 for paper, about 1 for the strongest ink.
        contrast: what share of the ground's light that ink swallows, 0 to 1.
        noise: standard deviation of the paper's density.
    """

    density: Floats
    contrast: float
    noise: float


def measure_ink(picture: NDArray[np.uint8], ground: Floats) -> Ink:
    """Tell ink from paper by the light that is missing, along the ink's own colour.

    Args:
        picture: uint8 [height, width, channels], ink darker than the ground.
        ground: float32 of that shape, at least 1.
    """
    missing = 1 - picture / ground
    most = missing.max(axis=2)
    strongest = find_strongest(most)
    strong = missing[most >= STRONG * strongest] if strongest > 0 else missing[:1, :1]
    colour = strong.reshape(-1, missing.shape[2]).mean(axis=0)
    density = missing @ (colour / max(float(colour @ colour), 1e-9))
    sample = density[::SAMPLE_STEP, ::SAMPLE_STEP]
    paper = min(float(np.median(sample)), 0.5)
    density = (density - paper) / (1 - paper)
    sample = density[::SAMPLE_STEP, ::SAMPLE_STEP]
    noise = 1.4826 * float(np.median(np.abs(sample)))  # of a normal distribution's quartiles
    return Ink(density.astype(np.float32), max(0.0, strongest), noise)


def find_strongest(density: Floats) -> float:
    """The level that as many pixels reach as the smallest digit has."""
    count = min(density.size, LEAST_PIXELS)
    return float(np.partition(density.ravel(), -count)[-count])


def measure_sharpness(density: Floats, mask: NDArray[np.bool_]) -> float:
    """Return by how much the density changes across the outline of a mask, the median of places.

    Strokes end within few pixels, and come to about 1; shadows do not.
    """
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rows, columns = np.nonzero(mask & ~inner)
    step = max(1, len(rows) // OUTLINE_SAMPLE)
    wide = np.pad(density, REACH, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(wide, (2 * REACH + 1, 2 * REACH + 1))
    around = windows[rows[::step], columns[::step]]
    return float(np.median(np.ptp(around, axis=(1, 2))))
