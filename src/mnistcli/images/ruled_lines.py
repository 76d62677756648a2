"""Ruled and squared paper: its lines are found, and taken away from under the ink.

A line is thin, nearly level (or upright), and goes from one edge of the picture to the other. The
lines of a page are nearly parallel: one slope is found for all of them by a Hough transform
(R. O. Duda, P. E. Hart, "Use of the Hough transformation to detect lines and curves in pictures",
1972), then each line's own slope close to it. What a line adds is known from its whole length,
where little of it is written over; that much is taken away, so that strokes stay where they cross
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Ints = NDArray[np.intp]

FAINTEST = 0.2  # of the ink: a fainter line is no trouble
THICKEST_SHARE, THICKEST_LEAST = 0.03, 3  # of the longer side; pixels
STEEPEST = 0.14  # rows a column: 8 degrees
SLOPE_SPREAD = 0.03  # around the page's slope: perspective
LEAST_COVER = 0.45  # of its way that a line has to be seen on; strokes hide the rest
LEAST_WAY = 0.12  # of the picture's width that it has to go, before it leaves at another side
COLUMN_STEP = 3  # columns between those that are looked at
END_SHARE = 1 / 40  # of the picture's width: a line is seen so close to both edges
STRIPS = 12  # pieces of a line whose levels are found on their own
DARKER, DARKER_LEAST = 1.25, 0.05  # how much darker a line may be here than it is elsewhere
HIDING = 0.6  # of the ink: below a darker line, strokes are guessed from both its sides


@dataclass(frozen=True)
class Lines:
    """Lines that cross a picture from left to right: row = rows + slopes * (column - middle).

    `reach` is how many rows on either side belong to them, and a little of the paper.
    """

    rows: NDArray[np.float64]
    slopes: NDArray[np.float64]
    reach: int


def remove_lines(ink: Floats) -> tuple[Floats, int]:
    """Take the lines of ruled or squared paper away.

    Args:
        ink: float32 [height, width], 0 for paper, about 1 for ink.

    Returns:
        The ink without them, and how many lines there were.
    """
    count = 0
    for _ in range(2):  # level lines, then upright ones
        lines = find_lines(ink)
        if len(lines.rows):
            ink = _erase(ink, lines)
            count += len(lines.rows)
        ink = ink.T
    return np.ascontiguousarray(ink), count


def find_lines(ink: Floats) -> Lines:
    """Find thin lines that go from the left edge to the right one."""
    height, width = ink.shape
    thin = _keep_thin(ink > FAINTEST, _thickest(ink.shape) + 1)
    columns = np.arange(0, width, COLUMN_STEP)
    rows, places = np.nonzero(thin[:, columns])
    away = columns - (width - 1) / 2
    step = 1 / max(1.0, width / 2)  # half a picture away, slopes are a pixel apart
    limit = int(STEEPEST / step)
    slopes = np.arange(-limit, limit + 1) * step
    shifted = np.rint(rows - slopes[:, None] * away[places]).astype(np.intp)
    inside = (shifted >= 0) & (shifted < height)
    cells = (np.arange(len(slopes))[:, None] * height + shifted)[inside]
    votes = np.bincount(cells, minlength=len(slopes) * height).reshape(len(slopes), height)
    way = _measure_way(slopes, (height, width))
    cover = np.where(way >= LEAST_WAY, votes / len(columns) / np.maximum(way, LEAST_WAY), 0)
    return _choose_lines(cover, slopes, thin)


def _measure_way(slopes: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """The share of the picture's width on which a line is inside it: [slopes, rows]."""
    height, width = shape
    rows = np.arange(height)
    rise = np.where(np.abs(slopes) < 1e-9, 1e-9, slopes)[:, None] * width
    ends = np.sort([(-0.5 - rows) / rise, (height - 0.5 - rows) / rise], axis=0)
    return np.asarray(np.diff(np.clip(ends, -0.5, 0.5), axis=0)[0])


