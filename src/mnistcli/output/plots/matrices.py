"""Draws confusion matrices and kernels with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnistcli.output.plots.colors import (
    BLUE,
    INK,
    VERMILLION,
    WHITE,
    Pixels,
    color_shares,
    color_signed,
    is_dark,
    to_hex,
)
from mnistcli.output.plots.matplotlib_backend import HEADER_IN, open_figure, shorten
from mnistcli.output.plots.pictures import Confusion, Kernel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL_IN, _MIN_SIDE_IN, _MAX_SIDE_IN = 0.5, 3.4, 14.0
_MAX_NUMBERED = 24  # rows or columns whose cells are large enough for numbers
_LABEL_LENGTH = 14


def color_confusion(counts: NDArray[np.int64]) -> Pixels:
    """Colour each count by its share of the row: right ones blue, mistakes vermillion.

    Mistakes are few where a network is good: their ramp ends at the largest of their shares.

    Args:
        counts: [classes, classes].

    Returns:
        uint8 [classes, classes, 3].
    """
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    is_right = np.eye(len(counts), dtype=bool)
    worst = float(np.where(is_right, 0, shares).max()) or 1.0
    right, wrong = color_shares(shares, BLUE), color_shares(shares / worst, VERMILLION)
    return np.where(is_right[..., None], right, wrong)


def draw_confusion(picture: Confusion) -> Figure:
    """Draw the matrix, rows the truth, every count in its cell."""
    pixels, size = color_confusion(picture.counts), len(picture.labels)
    side_in = _bound_side(size)
    figure = open_figure(picture.heading, side_in + 1.5, side_in + 1.2 + HEADER_IN)
    axes = figure.subplots()
    _draw_cells(axes, pixels)
    labels = [shorten(label, _LABEL_LENGTH) for label in picture.labels]
    step = max(1, size // _MAX_NUMBERED)
    is_long = max(map(len, labels), default=0) > 3
    axes.set_xticks(range(0, size, step), labels[::step])
    if is_long:
        for text in axes.get_xticklabels():
            text.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(0, size, step), labels[::step])
    axes.set(xlabel="predicted", ylabel="true")
    if size <= _MAX_NUMBERED:
        _write_numbers(axes, pixels, [[str(n) if n else "" for n in row] for row in picture.counts])
    return figure


def draw_kernel(picture: Kernel) -> Figure:
    """Draw the weights, a row for each input, a column for each unit."""
    rows, columns = picture.values.shape
    width_in, height_in = _bound_side(columns), max(1.0, min(_CELL_IN * rows, _MAX_SIDE_IN))
    figure = open_figure(picture.heading, width_in + 1.2, height_in + 1.0 + HEADER_IN)
    axes = figure.subplots()
    pixels = color_signed(picture.values, picture.limit)
    _draw_cells(axes, pixels)
    axes.set(xlabel="unit", ylabel="input")
    for axis, count in ((axes.xaxis, columns), (axes.yaxis, rows)):
        axis.set_ticks(range(0, count, max(1, count // _MAX_NUMBERED)))
    if max(rows, columns) <= _MAX_NUMBERED:
        _write_numbers(axes, pixels, [[f"{v:.2f}" for v in row] for row in picture.values])
    return figure


def _bound_side(cells: int) -> float:
    """Return the length in inches of so many cells in a row."""
    return max(_MIN_SIDE_IN, min(_CELL_IN * cells, _MAX_SIDE_IN))


def _draw_cells(axes: Any, pixels: Pixels) -> None:
    """Draw one coloured cell a pixel."""
    axes.imshow(pixels, interpolation="nearest", aspect="auto")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _write_numbers(axes: Any, pixels: Pixels, texts: list[list[str]]) -> None:
    """Write into each cell, in what stands out from its colour."""
    on_dark = is_dark(pixels)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            color = to_hex(WHITE if on_dark[row, column] else INK)
            axes.text(column, row, text, ha="center", va="center", color=color)
