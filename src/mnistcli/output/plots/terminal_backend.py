"""Draws figures as lines of text for a terminal, without matplotlib.

A cell of a terminal is about twice as high as it is wide: ▀ (upper half block), its foreground the
upper pixel and its background the lower one, makes two square pixels of it. Where there are no
colours, characters of more or less ink are drawn.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, zip_longest
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mnistcli.errors import make_displayable
from mnistcli.output.logs import note
from mnistcli.output.plots.figures import (
    BLUE,
    INK,
    ORANGE,
    SKY_BLUE,
    VERMILLION,
    WHITE,
    Caption,
    ConfusionMatrix,
    Curves,
    Figure,
    ImageGrid,
    Panel,
    Pixels,
    ReliabilityDiagram,
    Rgb,
    WeightMatrix,
    color_signed,
    is_dark,
    measure_luminance,
)
from mnistcli.output.plots.matplotlib_backend import color_confusion
from mnistcli.output.results import map_texts
from mnistcli.output.terminal import is_terminal, print_block

Depth = Literal["truecolor", "256", "none"]
_UPPER_HALF = "▀"
_RESET = "\x1b[0m"
_CHARACTERS = " .:-=+*#%@"  # from black to white, on the dark background that pictures of ink have
_CUBE_LEVELS = np.array([0, 95, 135, 175, 215, 255])  # of xterm's 6 x 6 x 6 cube, from 16 on
_GREY_LEVELS = np.arange(8, 239, 10)  # of its 24 greys, from 232 on
_HEIGHT = 12  # lines of text
_MAX_WIDTH = 72
_MARGIN = 10  # columns for the numbers at the axis
_MARKS = "*o"  # of the first and the second line, where there is no colour
Raster = NDArray[np.int8]  # number of the line that passes, -1 where none does
_GAP = 2
_MAX_LARGE_ROWS = 2  # of images: where there are more, they are shown at half their size
_CELL = 6  # columns of a number
_SCALE_LENGTH = 30
_LINE_COLORS = (SKY_BLUE, ORANGE)
_BAR_LENGTH = 30


@dataclass(frozen=True)
class Canvas:
    """The terminal that figures are drawn on.

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

    def paint(self, text: str, color: Rgb | None = None, background: Rgb | None = None) -> str:
        """Give a text its colours, where there are any."""
        if not self.has_color or (color is None and background is None):
            return text
        codes = [self._code(38, color)] if color is not None else []
        codes += [self._code(48, background)] if background is not None else []
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

    def _code(self, layer: int, color: Rgb) -> str:
        """Write a colour for the terminal: 38 sets the foreground, 48 the background."""
        if self.depth == "256":
            return f"{layer};5;{_find_in_palette(color)}"
        return f"{layer};2;{';'.join(map(str, color))}"


def print_picture(picture: Figure) -> None:
    """Draw a figure on stdout, in colours where it is a terminal that has them."""
    canvas, hindrance = inspect_terminal()
    if hindrance:
        note(f"drawn in plain characters: {hindrance}")
    print_block("\n".join(render_lines(map_texts(picture, make_displayable), canvas)))


def render_lines(picture: Figure, canvas: Canvas) -> list[str]:
    """Return a figure as lines of text, its heading first."""
    lines = [picture.heading.title, *([picture.heading.note] if picture.heading.note else []), ""]
    return [line.rstrip() for line in (*lines, *_draw(picture, canvas))]


def inspect_terminal() -> tuple[Canvas, str]:
    """Return what stdout can show, and why it has no colours; empty where it has."""
    columns = shutil.get_terminal_size().columns
    reason = _explain_missing_color()
    return Canvas(columns, "none" if reason else _find_color_depth()), reason


