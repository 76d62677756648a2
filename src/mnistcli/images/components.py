"""The connected regions of a mask, and those among them that are the digit's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Ints = NDArray[np.intp]

EDGE_WEIGHT = 0.05  # what touches the picture's edge is seldom the digit
SLIVER_SHARE = 0.12  # of its longer side: what is narrower, at an edge, is a line
CUT_SHARE = 0.8  # of both sides that a digit takes of a picture which was cut to its size
NEAR_SHARE = 0.4  # of the digit's longer side: no part of it is farther from the others
PART_SHARE = 0.03  # of the digit's area: smaller parts are specks


@dataclass(frozen=True)
class Components:
    """The 8-connected regions of a mask.

    Attributes:
        labels: [height, width], 0 where the mask is not set, else 1 + the region's index.
        areas: in pixels, one a region.
        boxes: [n, 4]: top, left, bottom, right; the last two are exclusive.
    """

    labels: Ints
    areas: Ints
    boxes: Ints


def find_components(mask: Mask) -> Components:
    """Label the 8-connected regions of a mask.

    Rows are cut into runs, and runs joined to those that they touch in the next row; so the time
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


def _find_boxes(region: Ints, count: int, rows: Ints, lefts: Ints, rights: Ints) -> Ints:
    """The extremes of each region's runs."""
    boxes = np.empty((count, 4), np.intp)
    boxes[:, :2], boxes[:, 2:] = np.iinfo(np.intp).max, 0
    np.minimum.at(boxes[:, 0], region, rows)
    np.minimum.at(boxes[:, 1], region, lefts)
    np.maximum.at(boxes[:, 2], region, rows + 1)
    np.maximum.at(boxes[:, 3], region, rights)
    return boxes


def _join_runs(starts: Ints, stops: Ints, stride: int) -> Ints:
    """Give runs that touch, also across corners, a common number: the least of their indices."""
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


def choose_digit(components: Components) -> Ints:
    """Choose the regions that are one digit: the largest, and what stands close to it.

    Args:
        components: of all the ink.

    Returns:
        Indices of regions; empty where none can be a digit.
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
    """The box around boxes: top, left, bottom, right."""
    top, left = (int(n) for n in boxes[:, :2].min(axis=0))
    bottom, right = (int(n) for n in boxes[:, 2:].max(axis=0))
    return top, left, bottom, right
