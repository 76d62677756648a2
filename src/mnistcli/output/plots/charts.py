"""Draws curves and reliability diagrams with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnistcli.metrics.calibration import Calibration
from mnistcli.output.plots.colors import BLUE, INK, ORANGE, PALE, SKY_BLUE, VERMILLION, to_hex
from mnistcli.output.plots.matplotlib_backend import open_figure
from mnistcli.output.plots.pictures import Curves, Panel, Reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINE_STYLES = ((BLUE, "-"), (VERMILLION, "--"))
_MAX_MARKED = 30  # values of a line that are few enough to be seen one by one


def draw_curves(picture: Curves) -> Figure:
    """Draw panels side by side, the epochs from left to right."""
    figure = open_figure(picture.heading, 5.5 * len(picture.panels), 4.4)
    for axes, panel in zip(figure.subplots(1, len(picture.panels), squeeze=False)[0],
                           picture.panels, strict=True):  # fmt: skip
        _draw_panel(axes, panel)
    return figure


def _draw_panel(axes: Any, panel: Panel) -> None:
    """Draw the lines of one panel; a dashed line is told apart without colour too."""
    from matplotlib.ticker import MaxNLocator

    for line, (color, style) in zip(panel.lines, _LINE_STYLES, strict=False):
        values = np.array(line.values, np.float64)
        values[~np.isfinite(values)] = np.nan
        marker = "o" if len(values) <= _MAX_MARKED else ""
        axes.plot(
            np.arange(1, len(values) + 1), values,
            color=to_hex(color), linestyle=style, marker=marker, markersize=4, label=line.label,
        )  # fmt: skip
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(color=to_hex(PALE), linewidth=0.6)
    axes.legend()


def draw_reliability(picture: Reliability) -> Figure:
    """Draw accuracy over confidence, and below it how many predictions there are of each."""
    figure = open_figure(picture.heading, 6.6, 7.2)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    _draw_accuracies(upper, picture.calibration)
    _draw_counts(lower, picture.calibration)
    return figure


def _draw_accuracies(axes: Any, calibration: Calibration) -> None:
    """Draw a bar to the accuracy, and the gap between it and the confidence."""
    filled = [row for row in calibration.bins if row.count]
    middles = np.array([(row.low + row.high) / 2 for row in filled])
    accuracies = np.array([row.accuracy for row in filled], np.float64)
    confidences = np.array([row.confidence for row in filled], np.float64)
    width = 0.92 / len(calibration.bins)
    axes.bar(middles, accuracies, width, color=to_hex(SKY_BLUE), label="accuracy")
    axes.bar(
        middles, confidences - accuracies, width, bottom=accuracies,
        facecolor="none", edgecolor=to_hex(VERMILLION), hatch="////", linewidth=1,
        label="gap to the mean confidence",
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color=to_hex(INK), linestyle="--", linewidth=1, label="perfect")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    axes.grid(color=to_hex(PALE), linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left")


def _draw_counts(axes: Any, calibration: Calibration) -> None:
    """Draw the counts on a logarithmic scale, most predictions being confident, with numbers."""
    width, counts = 0.92 / len(calibration.bins), [row.count for row in calibration.bins]
    for row in calibration.bins:
        if row.count:
            middle = (row.low + row.high) / 2
            axes.bar(middle, row.count, width, color=to_hex(ORANGE))
            axes.annotate(
                f"{row.count:,}", (middle, row.count), (0, 2),
                textcoords="offset points", ha="center", fontsize=7,
            )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(0.7, 4 * max(counts))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
    axes.set(xlabel="confidence: the predicted class's probability", ylabel="examples")
