"""Measure the ink of a picture, remove ruled lines, and choose the regions that are the digit.

A ruled line is thin, nearly level (or upright), and goes from one edge of the picture to another.
The lines of a page are nearly parallel: a Hough transform finds one slope for all of them (R. O.
Duda, P. E. Hart, "Use of the Hough transformation to detect lines and curves in pictures", 1972),
and then the slope of each line close to it. How much ink a line adds is estimated along its whole
length, where little of it is written over, and subtracted, so that strokes that cross it remain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Ints = NDArray[np.intp]
EDGE_WEIGHT = 0.05  # weight of regions at the picture's edge, which are seldom the digit
SLIVER_SHARE = 0.12  # a region at an edge that is narrower, relative to its length, is a line
CUT_SHARE = 0.8  # share of both sides that a digit fills in a picture cut to its size
NEAR_SHARE = 0.4  # largest gap between a digit's parts, by its longer side
PART_SHARE = 0.03  # regions that are smaller, relative to the digit's area, are specks
MIN_PIXELS = 30  # pixels of the smallest digit at working size
STRONG_SHARE = 0.6  # of the strongest ink: pixels from there on show its colour
EDGE_REACH = 3  # pixels from an outline within which a stroke's edge has risen
OUTLINE_SAMPLE = 400  # pixels of an outline that are looked at, at most
SAMPLE_STEP = 3  # pixels between those that noise is measured at
MIN_LINE_DENSITY = 0.2  # of the ink: fainter lines are left in place
MAX_LINE_SHARE, MIN_LINE_LIMIT = (
    0.03,
    3,
)  # of a line's thickness: a share of the longer side, and pixels
MAX_SLOPE = 0.14  # rows a column: 8 degrees
SLOPE_SPREAD = 0.03  # around the page's slope: perspective
MIN_COVER = 0.45  # share of its length on which a line is visible; strokes hide the rest
MIN_WAY = 0.12  # shortest line inside the picture, as a share of the width
COLUMN_STEP = 3  # columns from one that is searched for lines to the next
END_SHARE = 1 / 40  # share of the width at both edges in which a line is visible
STRIPS = 12  # pieces of a line, each with a level of its own
DARKER, DARKER_MIN = 1.25, 0.05  # how much darker a line may be here than it is elsewhere
HIDING_DENSITY = 0.6  # of the ink: strokes below darker lines are interpolated


@dataclass(frozen=True)
class Components:
    """The 8-connected regions of a mask.

    Attributes:
        labels: [height, width], 0 where the mask is not set, else 1 + the region's index.
        areas: of the regions, in pixels.
        boxes: [n, 4]: top, left, bottom, right; the last two are exclusive.
    """

    labels: Ints
    areas: Ints
    boxes: Ints


@dataclass(frozen=True)
class Ink:
    """The ink of a picture.

    Attributes:
        density: float32 [height, width], 0 for paper, about 1 for the strongest ink.
        contrast: share of the background's light that the ink absorbs, 0 to 1.
        noise: standard deviation of the paper's density.
    """

    density: Floats
    contrast: float
    noise: float


@dataclass(frozen=True)
class RuledLines:
    """Ruled lines that cross a picture from left to right: row = rows + slopes * (column - middle).

    Attributes:
        rows, slopes: of each line.
        reach: rows on either side that belong to a line, with a little of the paper.
    """

    rows: NDArray[np.float64]
    slopes: NDArray[np.float64]
    reach: int


def find_components(mask: Mask) -> Components:
    """Label the 8-connected regions of a mask.

    Rows are divided into runs, and runs joined with those that they touch in the next row: the time
    grows with the number of runs, not of pixels.
    """
    height, width = mask.shape
    stride = width + 1  # a column of nothing keeps runs within their row
    padded = np.zeros((height, stride), np.int8)
    padded[:, :width] = mask
    edges = np.diff(padded.ravel(), prepend=0)
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    roots, region = np.unique(_join_runs(starts, stops, stride), return_inverse=True)
    marks = np.zeros(height * stride, np.intp)
    marks[starts] = region + 1
    marks[stops] -= region + 1
    labels = np.cumsum(marks).reshape(height, stride)[:, :width]
    areas = np.bincount(region, stops - starts, len(roots)).astype(np.intp)
    rows, lefts, rights = starts // stride, starts % stride, stops - starts // stride * stride
    return Components(labels, areas, _find_boxes(region, len(roots), rows, lefts, rights))


def choose_digit(components: Components) -> Ints:
    """Return the regions that are one digit: the largest, and those close to it.

    Args:
        components: of all the ink.

    Returns:
        Indices of regions; empty if none can be a digit.
    """
    areas, boxes = components.areas, components.boxes
    if not len(areas):
        return np.arange(0)
    height, width = components.labels.shape
    touched = (boxes[:, :2] == 0).sum(axis=1) + (boxes[:, 2:] == (height, width)).sum(axis=1)
    sides = boxes[:, 2:] - boxes[:, :2]
    # From edge to edge goes a line or a shadow, along an edge the rest of a line; a digit only
    # where the picture was cut to its size.
    is_long = (touched > 1) | (sides.min(axis=1) < SLIVER_SHARE * sides.max(axis=1))
    is_cut = (sides >= CUT_SHARE * np.array([height, width])).all(axis=1)
    is_other = (touched > 0) & is_long & ~is_cut
    if is_other.all():
        return np.arange(0)
    at_edge = touched > 0
    weights = np.where(is_other, 0, np.where(at_edge, EDGE_WEIGHT, 1))
    main = int((areas * weights).argmax())
    kept = np.arange(len(areas)) == main
    while True:
        top, left, bottom, right = join_boxes(boxes[kept])
        gaps = np.stack(
            [boxes[:, 0] - bottom, top - boxes[:, 2], boxes[:, 1] - right, left - boxes[:, 3]]
        )
        near = gaps.max(axis=0) <= NEAR_SHARE * max(bottom - top, right - left)
        more = near & ~at_edge & (areas >= PART_SHARE * areas[kept].sum())
        if not (more & ~kept).any():
            return np.flatnonzero(kept)
        kept |= more


def join_boxes(boxes: Ints) -> tuple[int, int, int, int]:
    """Return the bounding box of boxes: top, left, bottom, right."""
    top, left = (int(n) for n in boxes[:, :2].min(axis=0))
    bottom, right = (int(n) for n in boxes[:, 2:].max(axis=0))
    return top, left, bottom, right


def measure_ink(picture: NDArray[np.uint8], background: Floats) -> Ink:
    """Measure the ink by the light that is missing, along the ink's colour.

    Args:
        picture: uint8 [height, width, channels], ink darker than the background.
        background: float32 of that shape, at least 1.
    """
    missing = 1 - picture / background
    most = missing.max(axis=2)
    strongest = find_strongest(most)
    strong = missing[most >= STRONG_SHARE * strongest] if strongest > 0 else missing[:1, :1]
    colour = strong.reshape(-1, missing.shape[2]).mean(axis=0)
    density = missing @ (colour / max(float(colour @ colour), 1e-9))
    sample = density[::SAMPLE_STEP, ::SAMPLE_STEP]
    paper = min(float(np.median(sample)), 0.5)
    density = (density - paper) / (1 - paper)
    sample = density[::SAMPLE_STEP, ::SAMPLE_STEP]
    noise = 1.4826 * float(np.median(np.abs(sample)))  # of a normal distribution's quartiles
    return Ink(density.astype(np.float32), max(0.0, strongest), noise)


def find_strongest(density: Floats) -> float:
    """Return the level that as many pixels reach as the smallest digit has."""
    count = min(density.size, MIN_PIXELS)
    return float(np.partition(density.ravel(), -count)[-count])


def measure_sharpness(density: Floats, mask: NDArray[np.bool_]) -> float:
    """Return the median change of the density across the outline of a mask.

    It is about 1 for strokes, which end within a few pixels, and less for shadows.
    """
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rows, columns = np.nonzero(mask & ~inner)
    step = max(1, len(rows) // OUTLINE_SAMPLE)
    wide = np.pad(density, EDGE_REACH, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(
        wide, (2 * EDGE_REACH + 1, 2 * EDGE_REACH + 1)
    )
    around = windows[rows[::step], columns[::step]]
    return float(np.median(np.ptp(around, axis=(1, 2))))


def remove_lines(ink: Floats) -> tuple[Floats, int]:
    """Remove the lines of ruled or squared paper.

    Args:
        ink: float32 [height, width], 0 for paper, about 1 for ink.

    Returns:
        The ink without the lines, and their number.
    """
    count = 0
    for _ in range(2):  # level lines, then upright ones
        lines = _find_lines(ink)
        if len(lines.rows):
            ink = _erase(ink, lines)
            count += len(lines.rows)
        ink = ink.T
    return np.ascontiguousarray(ink), count


def _find_lines(ink: Floats) -> RuledLines:
    """Return the thin lines that go from the left edge to the right one."""
    height, width = ink.shape
    thin = _keep_thin(ink > MIN_LINE_DENSITY, _limit_thickness(ink.shape) + 1)
    columns = np.arange(0, width, COLUMN_STEP)
    rows, places = np.nonzero(thin[:, columns])
    away = columns - (width - 1) / 2
    step = 1 / max(1.0, width / 2)  # half a picture away, slopes are a pixel apart
    limit = int(MAX_SLOPE / step)
    slopes = np.arange(-limit, limit + 1) * step
    shifted = np.rint(rows - slopes[:, None] * away[places]).astype(np.intp)
    inside = (shifted >= 0) & (shifted < height)
    cells = (np.arange(len(slopes))[:, None] * height + shifted)[inside]
    votes = np.bincount(cells, minlength=len(slopes) * height).reshape(len(slopes), height)
    way = _measure_way(slopes, (height, width))
    cover = np.where(way >= MIN_WAY, votes / len(columns) / np.maximum(way, MIN_WAY), 0)
    return _choose_lines(cover, slopes, thin)


def _find_boxes(region: Ints, count: int, rows: Ints, lefts: Ints, rights: Ints) -> Ints:
    boxes = np.empty((count, 4), np.intp)
    boxes[:, :2], boxes[:, 2:] = np.iinfo(np.intp).max, 0
    np.minimum.at(boxes[:, 0], region, rows)
    np.minimum.at(boxes[:, 1], region, lefts)
    np.maximum.at(boxes[:, 2], region, rows + 1)
    np.maximum.at(boxes[:, 3], region, rights)
    return boxes


def _join_runs(starts: Ints, stops: Ints, stride: int) -> Ints:
    """Return for each run the lowest index of the runs that it is connected with."""
    first = np.searchsorted(stops, starts + stride, side="left")
    last = np.searchsorted(starts, stops + stride, side="right")
    counts = last - first
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)
    roots = np.arange(len(starts))
    while True:
        a, b = roots[upper], roots[lower]
        differing = a != b
        if not differing.any():
            return roots
        upper, lower, a, b = (x[differing] for x in (upper, lower, a, b))
        np.minimum.at(roots, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]


def _measure_way(slopes: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of the width on which each line is in the picture: [slopes, rows]."""
    height, width = shape
    rows = np.arange(height)
    rise = np.where(np.abs(slopes) < 1e-9, 1e-9, slopes)[:, None] * width
    ends = np.sort([(-0.5 - rows) / rise, (height - 0.5 - rows) / rise], axis=0)
    return np.asarray(np.diff(np.clip(ends, -0.5, 0.5), axis=0)[0])


