"""Lines over epochs as text: two rows of pixels a line in colour, one without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mnistcli.output.plots.colors import Rgb
from mnistcli.output.plots.pictures import Panel
from mnistcli.output.plots.plots_screen import Screen

_HEIGHT = 12  # lines of text
_MAX_WIDTH = 72
_MARGIN = 10  # columns for the numbers beside the axis
_MARKS = "*o"  # of the first and the second line, where there is no colour

Canvas = NDArray[np.int8]  # number of the line that passes, -1 where none does


def draw_panel(panel: Panel, colors: Sequence[Rgb], screen: Screen) -> Iterator[str]:
    """Draw a panel: its title and legend, the lines between two axes, the epochs below.

    Args:
        panel: what is drawn.
        colors: one a line.
        screen: what it is drawn on.
    """
    width = max(10, min(_MAX_WIDTH, screen.columns - _MARGIN - 1))
    finite = [v for line in panel.lines for v in line.values if np.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    yield "  ".join([panel.title, *_list_legend(panel, colors, screen)])
    pixels = _HEIGHT * (2 if screen.has_color else 1)
    canvas = np.full((pixels, width), -1, np.int8)
    for number, line in enumerate(panel.lines):
        _trace(canvas, number, line.values, low, high)
    side, corner = ("│", "└") if screen.has_color else ("|", "+")
    for row in range(_HEIGHT):
        share = {0: 0.0, _HEIGHT // 2: 0.5, _HEIGHT - 1: 1.0}.get(row)
        shown = "" if share is None else f"{high + share * (low - high):.4g}"
        yield f"{shown:>{_MARGIN - 1}} {side}{_draw_row(canvas, row, colors, screen)}"
    epochs = max(len(line.values) for line in panel.lines)
    yield " " * _MARGIN + corner + ("─" if screen.has_color else "-") * width
    yield " " * _MARGIN + " 1" + f"epoch {epochs}".rjust(width - 1)


def _list_legend(panel: Panel, colors: Sequence[Rgb], screen: Screen) -> Iterator[str]:
    """Name each line beside a sample of it."""
    for line, color, mark in zip(panel.lines, colors, _MARKS, strict=False):
        sample = screen.paint("━━", color) if screen.has_color else mark
        yield f"{sample} {line.label}"


def _trace(canvas: Canvas, number: int, values: Sequence[float], low: float, high: float) -> None:
    """Draw a line from the left edge to the right one; values that are not finite are gaps."""
    height, width = canvas.shape
    places = np.linspace(0, len(values) - 1, width)
    heights = np.interp(places, np.arange(len(values)), np.array(values, np.float64))
    with np.errstate(invalid="ignore"):
        rows = (high - heights) / (high - low) * (height - 1)
    for x, (here, following) in enumerate(pairwise([*rows.tolist(), rows[-1]])):
        if np.isfinite(here):
            start = round(here)
            end = round((here + following) / 2) if np.isfinite(following) else start
            canvas[min(start, end) : max(start, end) + 1, x] = number


def _draw_row(canvas: Canvas, row: int, colors: Sequence[Rgb], screen: Screen) -> str:
    """Draw one line of text."""
    if not screen.has_color:
        return "".join(" " if number < 0 else _MARKS[number] for number in canvas[row])
    upper, lower = canvas[2 * row].tolist(), canvas[2 * row + 1].tolist()
    return "".join(_draw_cell(a, b, colors, screen) for a, b in zip(upper, lower, strict=True))


def _draw_cell(upper: int, lower: int, colors: Sequence[Rgb], screen: Screen) -> str:
    """Draw two pixels, of which none, one or both are there."""
    if upper < 0 and lower < 0:
        return " "
    if lower < 0:
        return screen.paint("▀", colors[upper])
    if upper < 0:
        return screen.paint("▄", colors[lower])
    return screen.paint("▀", colors[upper], colors[lower])
