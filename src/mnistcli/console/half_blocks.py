"""Images as text: two pixels a character, one above the other, as these are twice as high as wide.

In colour it is ▀, whose own colour is the upper pixel and whose ground is the lower one; without
colour the character whose two halves come closest; where there are no blocks, a lone character.
"""

from __future__ import annotations

import os
import sys
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.style import Style
from rich.text import Text

from mnistcli.console.streams import is_terminal

Canvas = Literal["colour", "blocks", "ascii"]

UPPER = "\u2580"
BLOCKS = {
    " ": (0.0, 0.0), "\u2591": (0.25, 0.25), "\u2592": (0.5, 0.5), "\u2593": (0.75, 0.75),
    "\u2588": (1.0, 1.0), UPPER: (1.0, 0.0), "\u2584": (0.0, 1.0),
}  # fmt: skip
RAMP = {character: (k / 9, k / 9) for k, character in enumerate(" .:-=+*#%@")}
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, of red, green and blue


def inspect_stdout() -> Canvas:
    """Say what can be drawn with on stdout."""
    if is_terminal(sys.stdout) and not os.environ.get("NO_COLOR"):
        return "colour"
    try:
        "".join(BLOCKS).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "ascii"
    return "blocks"


def render_image(image: NDArray[np.uint8], canvas: Canvas) -> Text:
    """Draw an image, light on dark.

    Args:
        image: uint8 [height, width], or [height, width, 3] in RGB.
        canvas: what is drawn with.
    """
    if len(image) % 2:
        image = np.concatenate([image, np.zeros_like(image[:1])])
    if canvas == "colour":
        return _draw_in_colour(image)
    grey = image @ np.array(LUMINANCE) if image.ndim == 3 else image
    return _draw_in_characters(grey / 255, BLOCKS if canvas == "blocks" else RAMP)


def _draw_in_colour(image: NDArray[np.uint8]) -> Text:
    """Every character shows its two pixels exactly."""
    colours = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
    text = Text()
    for upper, lower in zip(colours[::2].tolist(), colours[1::2].tolist(), strict=True):
        for (above, below), cells in groupby(zip(upper, lower, strict=True)):
            style = Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))
            text.append(UPPER * len(list(cells)), style)
        text.append("\n")
    return text


def _draw_in_characters(
    levels: NDArray[np.float64], characters: dict[str, tuple[float, float]]
) -> Text:
    """Of a few characters the nearest stands for two pixels."""
    halves = np.array(list(characters.values()))
    pairs = np.stack([levels[::2], levels[1::2]], axis=2)
    nearest = ((pairs[:, :, np.newaxis] - halves) ** 2).sum(axis=3).argmin(axis=2)
    names = list(characters)
    return Text("\n".join("".join(names[k] for k in row).rstrip() for row in nearest.tolist()))
