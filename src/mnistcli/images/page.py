"""A page that lies on something darker: where it is, and the picture without what is around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistcli.images.background import split_levels, take_border
from mnistcli.images.components import Mask, find_components
from mnistcli.images.scaling import average_down, interpolate

COARSE_SIDE = 128  # pixels
LEAST_SHARE, MOST_BORDER = 0.25, 0.6  # of the picture that a page is; of its border
CERTAIN_BORDER = 0.1  # that it may touch: what touches more may be a lit part of a page
LEAST_BLANK = 0.6  # of a page that bears no ink
LEAST_CONTRAST = 0.2  # of the page's level, to what it lies on
LEAST_SQUARENESS = 0.85  # its overlap with the quadrilateral of its corners
RING, MOST_LIGHT = (2, 6), 0.1  # coarse pixels around a page, and what share may be light
MARGIN = 2  # coarse pixels inside its edge that are left out


@dataclass(frozen=True)
class Page:
    """A page's picture.

    Attributes:
        picture: uint8 [height, width, channels]; what is not the page has its median colour.
        top, left: where it lies in the picture that it was cut from.
        is_certain: it lies within the picture, on all sides.
    """

    picture: NDArray[np.uint8]
    top: int
    left: int
    is_certain: bool


def find_page(picture: NDArray[np.uint8]) -> Page | None:
    """Cut out a light page with four corners from what it lies on; None where there is none.

    Args:
        picture: uint8 [height, width, channels].
    """
    coarse = average_down(picture, COARSE_SIDE).mean(axis=2)
    is_light = coarse > split_levels(coarse)
    regions = find_components(is_light)
    if not len(regions.areas):
        return None
    bright = regions.labels == regions.areas.argmax() + 1
    mask = _fill_holes(bright)
    around = _grow(mask, RING[1]) & ~_grow(mask, RING[0])
    if not _is_page(mask, bright, coarse) or is_light[around].sum() > MOST_LIGHT * around.sum():
        return None
    inner = interpolate((~_grow(~mask, MARGIN)).astype(np.float32), picture.shape[:2]) > 0.5
    if not inner.any():
        return None
    (top, bottom), (left, right) = (_find_extent(inner, axis) for axis in (1, 0))
    is_certain = float(take_border(mask).mean()) <= CERTAIN_BORDER
    colour = np.median(picture[inner], axis=0)
    cut = np.where(inner[..., np.newaxis], picture, np.rint(colour).astype(np.uint8))
    return Page(np.ascontiguousarray(cut[top:bottom, left:right]), top, left, is_certain)


def _find_extent(mask: Mask, axis: int) -> tuple[int, int]:
    """The first row or column that is set anywhere, and the one behind the last."""
    places = np.flatnonzero(np.any(mask, axis=axis))
    return int(places[0]), int(places[-1]) + 1


def _fill_holes(mask: Mask) -> Mask:
    """Add what cannot be reached from the picture's edge."""
    outside = find_components(np.pad(~mask, 1, constant_values=True))
    return np.asarray(outside.labels != outside.labels[0, 0])[1:-1, 1:-1]


def _is_page(mask: Mask, bright: Mask, coarse: NDArray[np.floating]) -> bool:
    """Tell a page from a digit in chalk, a lit half of the picture, or paper all over it."""
    if mask.mean() < LEAST_SHARE or float(take_border(mask).mean()) > MOST_BORDER or mask.all():
        return False
    if bright.sum() < LEAST_BLANK * mask.sum():
        return False
    level = float(np.median(coarse[bright]))
    if level - float(np.median(coarse[~mask])) < LEAST_CONTRAST * level:
        return False
    return _measure_squareness(mask) >= LEAST_SQUARENESS


def _measure_squareness(mask: Mask) -> float:
    """The overlap, intersection by union, with the quadrilateral of the four corners.

    A corner is the pixel that lies farthest along a diagonal.
    """
    rows, columns = np.nonzero(mask)
    sums, differences = rows + columns, columns - rows
    corners = [sums.argmin(), differences.argmax(), sums.argmax(), differences.argmin()]
    points = np.stack([rows, columns], axis=1)[corners]
    y, x = np.indices(mask.shape)
    inside = np.ones_like(mask)
    for (row, column), (next_row, next_column) in zip(points, np.roll(points, -1, 0), strict=True):
        turn = (next_column - column) * (y - row) - (next_row - row) * (x - column)
        inside &= turn >= 0
    return float((mask & inside).sum() / (mask | inside).sum())


def _grow(mask: Mask, count: int) -> Mask:
    """Add so many pixels all around."""
    for _ in range(count):
        padded = np.pad(mask, 1, mode="edge")
        rows = padded[:-2] | padded[1:-1] | padded[2:]
        mask = np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])
    return mask
