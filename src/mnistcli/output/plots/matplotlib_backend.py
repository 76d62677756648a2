"""Draws figures as PNG and SVG files, with matplotlib in its own style."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnistcli.metrics.calibration import Calibration
from mnistcli.optional_imports import import_optional, require
from mnistcli.output.plots.figures import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    SKY_BLUE,
    VERMILLION,
    WHITE,
    Caption,
    ConfusionMatrix,
    Curves,
    Figure,
    Heading,
    ImageGrid,
    Panel,
    Pixels,
    ReliabilityDiagram,
    WeightMatrix,
    color_shares,
    color_signed,
    is_dark,
    to_hex,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

Format = Literal["png", "svg"]
DPI = 120
MARGIN_IN = 0.15
HEADER_IN = 0.62  # a title and a note
_POINTS_PER_INCH = 72
_TITLE_SIZE, _NOTE_SIZE = 12, 9  # points
_TITLE_WIDTH, _NOTE_WIDTH = 8.7, 5.6  # points a character: enough for all but rows of W
_MAX_HEADING_IN = 12.0
_INSTALL_HINT = "install it: python -m pip install matplotlib; or give --show, which needs none"
# On top of matplotlib's defaults: what a user's matplotlibrc says about other work is not meant.
_STYLE = {
    "axes.edgecolor": to_hex(GREY),
    "axes.labelcolor": to_hex(INK),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": DPI,
    "figure.facecolor": to_hex(WHITE),
    "font.size": 9,
    "legend.edgecolor": to_hex(WHITE),
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "mnistcli",  # the same picture is the same file
    "text.color": to_hex(INK),
    "text.parse_math": False,  # a dollar in a file's name is a dollar
    "xtick.color": to_hex(GREY),
    "xtick.labelcolor": to_hex(INK),
    "ytick.color": to_hex(GREY),
    "ytick.labelcolor": to_hex(INK),
}
_METADATA: dict[Format, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Creator": "mnistcli", "Date": None},
}
_LINE_STYLES = ((BLUE, "-"), (VERMILLION, "--"))
_MAX_MARKED = 30  # values of a line that are few enough to be seen one by one
_CELL_IN, _MIN_SIDE_IN, _MAX_SIDE_IN = 0.5, 3.4, 14.0
_MAX_NUMBERED = 24  # rows or columns whose cells are large enough for numbers
_LABEL_LENGTH = 14
_WIDTH, _MIN_WIDTH = 1440, 480  # pixels
_GAP, _FRAME, _BOTTOM = 14, 4, 8
_MAX_SCALE = 6
_CAPTION_SIZE, _LINE_HEIGHT, _CHARACTER_WIDTH = 8, 17, 8.2  # points; pixels at DPI
_MAX_CAPTION = 20
_SCALE_BAR, _SCALE_HEIGHT = (300, 14), 50  # of signed images: the bar, and all that it takes


@dataclass(frozen=True)
class Rendering:
    """The contents of a PNG or SVG file.

    Attributes:
        data: the bytes.
        width: in pixels; of an SVG in points.
        height: likewise.
    """

    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class _Grid:
    """The layout of an image grid: columns and rows, all else in pixels."""

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


def check_matplotlib() -> None:
    """Check that matplotlib is installed, without importing it.

    Raises:
        ResourceError: matplotlib is not installed.
    """
    require("matplotlib", extra="plots", hint=_INSTALL_HINT)


def render_picture(picture: Figure, form: Format) -> Rendering:
    """Draw a figure as a PNG or SVG file; the same figure gives the same bytes.

    Raises:
        ResourceError: matplotlib is missing or broken.
    """
    with _prepare_matplotlib():
        figure = _draw(picture)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, dpi=DPI, metadata=_METADATA[form])
        per_inch = DPI if form == "png" else _POINTS_PER_INCH
        width, height = (round(inches * per_inch) for inches in figure.get_size_inches())
    return Rendering(buffer.getvalue(), width, height)


def draw_curves(picture: Curves) -> MplFigure:
    """Draw the panels side by side."""
    figure = open_figure(picture.heading, 5.5 * len(picture.panels), 4.4)
    for axes, panel in zip(figure.subplots(1, len(picture.panels), squeeze=False)[0],
                           picture.panels, strict=True):  # fmt: skip
        _draw_panel(axes, panel)
    return figure


def draw_reliability(picture: ReliabilityDiagram) -> MplFigure:
    """Draw accuracy over confidence, and below it the number of predictions per bin."""
    figure = open_figure(picture.heading, 6.6, 7.2)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    _draw_accuracies(upper, picture.calibration)
    _draw_counts(lower, picture.calibration)
    return figure


def draw_confusion(picture: ConfusionMatrix) -> MplFigure:
    """Draw the matrix with the counts; rows: true class, columns: predicted class."""
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


def draw_weight_matrix(picture: WeightMatrix) -> MplFigure:
    """Draw the weights; rows: inputs, columns: units."""
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


def draw_image_grid(tiles: ImageGrid) -> MplFigure:
    """Draw the images with their captions; misclassified ones are framed."""
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


def color_confusion(counts: NDArray[np.int64]) -> Pixels:
    """Colour each count by its share of the row: correct ones blue, errors vermillion.

    Mistakes are few where a network is good: their ramp ends at the largest of their shares.

    Args:
        counts: [classes, classes].

    Returns:
        uint8 [classes, classes, 3].
    """
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    is_correct = np.eye(len(counts), dtype=bool)
    worst = float(np.where(is_correct, 0, shares).max()) or 1.0
    right, wrong = color_shares(shares, BLUE), color_shares(shares / worst, VERMILLION)
    return np.where(is_correct[..., None], right, wrong)


def open_figure(heading: Heading, width_in: float, height_in: float) -> MplFigure:
    """Return a figure with its heading, below which axes are laid out.

    Args:
        heading: above everything.
        width_in: of the figure, in inches; more where the heading takes more.
        height_in: likewise, the heading included.
    """
    from matplotlib.figure import Figure as MplFigure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width_in = widen(heading, width_in)
    layout = ConstrainedLayoutEngine(
        rect=(0, 0, 1, 1 - HEADER_IN / height_in), w_pad=MARGIN_IN, h_pad=MARGIN_IN / 2
    )
    figure = MplFigure(figsize=(width_in, height_in), layout=layout)
    room = (width_in - 2 * MARGIN_IN) * _POINTS_PER_INCH
    lines = (
        (heading.title, MARGIN_IN, _TITLE_SIZE, _TITLE_WIDTH, INK, "bold"),
        (heading.note, MARGIN_IN + 0.25, _NOTE_SIZE, _NOTE_WIDTH, GREY, "normal"),
    )
    for text, top_in, size, character, color, weight in lines:
        figure.text(
            MARGIN_IN / width_in, 1 - top_in / height_in, shorten(text, round(room / character)),
            va="top", fontsize=size, color=to_hex(color), fontweight=weight,
        )  # fmt: skip
    return figure


def widen(heading: Heading, width_in: float) -> float:
    """Return the width in inches that a figure needs for its heading, within bounds."""
    points = max(len(heading.title) * _TITLE_WIDTH, len(heading.note) * _NOTE_WIDTH)
    wanted_in = points / _POINTS_PER_INCH + 2 * MARGIN_IN
    return max(width_in, min(wanted_in, _MAX_HEADING_IN))


def shorten(text: str, length: int) -> str:
    """Cut a text to a number of characters, with an ellipsis if it is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"