def _choose_lines(
    cover: NDArray[np.float64], slopes: NDArray[np.float64], thin: Mask
) -> RuledLines:
    """Choose the page's slope, each row's best slope near it, and of adjacent rows the middle."""
    strong = np.where(cover >= MIN_COVER, cover**2, 0)
    page = slopes[strong.sum(axis=1).argmax()]
    cover = np.where(np.abs(slopes - page)[:, None] <= SLOPE_SPREAD, cover, 0)
    best = cover.max(axis=0)
    edges = np.diff(best >= MIN_COVER, prepend=False, append=False)
    groups = np.flatnonzero(edges).reshape(-1, 2)
    rows = np.array([first + _find_middle(best[first:end]) for first, end in groups], np.intp)
    steepness = np.array([_find_middle(cover[:, row]) for row in rows], np.intp)
    reach = int(np.diff(groups, axis=1).max(initial=1)) // 2 + 2
    lines = RuledLines(rows.astype(np.float64), slopes[steepness], reach)
    ends = _are_at_edges(thin, lines)
    return RuledLines(lines.rows[ends], lines.slopes[ends], reach)


def _find_middle(cover: NDArray[np.float64]) -> int:
    # A thick line has about the same cover in several rows, and at several slopes.
    return round(float(np.flatnonzero(cover >= 0.97 * cover.max()).mean()))


