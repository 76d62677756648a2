"""Draws images in rows and columns with matplotlib, every pixel a whole number of pixels wide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistcli.output.plots.colors import GREY, INK, VERMILLION, Pixels, color_signed, to_hex
from mnistcli.output.plots.matplotlib_backend import (
    DPI,
    HEADER_IN,
    MARGIN_IN,
    open_figure,
    shorten,
    widen,
)
from mnistcli.output.plots.pictures import Caption, Tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _MIN_WIDTH = 1440, 480  # pixels
_GAP, _FRAME, _BOTTOM = 14, 4, 8
_MAX_SCALE = 6
_CAPTION_SIZE, _LINE_HEIGHT, _CHARACTER_WIDTH = 8, 17, 8.2  # points; pixels at DPI
_MAX_CAPTION = 20
_SCALE_BAR, _SCALE_HEIGHT = (300, 14), 50  # of signed images: the bar, and all that it takes


@dataclass(frozen=True)
class _Grid:
    """Where tiles stand: all in pixels but columns and rows."""

    columns: int
    rows: int
    scale: int
    pitch_x: int
    pitch_y: int
    left: int

    def place(self, index: int) -> tuple[int, int]:
        """Return the left upper corner of a tile's cell."""
        row, column = divmod(index, self.columns)
        return self.left + column * self.pitch_x, row * self.pitch_y


def draw_tiles(tiles: Tiles) -> Figure:
    """Draw the images with their captions; mistakes are framed."""
    captions = [_shorten_lines(caption) for caption in tiles.captions]
    grid = _arrange(tiles, captions)
    width = max(_MIN_WIDTH, 2 * grid.left + grid.columns * grid.pitch_x - _GAP)
    width = math.ceil(widen(tiles.heading, width / DPI) * DPI)
    height = grid.rows * grid.pitch_y + (_SCALE_HEIGHT if tiles.limit else 0)
    height = max(height, _LINE_HEIGHT * 2) + _BOTTOM
    figure = open_figure(tiles.heading, width / DPI, (height / DPI) + HEADER_IN)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, height / (height + HEADER_IN * DPI)))
    axes.set_axis_off()
    axes.imshow(
        _paste(tiles, captions, grid, (height, width)),
        interpolation="nearest", extent=(0, width, height, 0), aspect="auto",
    )  # fmt: skip
    for index, caption in enumerate(captions):
        _write_caption(axes, caption, tiles, grid, index)
    if tiles.limit:
        _write_scale(axes, tiles.limit, grid.left, height)
    if not len(tiles.images):
        axes.text(grid.left, _LINE_HEIGHT, tiles.missing, fontsize=10, va="center")
    return figure


def _shorten_lines(caption: Caption) -> Caption:
    """Keep captions from making cells absurdly wide."""
    lines = tuple(shorten(line, _MAX_CAPTION) for line in caption.lines)
    return Caption(lines, caption.is_mistake)


def _arrange(tiles: Tiles, captions: list[Caption]) -> _Grid:
    """Choose columns and size, so that rows are full and captions have room."""
    count, height, width = tiles.images.shape[:3]
    lines = [line for caption in captions for line in caption.lines]
    text = math.ceil(max(map(len, lines), default=0) * _CHARACTER_WIDTH)
    most = min(5 if count <= 10 else 12 if captions else 16,
               max(1, (_WIDTH + _GAP) // (max(text, width) + _GAP)))  # fmt: skip
    rows = max(1, math.ceil(count / most))
    columns = max(1, math.ceil(count / rows))
    scale = max(1, min(_MAX_SCALE, ((_WIDTH + _GAP) // columns - _GAP) // max(1, width)))
    line_count = max((len(caption.lines) for caption in captions), default=0)
    return _Grid(
        columns=columns,
        rows=rows,
        scale=scale,
        pitch_x=max(text, width * scale) + _GAP,
        pitch_y=height * scale + _GAP + line_count * _LINE_HEIGHT,
        left=round(MARGIN_IN * DPI),
    )


def _paste(tiles: Tiles, captions: list[Caption], grid: _Grid, size: tuple[int, int]) -> Pixels:
    """Put the enlarged images, the frames and the scale's bar onto white paper."""
    paper = np.full((*size, 3), 255, np.uint8)
    large = tiles.images.repeat(grid.scale, axis=1).repeat(grid.scale, axis=2)
    for index, image in enumerate(large):
        x, y = _place_image(tiles, grid, index)
        height, width = image.shape[:2]
        is_mistake = bool(captions) and captions[index].is_mistake
        if is_mistake or tiles.limit is not None:
            edge, color = (_FRAME, VERMILLION) if is_mistake else (1, GREY)
            paper[y - edge : y + height + edge, x - edge : x + width + edge] = color
        paper[y : y + height, x : x + width] = image
    if tiles.limit:
        length, thickness = _SCALE_BAR
        top = size[0] - _BOTTOM - _SCALE_HEIGHT + _GAP
        bar = color_signed(np.linspace(-1, 1, length), 1.0)
        paper[top : top + thickness, grid.left : grid.left + length] = bar
    return paper


def _place_image(tiles: Tiles, grid: _Grid, index: int) -> tuple[int, int]:
    """Return an image's left upper corner: in the middle of its cell's width, below its frame."""
    x, y = grid.place(index)
    width = tiles.images.shape[2] * grid.scale
    return x + (grid.pitch_x - _GAP - width) // 2, y + _FRAME


def _write_caption(axes: Any, caption: Caption, tiles: Tiles, grid: _Grid, index: int) -> None:
    """Write the lines below an image, a mistake's in bold and with a cross."""
    _, y = _place_image(tiles, grid, index)
    x = grid.place(index)[0] + (grid.pitch_x - _GAP) / 2
    y += tiles.images.shape[1] * grid.scale + _FRAME + 1
    for number, line in enumerate(caption.lines):
        first = number == 0
        color = VERMILLION if caption.is_mistake else INK if first else GREY
        axes.text(
            x, y + number * _LINE_HEIGHT, line, ha="center", va="top", fontsize=_CAPTION_SIZE,
            color=to_hex(color), fontweight="bold" if caption.is_mistake else "normal",
        )  # fmt: skip


def _write_scale(axes: Any, limit: float, left: int, height: int) -> None:
    """Write the numbers below the scale's bar."""
    y = height - _BOTTOM - _SCALE_HEIGHT + _GAP + _SCALE_BAR[1] + 3
    for share, text in ((0.0, f"≤ {-limit:.2g}"), (0.5, "0"), (1.0, f"≥ {limit:.2g}")):
        align = {0.0: "left", 0.5: "center", 1.0: "right"}[share]
        axes.text(left + share * _SCALE_BAR[0], y, text, ha=align, va="top", fontsize=_CAPTION_SIZE)
