"""Pixels to another size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def average_down(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Average pixels so that no side of a picture is longer than `side`.

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
    """Stretch smooth levels [h, w] to a shape, linearly between them: float32 [*shape]."""
    from PIL import Image

    stretched = Image.fromarray(levels).resize(shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(stretched)


def shrink(levels: Floats, shape: tuple[int, int]) -> Floats:
    """Scale levels [h, w] to a shape, anti-aliased: float32 [*shape]."""
    from PIL import Image

    return np.asarray(Image.fromarray(levels).resize(shape[::-1], Image.Resampling.HAMMING))