def _are_at_edges(thin: Mask, lines: RuledLines) -> Mask:
    """Return which lines are visible at both edges that they reach, as strokes seldom are."""
    rows, is_inside = _locate(lines, thin.shape)
    at_line: Mask = thin[rows, np.arange(thin.shape[1])] & is_inside
    seen: Mask = np.any(at_line, axis=1)
    seen |= ~is_inside.all(axis=1)
    end = max(2, round(thin.shape[1] * END_SHARE))
    left, right = seen[:, :end].mean(axis=1), seen[:, -end:].mean(axis=1)
    return np.asarray(np.minimum(left, right) >= 0.5)


def _locate(lines: RuledLines, shape: tuple[int, ...]) -> tuple[Ints, Mask]:
    """Return the rows of a band around each line [n, rows, width], and which are in the picture.

    Rows outside the picture are replaced by its first or last.
    """
    away = np.arange(shape[1]) - (shape[1] - 1) / 2
    middle = np.rint(lines.rows[:, None] + lines.slopes[:, None] * away).astype(np.intp)
    rows = middle[:, None, :] + np.arange(-lines.reach, lines.reach + 1)[:, None]
    return np.clip(rows, 0, shape[0] - 1), (rows >= 0) & (rows < shape[0])


def _erase(ink: Floats, lines: RuledLines) -> Floats:
    """Subtract each line's level from a band around it."""
    rows, is_inside = _locate(lines, ink.shape)
    columns = np.broadcast_to(np.arange(ink.shape[1]), rows.shape)
    band = ink[rows, columns]
    level = _measure_level(band)
    left = np.maximum(band - level, 0) / np.maximum(1 - level, 1 - HIDING_DENSITY)
    beside = (left[:, :1] + left[:, -1:]) / 2
    left = np.where(level > HIDING_DENSITY, np.maximum(left, beside), left)
    cleaned = ink.copy()
    cleaned[rows[is_inside], columns[is_inside]] = np.minimum(left, band)[is_inside]
    return cleaned


