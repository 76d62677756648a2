"""Scale pictures, and frame a digit as in MNIST: 20 x 20 pixels, centred by mass in 28 x 28.

See Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnistcli.images.options import Centre

Floats = NDArray[np.float32]
FRAME_SIZE, DIGIT_SIZE = 28, 20  # pixels: the picture, and the digit's longer side
MIDDLE = 14  # where MNIST's centres of mass lie on average, counting pixels from 0


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


def shrink(levels: Floats, shape: tuple[int, int]) -> Floats:
    """Scale levels [h, w] to a shape, anti-aliased: float32 [*shape]."""
    from PIL import Image

    return np.asarray(Image.fromarray(levels).resize(shape[::-1], Image.Resampling.HAMMING))


def frame_digit(
    density: Floats, size: int, *, is_centred: bool
) -> tuple[NDArray[np.uint8], Centre | None]:
    """Scale a digit, and place it in MNIST's frame.

    Args:
        density: float32 [height, width], 0 for paper and 1 for ink, cropped to the digit.
        size: of its longer side, at most 28 pixels.
        is_centred: whether it is centred by mass, or else by its bounding box.

    Returns:
        uint8 [28, 28], light on black, its strongest ink 255; and the offset by centring.
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
    """Return where a profile begins if its mass is centred and nothing of it is cut off."""
    centre = float(masses @ np.arange(len(masses)) / max(1.0, float(masses.sum())))
    return min(max(0, round(MIDDLE - centre)), FRAME_SIZE - len(masses))