def draw_panel(panel: Panel, colors: Sequence[Rgb], canvas: Canvas) -> Iterator[str]:
    """Draw a panel: title and legend, the lines between two axes, the epochs below.

    Args:
        panel: what is drawn.
        colors: one a line.
        canvas: what it is drawn on.
    """
    width = max(10, min(_MAX_WIDTH, canvas.columns - _MARGIN - 1))
    finite = [v for line in panel.lines for v in line.values if np.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    yield "  ".join([panel.title, *_list_legend(panel, colors, canvas)])
    pixels = _HEIGHT * (2 if canvas.has_color else 1)
    raster = np.full((pixels, width), -1, np.int8)
    for number, line in enumerate(panel.lines):
        _trace(raster, number, line.values, low, high)
    side, corner = ("│", "└") if canvas.has_color else ("|", "+")
    for row in range(_HEIGHT):
        share = {0: 0.0, _HEIGHT // 2: 0.5, _HEIGHT - 1: 1.0}.get(row)
        shown = "" if share is None else f"{high + share * (low - high):.4g}"
        yield f"{shown:>{_MARGIN - 1}} {side}{_draw_row(raster, row, colors, canvas)}"
    epochs = max(len(line.values) for line in panel.lines)
    yield " " * _MARGIN + corner + ("─" if canvas.has_color else "-") * width
    yield " " * _MARGIN + " 1" + f"epoch {epochs}".rjust(width - 1)
    if panel.marked_epoch is not None:
        column = round((panel.marked_epoch - 1) / max(1, epochs - 1) * (width - 1))
        yield " " * (_MARGIN + 1 + column) + "^"
        yield " " * (_MARGIN + 1) + panel.describe_mark()


def shrink(images: Pixels) -> Pixels:
    """Halve images [n, height, width, 3]; a pixel is the mean of four, odd edges are repeated."""
    count, height, width, channels = images.shape
    images = np.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    blocks = images.reshape(count, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
    return np.asarray(blocks.mean(axis=(2, 4)).round().astype(np.uint8))


def draw_bar(share: float, length: int, *, plain: bool) -> str:
    """Return a bar of a share, 0 to 1, of `length` characters."""
    return ("#" if plain else "█") * round(share * length)


def _draw(picture: Figure, canvas: Canvas) -> Iterator[str]:
    match picture:
        case ImageGrid():
            return _draw_image_grid(picture, canvas)
        case Curves():
            return _draw_curves(picture, canvas)
        case ConfusionMatrix():
            return _draw_confusion(picture, canvas)
        case WeightMatrix():
            return _draw_weight_matrix(picture, canvas)
        case ReliabilityDiagram():
            return _draw_reliability(picture, canvas)


def _draw_image_grid(tiles: ImageGrid, canvas: Canvas) -> Iterator[str]:
    if not len(tiles.images):
        yield tiles.missing
        return
    images = _fit(tiles.images, canvas.columns)
    text = max((len(line) for caption in tiles.captions for line in _mark(caption)), default=0)
    width = max(images.shape[2], text)
    per_row = max(1, (canvas.columns + _GAP) // (width + _GAP))
    for start in range(0, len(images), per_row):
        stop = start + per_row
        drawn = [
            _pad(canvas.draw_pixels(image, negative=tiles.limit is not None), image, width)
            for image in images[start:stop]
        ]
        yield from _join(drawn)
        yield from _write_captions(tiles.captions[start:stop], width, canvas)
        yield ""
    if tiles.limit is not None:
        yield _explain_signs(tiles.limit, canvas)


def _fit(images: Pixels, columns: int) -> Pixels:
    # Images are halved until one fits, and once where they would fill pages.
    per_row = max(1, (columns + _GAP) // (images.shape[2] + _GAP))
    if len(images) > _MAX_LARGE_ROWS * per_row and images.shape[2] > 1:
        images = shrink(images)
    while images.shape[2] > columns:
        images = shrink(images)
    return images


def _pad(lines: list[str], image: Pixels, width: int) -> list[str]:
    # Colour codes have no width: the image's own counts.
    left = (width - image.shape[1]) // 2
    right = width - image.shape[1] - left
    return [" " * left + line + " " * right for line in lines]


def _join(blocks: Sequence[Sequence[str]]) -> Iterator[str]:
    for lines in zip(*blocks, strict=True):
        yield (" " * _GAP).join(lines)


def _mark(caption: Caption) -> tuple[str, ...]:
    # A misclassified image is marked without colour too.
    first, *rest = caption.lines
    return (f"x {first}", *rest) if caption.is_misclassified else caption.lines


def _write_captions(captions: Sequence[Caption], width: int, canvas: Canvas) -> Iterator[str]:
    for lines in zip_longest(*map(_mark, captions), fillvalue=""):
        cells = [
            canvas.paint(line.center(width), ORANGE if caption.is_misclassified else None)
            for caption, line in zip(captions, lines, strict=True)
        ]
        yield (" " * _GAP).join(cells)


def _explain_signs(limit: float, canvas: Canvas) -> str:
    if not canvas.has_color:
        return f"blank: 0, @: {limit:.2g} or -{limit:.2g}, whose sign takes colours to tell"
    row = color_signed(np.linspace(-1, 1, _SCALE_LENGTH), 1.0)
    [bar] = canvas.draw_pixels(row[None])
    return f"{-limit:.2g} {bar} {limit:.2g}, white: 0"


def _draw_curves(picture: Curves, canvas: Canvas) -> Iterator[str]:
    for panel in picture.panels:
        yield from draw_panel(panel, _LINE_COLORS, canvas)
        yield ""


def _list_legend(panel: Panel, colors: Sequence[Rgb], canvas: Canvas) -> Iterator[str]:
    for line, color, mark in zip(panel.lines, colors, _MARKS, strict=False):
        sample = canvas.paint("━━", color) if canvas.has_color else mark
        yield f"{sample} {line.label}"


def _trace(raster: Raster, number: int, values: Sequence[float], low: float, high: float) -> None:
    """Draw a line from the left edge to the right one; values that are not finite are gaps."""
    height, width = raster.shape
    places = np.linspace(0, len(values) - 1, width)
    heights = np.interp(places, np.arange(len(values)), np.array(values, np.float64))
    with np.errstate(invalid="ignore"):
        rows = (high - heights) / (high - low) * (height - 1)
    for x, (here, following) in enumerate(pairwise([*rows.tolist(), rows[-1]])):
        if np.isfinite(here):
            start = round(here)
            end = round((here + following) / 2) if np.isfinite(following) else start
            raster[min(start, end) : max(start, end) + 1, x] = number


def _draw_row(raster: Raster, row: int, colors: Sequence[Rgb], canvas: Canvas) -> str:
    if not canvas.has_color:
        return "".join(" " if number < 0 else _MARKS[number] for number in raster[row])
    upper, lower = raster[2 * row].tolist(), raster[2 * row + 1].tolist()
    return "".join(_draw_cell(a, b, colors, canvas) for a, b in zip(upper, lower, strict=True))


def _draw_cell(upper: int, lower: int, colors: Sequence[Rgb], canvas: Canvas) -> str:
    if upper < 0 and lower < 0:
        return " "
    if lower < 0:
        return canvas.paint("▀", colors[upper])
    if upper < 0:
        return canvas.paint("▄", colors[lower])
    return canvas.paint("▀", colors[upper], colors[lower])


def _draw_confusion(picture: ConfusionMatrix, canvas: Canvas) -> Iterator[str]:
    texts = [[str(count) if count else "." for count in row] for row in picture.counts.tolist()]
    yield from _draw_table(
        picture.labels, texts, color_confusion(picture.counts), canvas, "true \\ predicted"
    )


def _draw_weight_matrix(picture: WeightMatrix, canvas: Canvas) -> Iterator[str]:
    # Numbers where there is room for them, else pixels.
    pixels = color_signed(picture.values, picture.limit)
    rows, columns = picture.values.shape
    if (columns + 2) * _CELL <= canvas.columns and rows <= canvas.columns:
        texts = [[f"{value:.2f}" for value in row] for row in picture.values.tolist()]
        names = [f"input {row}" for row in range(rows)]
        yield from _draw_table(
            names, texts, pixels, canvas, "unit", [str(n) for n in range(columns)]
        )
    else:
        yield from canvas.draw_pixels(_fit(pixels[None], canvas.columns)[0], negative=True)
    yield _explain_signs(picture.limit, canvas)


def _draw_table(
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    pixels: Pixels,
    canvas: Canvas,
    corner: str,
    heads: Sequence[str] | None = None,
) -> Iterator[str]:
    """Draw coloured cells with a name before each row and a title above each column."""
    heads = heads or names
    width = max(_CELL - 1, *map(len, heads), *(len(text) for row in texts for text in row)) + 1
    first = max(map(len, (corner, *names))) + 1
    yield corner.ljust(first) + "".join(head.rjust(width) for head in heads)
    dark = is_dark(pixels)
    for name, row, colors, are_dark in zip(names, texts, pixels.tolist(), dark, strict=True):
        cells = (
            canvas.paint(text.rjust(width), WHITE if on_dark else INK, tuple(color))
            for text, color, on_dark in zip(row, colors, are_dark, strict=True)
        )
        yield name.ljust(first) + "".join(cells)


def _draw_reliability(picture: ReliabilityDiagram, canvas: Canvas) -> Iterator[str]:
    # A row for each bin that holds images: its counts, and a bar of its accuracy.
    yield "confidence   examples    mean  accuracy"
    for row in picture.calibration.bins:
        if row.confidence is None or row.accuracy is None:
            continue
        bar = draw_bar(row.accuracy, _BAR_LENGTH, plain=not canvas.has_color).ljust(_BAR_LENGTH)
        place = min(_BAR_LENGTH - 1, math.floor(row.confidence * _BAR_LENGTH))
        numbers = f"{row.count:>10,}{row.confidence:>8.3f}{row.accuracy:>10.3f}"
        yield f"{row.low:.3f}-{row.high:.3f}{numbers}  {_paint_bar(bar, place, canvas)}"
    yield "bars: accuracy; |: the mean confidence, where a bar should end"


def _paint_bar(bar: str, place: int, canvas: Canvas) -> str:
    return "".join(
        (canvas.paint(bar[:place], BLUE), canvas.paint("|", VERMILLION),
         canvas.paint(bar[place + 1 :], BLUE))
    )  # fmt: skip


def _to_rgb(values: tuple[int, ...]) -> Rgb:
    red, green, blue = values
    return red, green, blue


def _draw_characters(pixels: Pixels, negative: bool) -> list[str]:
    # The mean luminance of two rows is a character of more or less ink.
    lightness = measure_luminance(pixels).reshape(-1, 2, pixels.shape[1]).mean(axis=1) / 255
    shares = 1 - lightness if negative else lightness
    places = (shares * (len(_CHARACTERS) - 1)).round().astype(np.int64)
    return ["".join(_CHARACTERS[place] for place in row) for row in places]


def _find_in_palette(color: Rgb) -> int:
    """Return the nearest of xterm's 256 colours, except the 16 that users redefine."""
    channels = np.array(color)
    cube = np.abs(channels[:, None] - _CUBE_LEVELS).argmin(axis=1)
    grey = int(np.abs(channels.mean() - _GREY_LEVELS).argmin())
    cube_distance = np.square(_CUBE_LEVELS[cube] - channels).sum()
    grey_distance = np.square(_GREY_LEVELS[grey] - channels).sum()
    if grey_distance < cube_distance:
        return 232 + grey
    return int(16 + cube @ (36, 6, 1))


def _explain_missing_color() -> str:
    if os.environ.get("NO_COLOR"):
        return "NO_COLOR is set"
    if not sys.stdout.isatty():
        return "stdout is no terminal"
    if not is_terminal(sys.stdout):
        return "TERM is dumb"
    try:
        "▀█━│└─".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return f"{sys.stdout.encoding} has no half blocks"
    return ""


def _find_color_depth() -> Depth:
    # Terminals with more than 256 colours say so in COLORTERM, or at the end of TERM.
    told = os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")
    return "truecolor" if told or os.environ.get("TERM", "").endswith("-direct") else "256"