def _measure_level(band: Floats) -> Floats:
    """Return what a line adds to the ink along its length, by medians over its parts."""
    # A stroke along a line is darker than most of the line, hence the limit; a line may be
    # followed a row too high or too low, hence the widening.
    pieces = np.array_split(band, min(STRIPS, band.shape[2]), axis=2)
    medians = np.stack([np.median(piece, axis=2) for piece in pieces], axis=2)
    padded = np.pad(medians, ((0, 0), (0, 0), (2, 2)), mode="edge")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5, axis=2), axis=3)
    usual = np.median(medians, axis=2, keepdims=True)
    level = np.minimum(_widen(smooth), _widen(usual) * DARKER + DARKER_MIN)
    widths = [piece.shape[2] for piece in pieces]
    return np.asarray(np.maximum(np.repeat(level, widths, axis=2), 0), np.float32)


def _widen(levels: Floats) -> Floats:
    """Return the maximum of each row of a band and its two neighbours."""
    padded = np.pad(levels, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return np.asarray(np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:]))


def _limit_thickness(shape: tuple[int, ...]) -> int:
    return max(MIN_LINE_LIMIT, round(max(shape) * MAX_LINE_SHARE))


def _keep_thin(mask: Mask, thickness: int) -> Mask:
    """Keep vertical runs of fewer than `thickness` set pixels."""
    height = len(mask)
    index = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(mask, -1, index), axis=0)
    below = np.minimum.accumulate(np.where(mask, height, index)[::-1], axis=0)[::-1]
    return np.asarray(mask & (below - above - 1 < thickness))
