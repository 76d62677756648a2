"""MNIST's framing: a digit fitted into 20 x 20 pixels, its mass in the middle of 28 x 28.

See Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnistcli.images.options import Centre
from mnistcli.images.scaling import Floats, shrink

FRAME_SIZE, DIGIT_SIZE = 28, 20  # pixels: the picture, and the digit's longer side
MIDDLE = 14  # where MNIST's centres of mass lie on average, counting pixels from 0


def frame_digit(
    density: Floats, size: int, *, is_centred: bool
) -> tuple[NDArray[np.uint8], Centre | None]:
    """Scale a digit and put it into MNIST's frame.

    Args:
        density: float32 [height, width], 0 for paper and 1 for ink, cropped to the digit.
        size: what its longer side becomes, at most 28 pixels.
        is_centred: by mass, or else by its box.

    Returns:
        uint8 [28, 28], light on black, its strongest ink 255; and how far the mass moved it.
    """
    scale = size / max(density.shape)
    height, width = (max(1, round(side * scale)) for side in density.shape)
    levels = np.clip(shrink(density, (height, width)), 0, 1)
    levels *= 255 / max(1 / 255, float(levels.max()))
    row, column = middle = ((FRAME_SIZE - height) // 2, (FRAME_SIZE - width) // 2)
    if is_centred:
        row, column = (_place(levels.sum(axis=axis)) for axis in (1, 0))
    frame = np.zeros((FRAME_SIZE, FRAME_SIZE), np.uint8)
    frame[row : row + height, column : column + width] = np.rint(levels)
    moved = Centre(right=column - middle[1], down=row - middle[0])
    return frame, moved if is_centred else None


def _place(masses: Floats) -> int:
    """Say where a profile begins, so that its mass is centred and nothing of it is cut off."""
    centre = float(masses @ np.arange(len(masses)) / max(1.0, float(masses.sum())))
    return min(max(0, round(MIDDLE - centre)), FRAME_SIZE - len(masses))
