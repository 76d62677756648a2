"""Colours that colour-blind people tell apart, and numbers as colours.

The hues are those of Okabe and Ito, "Color Universal Design", 2008,
https://jfly.uni-koeln.de/color/; every ramp changes in lightness too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rgb = tuple[int, int, int]
Pixels = NDArray[np.uint8]

BLUE: Rgb = (0, 114, 178)
SKY_BLUE: Rgb = (86, 180, 233)
VERMILLION: Rgb = (213, 94, 0)
ORANGE: Rgb = (230, 159, 0)
WHITE: Rgb = (255, 255, 255)
INK: Rgb = (26, 26, 26)
GREY: Rgb = (98, 98, 98)
PALE: Rgb = (221, 221, 221)
_DEEP_BLUE: Rgb = (0, 50, 92)
_DEEP_VERMILLION: Rgb = (112, 44, 0)

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_DARK = 140


def to_hex(color: Rgb) -> str:
    """Write a colour as `#0072b2`."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def measure_luminance(pixels: Pixels) -> NDArray[np.float64]:
    """Return how light pixels [..., 3] are, 0 to 255, [...]."""
    return np.asarray(pixels @ np.array(_LUMINANCE))


def is_dark(pixels: Pixels) -> NDArray[np.bool_]:
    """Tell on which pixels [..., 3] white text is read better than black, [...]."""
    return measure_luminance(pixels) < _DARK


def color_signed(values: NDArray[np.floating], limit: float) -> Pixels:
    """Colour numbers by sign and size, as uint8 [..., 3].

    Args:
        values: of any shape.
        limit: what is below -limit is deepest blue, above it deepest vermillion; 0 is white.
    """
    stops = (_DEEP_BLUE, BLUE, WHITE, VERMILLION, _DEEP_VERMILLION)
    return _interpolate((values / limit + 1) / 2, stops)


def color_shares(shares: NDArray[np.floating], hue: Rgb) -> Pixels:
    """Colour shares from 0 (white) to 1 (the hue) as uint8 [..., 3]."""
    return _interpolate(shares, (WHITE, hue))


def color_grey(values: Pixels) -> Pixels:
    """Turn grey pixels [...] into coloured ones of the same look, [..., 3]."""
    return np.repeat(values[..., None], 3, axis=-1)


def _interpolate(shares: NDArray[np.floating], stops: tuple[Rgb, ...]) -> Pixels:
    """Go through colours, equally far from each other, as shares go from 0 to 1."""
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(shares, places, channel) for channel in zip(*stops, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