@contextlib.contextmanager
def _prepare_matplotlib() -> Iterator[None]:
    """Import matplotlib and set its style while something is drawn."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its cache's whereabouts, for example
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # characters that its font lacks
        mpl = import_optional("matplotlib", extra="plots", hint=_INSTALL_HINT)
        import_optional("matplotlib.figure", extra="plots", hint=_INSTALL_HINT)
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(_STYLE)
            yield


def _draw(picture: Figure) -> MplFigure:
    match picture:
        case ImageGrid():
            return draw_image_grid(picture)
        case Curves():
            return draw_curves(picture)
        case ConfusionMatrix():
            return draw_confusion(picture)
        case WeightMatrix():
            return draw_weight_matrix(picture)
        case ReliabilityDiagram():
            return draw_reliability(picture)


def _draw_panel(axes: Any, panel: Panel) -> None:
    # A dashed line can be told apart without colour too.
    from matplotlib.ticker import MaxNLocator

    for line, (color, style) in zip(panel.lines, _LINE_STYLES, strict=False):
        values = np.array(line.values, np.float64)
        values[~np.isfinite(values)] = np.nan
        marker = "o" if len(values) <= _MAX_MARKED else ""
        axes.plot(
            np.arange(1, len(values) + 1), values,
            color=to_hex(color), linestyle=style, marker=marker, markersize=4, label=line.label,
        )  # fmt: skip
    if panel.marked_epoch is not None:
        mark = panel.describe_mark()
        axes.axvline(panel.marked_epoch, color=to_hex(GREY), linestyle=":", label=mark)
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(color=to_hex(PALE), linewidth=0.6)
    axes.legend()


def _draw_accuracies(axes: Any, calibration: Calibration) -> None:
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
    # The scale is logarithmic: most predictions are confident.
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


def _bound_side(cells: int) -> float:
    # In inches.
    return max(_MIN_SIDE_IN, min(_CELL_IN * cells, _MAX_SIDE_IN))


def _draw_cells(axes: Any, pixels: Pixels) -> None:
    axes.imshow(pixels, interpolation="nearest", aspect="auto")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _write_numbers(axes: Any, pixels: Pixels, texts: list[list[str]]) -> None:
    on_dark = is_dark(pixels)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            color = to_hex(WHITE if on_dark[row, column] else INK)
            axes.text(column, row, text, ha="center", va="center", color=color)


def _arrange(tiles: ImageGrid, captions: list[Caption]) -> _Grid:
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


def _paste(tiles: ImageGrid, captions: list[Caption], grid: _Grid, size: tuple[int, int]) -> Pixels:
    paper = np.full((*size, 3), 255, np.uint8)
    large = tiles.images.repeat(grid.scale, axis=1).repeat(grid.scale, axis=2)
    for index, image in enumerate(large):
        x, y = _place_image(tiles, grid, index)
        height, width = image.shape[:2]
        is_misclassified = bool(captions) and captions[index].is_misclassified
        if is_misclassified or tiles.limit is not None:
            edge, color = (_FRAME, VERMILLION) if is_misclassified else (1, GREY)
            paper[y - edge : y + height + edge, x - edge : x + width + edge] = color
        paper[y : y + height, x : x + width] = image
    if tiles.limit:
        length, thickness = _SCALE_BAR
        top = size[0] - _BOTTOM - _SCALE_HEIGHT + _GAP
        bar = color_signed(np.linspace(-1, 1, length), 1.0)
        paper[top : top + thickness, grid.left : grid.left + length] = bar
    return paper


def _place_image(tiles: ImageGrid, grid: _Grid, index: int) -> tuple[int, int]:
    x, y = grid.place(index)
    width = tiles.images.shape[2] * grid.scale
    return x + (grid.pitch_x - _GAP - width) // 2, y + _FRAME


def _shorten_lines(caption: Caption) -> Caption:
    lines = tuple(shorten(line, _MAX_CAPTION) for line in caption.lines)
    return Caption(lines, caption.is_misclassified)


def _write_caption(axes: Any, caption: Caption, tiles: ImageGrid, grid: _Grid, index: int) -> None:
    _, y = _place_image(tiles, grid, index)
    x = grid.place(index)[0] + (grid.pitch_x - _GAP) / 2
    y += tiles.images.shape[1] * grid.scale + _FRAME + 1
    for number, line in enumerate(caption.lines):
        first = number == 0
        color = VERMILLION if caption.is_misclassified else INK if first else GREY
        axes.text(
            x, y + number * _LINE_HEIGHT, line, ha="center", va="top", fontsize=_CAPTION_SIZE,
            color=to_hex(color), fontweight="bold" if caption.is_misclassified else "normal",
        )  # fmt: skip


def _write_scale(axes: Any, limit: float, left: int, height: int) -> None:
    y = height - _BOTTOM - _SCALE_HEIGHT + _GAP + _SCALE_BAR[1] + 3
    for share, text in ((0.0, f"≤ {-limit:.2g}"), (0.5, "0"), (1.0, f"≥ {limit:.2g}")):
        align = {0.0: "left", 0.5: "center", 1.0: "right"}[share]
        axes.text(left + share * _SCALE_BAR[0], y, text, ha=align, va="top", fontsize=_CAPTION_SIZE)
