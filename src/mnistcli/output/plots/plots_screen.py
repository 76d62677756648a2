"""Pixels become lines of text: half blocks in colour, or characters where there is none.

A cell of a terminal is about twice as high as it is wide, so that ▀ (upper half block), its
foreground the upper pixel and its background the lower one, makes two square pixels of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

from mnistcli.output.plots.colors import Pixels, Rgb, measure_luminance

Depth = Literal["truecolor", "256", "none"]

_UPPER_HALF = "▀"
_RESET = "\x1b[0m"
_CHARACTERS = " .:-=+*#%@"  # from black to white, on the dark ground that pictures of ink have
_CUBE_LEVELS = np.array([0, 95, 135, 175, 215, 255])  # of xterm's 6 x 6 x 6 cube, from 16 on
_GREY_LEVELS = np.arange(8, 239, 10)  # of its 24 greys, from 232 on


@dataclass(frozen=True)
class Screen:
    """What pictures are shown on.

    Attributes:
        columns: characters in a line.
        depth: which colours it has; `none` leaves plain characters.
    """

    columns: int
    depth: Depth

    @property
    def has_color(self) -> bool:
        """Whether colours, and characters beyond ASCII, may be used."""
        return self.depth != "none"

    def paint(self, text: str, color: Rgb | None = None, ground: Rgb | None = None) -> str:
        """Give a text its colours, where there are any."""
        if not self.has_color or (color is None and ground is None):
            return text
        codes = [self._code(38, color)] if color is not None else []
        codes += [self._code(48, ground)] if ground is not None else []
        return f"\x1b[{';'.join(codes)}m{text}{_RESET}"

    def draw_pixels(self, pixels: Pixels, *, negative: bool = False) -> list[str]:
        """Return the lines that show pixels, uint8 [height, width, 3]: two rows of them a line.

        Args:
            pixels: the picture; below an odd last row there is a row of its own colour.
            negative: without colour, what is dark is drawn and what is light left out.
        """
        if len(pixels) % 2:
            pixels = np.concatenate([pixels, pixels[-1:]])
        if not self.has_color:
            return _draw_characters(pixels, negative)
        pairs = zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True)
        return [self._draw_line(upper, lower) for upper, lower in pairs]

    def _draw_line(self, upper: list[list[int]], lower: list[list[int]]) -> str:
        """Draw two rows of pixels; cells of the same colours share their codes."""
        cells = ((tuple(a), tuple(b)) for a, b in zip(upper, lower, strict=True))
        runs = ((colors, len(list(run))) for colors, run in groupby(cells))
        return "".join(
            self.paint(_UPPER_HALF * length, _to_rgb(above), _to_rgb(below))
            for (above, below), length in runs
        )

    def _code(self, ground: int, color: Rgb) -> str:
        """Write a colour for the terminal: 38 sets the foreground, 48 the background."""
        if self.depth == "256":
            return f"{ground};5;{_find_in_palette(color)}"
        return f"{ground};2;{';'.join(map(str, color))}"


def _to_rgb(values: tuple[int, ...]) -> Rgb:
    """Three channels, as the types want them."""
    red, green, blue = values
    return red, green, blue


def _draw_characters(pixels: Pixels, negative: bool) -> list[str]:
    """Draw the mean lightness of two rows as characters of more or less ink."""
    lightness = measure_luminance(pixels).reshape(-1, 2, pixels.shape[1]).mean(axis=1) / 255
    shares = 1 - lightness if negative else lightness
    places = (shares * (len(_CHARACTERS) - 1)).round().astype(np.int64)
    return ["".join(_CHARACTERS[place] for place in row) for row in places]


def _find_in_palette(color: Rgb) -> int:
    """Return the nearest of xterm's 256 colours, the 16 that users redefine left out."""
    channels = np.array(color)
    cube = np.abs(channels[:, None] - _CUBE_LEVELS).argmin(axis=1)
    grey = int(np.abs(channels.mean() - _GREY_LEVELS).argmin())
    cube_distance = np.square(_CUBE_LEVELS[cube] - channels).sum()
    grey_distance = np.square(_GREY_LEVELS[grey] - channels).sum()
    if grey_distance < cube_distance:
        return 232 + grey
    return int(16 + cube @ (36, 6, 1))


def shrink(images: Pixels) -> Pixels:
    """Halve images [n, height, width, 3], each pixel the mean of four; odd edges are repeated."""
    count, height, width, channels = images.shape
    images = np.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    blocks = images.reshape(count, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
    return np.asarray(blocks.mean(axis=(2, 4)).round().astype(np.uint8))


def draw_bar(share: float, length: int, *, plain: bool) -> str:
    """Return a bar of up to so many characters, for a share of 0 to 1."""
    return ("#" if plain else "█") * round(share * length)
