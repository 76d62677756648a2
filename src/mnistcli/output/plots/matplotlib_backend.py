"""Pictures become PNG and SVG files. The one place that loads matplotlib and sets its style."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mnistcli.errors import ResourceError
from mnistcli.output.plots.colors import GREY, INK, WHITE, to_hex
from mnistcli.output.plots.pictures import (
    Confusion,
    Curves,
    Heading,
    Kernel,
    Picture,
    Reliability,
    Tiles,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


@dataclass(frozen=True)
class Rendering:
    """A picture as a file's contents.

    Attributes:
        data: the bytes.
        width: in pixels; of an SVG in points.
        height: likewise.
    """

    data: bytes
    width: int
    height: int


def check_matplotlib() -> None:
    """Find out before any work whether files can be drawn.

    Raises:
        ResourceError: matplotlib is not installed.
    """
    try:
        found = importlib.util.find_spec("matplotlib")
    except ValueError:  # something else has taken its name
        found = None
    if found is None:
        raise ResourceError("matplotlib", "not installed", _INSTALL_HINT)


def render_picture(picture: Picture, form: Format) -> Rendering:
    """Draw a picture as a PNG or SVG file; the same picture gives the same bytes.

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


@contextlib.contextmanager
def _prepare_matplotlib() -> Iterator[None]:
    """Load it, and set its style for as long as something is drawn."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its cache's whereabouts, for example
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # characters that its font lacks
        try:
            import matplotlib as mpl
            import matplotlib.figure
        except ImportError as error:
            what = f"cannot be imported: {error}"
            raise ResourceError("matplotlib", what, _INSTALL_HINT) from error
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(_STYLE)
            yield


def _draw(picture: Picture) -> Figure:
    """Hand a picture to what draws its kind."""
    from mnistcli.output.plots import charts, matrices, mosaics

    match picture:
        case Tiles():
            return mosaics.draw_tiles(picture)
        case Curves():
            return charts.draw_curves(picture)
        case Confusion():
            return matrices.draw_confusion(picture)
        case Kernel():
            return matrices.draw_kernel(picture)
        case Reliability():
            return charts.draw_reliability(picture)


def widen(heading: Heading, width_in: float) -> float:
    """Return the width of a figure in inches that has room for its heading, within bounds."""
    points = max(len(heading.title) * _TITLE_WIDTH, len(heading.note) * _NOTE_WIDTH)
    wanted_in = points / _POINTS_PER_INCH + 2 * MARGIN_IN
    return max(width_in, min(wanted_in, _MAX_HEADING_IN))


def open_figure(heading: Heading, width_in: float, height_in: float) -> Figure:
    """Return a figure with its heading; what is drawn into it is laid out below that.

    Args:
        heading: above everything.
        width_in: of the figure, in inches; more where the heading takes more.
        height_in: likewise, the heading included.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width_in = widen(heading, width_in)
    layout = ConstrainedLayoutEngine(
        rect=(0, 0, 1, 1 - HEADER_IN / height_in), w_pad=MARGIN_IN, h_pad=MARGIN_IN / 2
    )
    figure = Figure(figsize=(width_in, height_in), layout=layout)
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


def shorten(text: str, length: int) -> str:
    """Cut a text to a number of characters, with an ellipsis where something is gone."""
    return text if len(text) <= length else text[: length - 1] + "…"
