"""Curves and calibration as inline SVG; colours are classes of the page's style."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mnistcli.metrics.calibration import Calibration, ConfidenceBin
from mnistcli.output.markup import Markup, escape, join, tag
from mnistcli.output.plots.pictures import Line, Panel

_WIDTH, _LEFT, _RIGHT, _TOP = 360, 48, 8, 10
_PLOT_HEIGHT, _AXIS_HEIGHT, _STRIP_HEIGHT = 190, 34, 36
_BASE = _TOP + _PLOT_HEIGHT
_MAX_SIZE = 1e100  # of a number that is drawn: sums and quotients of such numbers are finite
_MAX_POINTS = 600  # of a line: more than there are pixels


def draw_panel(panel: Panel) -> Markup:
    """Draw lines over epochs, the last value of each above them; not finite values are gaps."""
    values = [value for line in panel.lines for value in line.values if _is_drawn(value)]
    low, high = _widen(min(values, default=0.0), max(values, default=1.0))
    count = max(len(line.values) for line in panel.lines)
    parts: list[Markup] = list(_draw_levels(low, high))
    for epoch in _choose_epochs(count):
        x = _place_epoch(epoch, count)
        parts.append(_write(x, _BASE + 15, str(epoch), "middle"))
    parts.append(_write((_LEFT + _WIDTH) / 2, _BASE + 30, "epoch", "middle"))
    for number, line in enumerate(panel.lines):
        parts.append(_draw_line(line, f"line s{number}", count, low, high))
    keys = [
        tag("span", f"{line.label} {_format_last(line)}", class_=f"key s{number}")
        for number, line in enumerate(panel.lines)
    ]
    caption = tag("figcaption", tag("strong", panel.title), *keys)
    return tag("figure", caption, _make_svg(_BASE + _AXIS_HEIGHT, panel.title, parts))


def draw_calibration(calibration: Calibration) -> Markup:
    """Draw accuracy and mean confidence in each bin of confidence, and below how many lie there."""
    strip = _BASE + 8
    parts: list[Markup] = list(_draw_levels(0.0, 1.0))
    parts.append(_stroke("diagonal", _LEFT, _BASE, _WIDTH - _RIGHT, _TOP))
    for row in calibration.bins:
        if row.count:
            parts.append(_draw_bin(row, row.count / calibration.count, strip))
    foot = strip + _STRIP_HEIGHT
    parts.append(_stroke("grid", _LEFT, foot, _WIDTH - _RIGHT, foot))
    parts.append(_write(_LEFT - 5, foot - 8, "share", "end"))
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(_write(_place_share(tick), foot + 14, f"{tick:g}", "middle"))
    parts.append(_write((_LEFT + _WIDTH) / 2, foot + 29, "confidence", "middle"))
    caption = tag(
        "figcaption",
        tag("span", "accuracy", class_="key s0 block"),
        tag("span", "mean confidence", class_="key s1 solid"),
    )
    return tag("figure", caption, _make_svg(foot + _AXIS_HEIGHT, "calibration", parts))


def _draw_bin(row: ConfidenceBin, share: float, strip: float) -> Markup:
    """Its numbers are shown where the pointer rests."""
    accuracy, confidence = row.accuracy or 0.0, row.confidence or 0.0
    left, right = _place_share(row.low) + 1, _place_share(row.high) - 1
    top, size = _place(accuracy, 0, 1), max(1.0, share * _STRIP_HEIGHT)
    level = _place(confidence, 0, 1)
    words = (
        f"confidence {row.low:.2f} to {row.high:.2f}: {row.count:,} examples,"
        f" accuracy {accuracy:.4f}, mean confidence {confidence:.4f}"
    )
    return tag(
        "g",
        tag("title", words),
        _draw_bar("bar", left, top, right - left, _BASE - top),
        _draw_bar("count", left, strip + _STRIP_HEIGHT - size, right - left, size),
        _stroke("mark", left, level, right, level),
    )


def _draw_bar(kind: str, left: float, top: float, width: float, height: float) -> Markup:
    """Draw a rectangle; a tenth of a unit is less than a pixel."""
    sizes = {"x": left, "y": top, "width": width, "height": height}
    return tag("rect", class_=kind, **{name: f"{value:.1f}" for name, value in sizes.items()})


def _make_svg(height: float, label: str, parts: Sequence[Markup]) -> Markup:
    """Return a picture as wide as there is room."""
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {height:g}", role="img", aria_label=label)


def _write(x: float, y: float, text: str, anchor: str) -> Markup:
    """Write a number or a word beside an axis."""
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _stroke(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """Draw a straight line."""
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return tag("line", class_=kind, **{name: f"{value:.1f}" for name, value in ends.items()})


def _draw_levels(low: float, high: float) -> Iterator[Markup]:
    """Draw the vertical axis: a faint line and a number at each round value."""
    for tick in choose_ticks(low, high):
        y = _place(tick, low, high)
        yield _stroke("grid", _LEFT, y, _WIDTH - _RIGHT, y)
        yield _write(_LEFT - 5, y + 4, f"{tick:.4g}", "end")


def _draw_line(line: Line, kind: str, count: int, low: float, high: float) -> Markup:
    """Draw a line in pieces between its gaps; a value between two gaps is a dot."""
    pieces: list[list[str]] = [[]]
    for epoch, value in _thin(line.values):
        if _is_drawn(value):
            x, y = _place_epoch(epoch, count), _place(value, low, high)
            pieces[-1].append(f"{x:.1f} {y:.1f}")
        elif pieces[-1]:
            pieces.append([])
    path = " ".join(f"M{' L'.join(p if len(p) > 1 else p * 2)}" for p in pieces if p)
    return tag("path", d=path, class_=kind)


def _thin(values: Sequence[float]) -> Iterator[tuple[int, float]]:
    """Offer epochs from 1 and values: of many in one place the lowest and the highest."""
    size = -(-len(values) // (_MAX_POINTS // 2)) if len(values) > _MAX_POINTS else 1
    for start in range(0, len(values), size):
        piece = range(start, min(start + size, len(values)))
        ends = {min(piece, key=values.__getitem__), max(piece, key=values.__getitem__)}
        yield from ((place + 1, values[place]) for place in sorted(ends))


def choose_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return about five round numbers from low to high, which is larger."""
    step = _round_step((high - low) / 5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(k * step for k in range(first, min(last, first + 10) + 1))


def _choose_epochs(count: int) -> tuple[int, ...]:
    """Return epochs to name on the axis, the first among them."""
    step = max(1, round(_round_step(count / 5)))
    return (1, *range(step if step > 1 else 2, count + 1, step))


def _round_step(least: float) -> float:
    """Return the next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least)


def _is_drawn(value: float) -> bool:
    """Tell numbers from gaps."""
    return math.isfinite(value) and abs(value) <= _MAX_SIZE


def _widen(low: float, high: float) -> tuple[float, float]:
    """Leave room above and below; lines that are level need some too."""
    room = (high - low) * 0.04
    if room <= abs(high) * 1e-9:
        room = abs(high) * 0.05 or 0.5
    return low - room, high + room


def _place(value: float, low: float, high: float) -> float:
    return _BASE - (value - low) / (high - low) * _PLOT_HEIGHT


def _place_share(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _place_epoch(epoch: int, count: int) -> float:
    """A single epoch stands in the middle."""
    return _place_share(0.02 + 0.96 * ((epoch - 1) / (count - 1) if count > 1 else 0.5))


def _format_last(line: Line) -> Markup:
    """Write the value of the last epoch."""
    return escape(f"{line.values[-1]:.4f}") if line.values else join()
