"""Pictures become lines of text for a terminal, without matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import numpy as np

from mnistcli.output.plots.colors import (
    BLUE,
    INK,
    ORANGE,
    SKY_BLUE,
    VERMILLION,
    WHITE,
    Pixels,
    color_signed,
    is_dark,
)
from mnistcli.output.plots.matrices import color_confusion
from mnistcli.output.plots.pictures import (
    Caption,
    Confusion,
    Curves,
    Kernel,
    Picture,
    Reliability,
    Tiles,
)
from mnistcli.output.plots.plots_screen import Screen, draw_bar, shrink
from mnistcli.output.plots.terminal_chart import draw_panel

_GAP = 2
_MAX_LARGE_ROWS = 2  # of images: where there are more, they are shown at half their size
_CELL = 6  # columns of a number
_SCALE_LENGTH = 30
_LINE_COLORS = (SKY_BLUE, ORANGE)
_BAR_LENGTH = 30


def render_lines(picture: Picture, screen: Screen) -> list[str]:
    """Return a picture as lines of text, its heading first."""
    lines = [picture.heading.title, *([picture.heading.note] if picture.heading.note else []), ""]
    return [line.rstrip() for line in (*lines, *_draw(picture, screen))]


def _draw(picture: Picture, screen: Screen) -> Iterator[str]:
    """Hand a picture to what draws its kind."""
    match picture:
        case Tiles():
            return _draw_tiles(picture, screen)
        case Curves():
            return _draw_curves(picture, screen)
        case Confusion():
            return _draw_confusion(picture, screen)
        case Kernel():
            return _draw_kernel(picture, screen)
        case Reliability():
            return _draw_reliability(picture, screen)


def _draw_tiles(tiles: Tiles, screen: Screen) -> Iterator[str]:
    """Draw as many images side by side as there is room for."""
    if not len(tiles.images):
        yield tiles.missing
        return
    images = _fit(tiles.images, screen.columns)
    text = max((len(line) for caption in tiles.captions for line in _mark(caption)), default=0)
    width = max(images.shape[2], text)
    per_row = max(1, (screen.columns + _GAP) // (width + _GAP))
    for start in range(0, len(images), per_row):
        stop = start + per_row
        drawn = [
            _pad(screen.draw_pixels(image, negative=tiles.limit is not None), image, width)
            for image in images[start:stop]
        ]
        yield from _join(drawn)
        yield from _write_captions(tiles.captions[start:stop], width, screen)
        yield ""
    if tiles.limit is not None:
        yield _explain_signs(tiles.limit, screen)


def _fit(images: Pixels, columns: int) -> Pixels:
    """Halve images until one fits, and once where they would go on for pages."""
    per_row = max(1, (columns + _GAP) // (images.shape[2] + _GAP))
    if len(images) > _MAX_LARGE_ROWS * per_row and images.shape[2] > 1:
        images = shrink(images)
    while images.shape[2] > columns:
        images = shrink(images)
    return images


def _pad(lines: list[str], image: Pixels, width: int) -> list[str]:
    """Put an image into the middle of its cell; colour codes have no width."""
    left = (width - image.shape[1]) // 2
    right = width - image.shape[1] - left
    return [" " * left + line + " " * right for line in lines]


def _join(blocks: Sequence[Sequence[str]]) -> Iterator[str]:
    """Put blocks of lines of one width side by side."""
    for lines in zip(*blocks, strict=True):
        yield (" " * _GAP).join(lines)


def _mark(caption: Caption) -> tuple[str, ...]:
    """Mark a mistake for those who see no colour."""
    first, *rest = caption.lines
    return (f"x {first}", *rest) if caption.is_mistake else caption.lines


def _write_captions(captions: Sequence[Caption], width: int, screen: Screen) -> Iterator[str]:
    """Write the captions of one row of images, each in the middle of its cell."""
    for lines in zip_longest(*map(_mark, captions), fillvalue=""):
        cells = [
            screen.paint(line.center(width), ORANGE if caption.is_mistake else None)
            for caption, line in zip(captions, lines, strict=True)
        ]
        yield (" " * _GAP).join(cells)


def _explain_signs(limit: float, screen: Screen) -> str:
    """Say what the colours, or the characters, stand for."""
    if not screen.has_color:
        return f"blank: 0, @: {limit:.2g} or -{limit:.2g}, whose sign takes colours to tell"
    row = color_signed(np.linspace(-1, 1, _SCALE_LENGTH), 1.0)
    [bar] = screen.draw_pixels(row[None])
    return f"{-limit:.2g} {bar} {limit:.2g}, white: 0"


def _draw_curves(picture: Curves, screen: Screen) -> Iterator[str]:
    """Draw the panels one below the other."""
    for panel in picture.panels:
        yield from draw_panel(panel, _LINE_COLORS, screen)
        yield ""


def _draw_confusion(picture: Confusion, screen: Screen) -> Iterator[str]:
    """Draw the matrix as a table, rows the truth."""
    texts = [[str(count) if count else "." for count in row] for row in picture.counts.tolist()]
    yield from _draw_table(
        picture.labels, texts, color_confusion(picture.counts), screen, "true \\ predicted"
    )


def _draw_kernel(picture: Kernel, screen: Screen) -> Iterator[str]:
    """Draw the weights as numbers where there is room for them, else as pixels."""
    pixels = color_signed(picture.values, picture.limit)
    rows, columns = picture.values.shape
    if (columns + 2) * _CELL <= screen.columns and rows <= screen.columns:
        texts = [[f"{value:.2f}" for value in row] for row in picture.values.tolist()]
        names = [f"input {row}" for row in range(rows)]
        yield from _draw_table(
            names, texts, pixels, screen, "unit", [str(n) for n in range(columns)]
        )
    else:
        yield from screen.draw_pixels(_fit(pixels[None], screen.columns)[0], negative=True)
    yield _explain_signs(picture.limit, screen)


def _draw_table(
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    pixels: Pixels,
    screen: Screen,
    corner: str,
    heads: Sequence[str] | None = None,
) -> Iterator[str]:
    """Draw cells on their colours, a name before each row and a head above each column."""
    heads = heads or names
    width = max(_CELL - 1, *map(len, heads), *(len(text) for row in texts for text in row)) + 1
    first = max(map(len, (corner, *names))) + 1
    yield corner.ljust(first) + "".join(head.rjust(width) for head in heads)
    dark = is_dark(pixels)
    for name, row, colors, are_dark in zip(names, texts, pixels.tolist(), dark, strict=True):
        cells = (
            screen.paint(text.rjust(width), WHITE if on_dark else INK, tuple(color))
            for text, color, on_dark in zip(row, colors, are_dark, strict=True)
        )
        yield name.ljust(first) + "".join(cells)


def _draw_reliability(picture: Reliability, screen: Screen) -> Iterator[str]:
    """Draw a row for each bin that holds anything: its counts, and a bar to its accuracy."""
    yield "confidence   examples    mean  accuracy"
    for row in picture.calibration.bins:
        if row.confidence is None or row.accuracy is None:
            continue
        bar = draw_bar(row.accuracy, _BAR_LENGTH, plain=not screen.has_color).ljust(_BAR_LENGTH)
        place = min(_BAR_LENGTH - 1, math.floor(row.confidence * _BAR_LENGTH))
        numbers = f"{row.count:>10,}{row.confidence:>8.3f}{row.accuracy:>10.3f}"
        yield f"{row.low:.3f}-{row.high:.3f}{numbers}  {_paint_bar(bar, place, screen)}"
    yield "bars: accuracy; |: the mean confidence, where a bar should end"


def _paint_bar(bar: str, place: int, screen: Screen) -> str:
    """Put the mark for the confidence into a bar."""
    return "".join(
        (screen.paint(bar[:place], BLUE), screen.paint("|", VERMILLION),
         screen.paint(bar[place + 1 :], BLUE))
    )  # fmt: skip