def _choose_lines(cover: NDArray[np.float64], slopes: NDArray[np.float64], thin: Mask) -> Lines:
    """Pick the page's slope, each row's best slope near it, and of adjacent rows the middle."""
    strong = np.where(cover >= LEAST_COVER, cover**2, 0)
    page = slopes[strong.sum(axis=1).argmax()]
    cover = np.where(np.abs(slopes - page)[:, None] <= SLOPE_SPREAD, cover, 0)
    best = cover.max(axis=0)
    edges = np.diff(best >= LEAST_COVER, prepend=False, append=False)
    groups = np.flatnonzero(edges).reshape(-1, 2)
    rows = np.array([first + _find_middle(best[first:end]) for first, end in groups], np.intp)
    steepness = np.array([_find_middle(cover[:, row]) for row in rows], np.intp)
    reach = int(np.diff(groups, axis=1).max(initial=1)) // 2 + 2
    lines = Lines(rows.astype(np.float64), slopes[steepness], reach)
    ends = _reach_ends(thin, lines)
    return Lines(lines.rows[ends], lines.slopes[ends], reach)


def _find_middle(cover: NDArray[np.float64]) -> int:
    """A thick line is seen about as well in several rows, and at several slopes."""
    return round(float(np.flatnonzero(cover >= 0.97 * cover.max()).mean()))


def _reach_ends(thin: Mask, lines: Lines) -> Mask:
    """Tell which lines are seen at both edges, if they come there: strokes seldom are."""
    rows, is_inside = _locate(lines, thin.shape)
    at_line: Mask = thin[rows, np.arange(thin.shape[1])] & is_inside
    seen: Mask = np.any(at_line, axis=1)
    seen |= ~is_inside.all(axis=1)
    end = max(2, round(thin.shape[1] * END_SHARE))
    left, right = seen[:, :end].mean(axis=1), seen[:, -end:].mean(axis=1)
    return np.asarray(np.minimum(left, right) >= 0.5)


def _locate(lines: Lines, shape: tuple[int, ...]) -> tuple[Ints, Mask]:
    """Rows of the picture for a band around each line [n, rows, width].

    The second tells which are in the picture; those that are not become its first or last.
    """
    away = np.arange(shape[1]) - (shape[1] - 1) / 2
    middle = np.rint(lines.rows[:, None] + lines.slopes[:, None] * away).astype(np.intp)
    rows = middle[:, None, :] + np.arange(-lines.reach, lines.reach + 1)[:, None]
    return np.clip(rows, 0, shape[0] - 1), (rows >= 0) & (rows < shape[0])


def _erase(ink: Floats, lines: Lines) -> Floats:
    """Subtract each line's own level from a band around it."""
    rows, is_inside = _locate(lines, ink.shape)
    columns = np.broadcast_to(np.arange(ink.shape[1]), rows.shape)
    band = ink[rows, columns]
    level = _measure_level(band)
    left = np.maximum(band - level, 0) / np.maximum(1 - level, 1 - HIDING)
    beside = (left[:, :1] + left[:, -1:]) / 2
    left = np.where(level > HIDING, np.maximum(left, beside), left)
    cleaned = ink.copy()
    cleaned[rows[is_inside], columns[is_inside]] = np.minimum(left, band)[is_inside]
    return cleaned


def _measure_level(band: Floats) -> Floats:
    """What a line adds to the ink, along its length: medians of medians of pieces of it.

    A stroke that goes along a line is darker than most of the line is; and a line may be followed
    a row too high or too low.
    """
    pieces = np.array_split(band, min(STRIPS, band.shape[2]), axis=2)
    medians = np.stack([np.median(piece, axis=2) for piece in pieces], axis=2)
    padded = np.pad(medians, ((0, 0), (0, 0), (2, 2)), mode="edge")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5, axis=2), axis=3)
    usual = np.median(medians, axis=2, keepdims=True)
    level = np.minimum(_widen(smooth), _widen(usual) * DARKER + DARKER_LEAST)
    widths = [piece.shape[2] for piece in pieces]
    return np.asarray(np.maximum(np.repeat(level, widths, axis=2), 0), np.float32)


def _widen(levels: Floats) -> Floats:
    """Of each row of a band and its two neighbours the darkest."""
    padded = np.pad(levels, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return np.asarray(np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:]))


def _thickest(shape: tuple[int, ...]) -> int:
    return max(THICKEST_LEAST, round(max(shape) * THICKEST_SHARE))


def _keep_thin(mask: Mask, thickness: int) -> Mask:
    """Keep what is set in less than `thickness` pixels one above the other."""
    height = len(mask)
    index = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(mask, -1, index), axis=0)
    below = np.minimum.accumulate(np.where(mask, height, index)[::-1], axis=0)[::-1]
    return np.asarray(mask & (below - above - 1 < thickness))
