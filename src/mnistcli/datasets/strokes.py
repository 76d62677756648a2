"""How people write the ten digits: stroke skeletons, several for each digit.

A skeleton is a text of control points `x,y` in percent of the digit's height, x to the right and
y down, that the pen passes in turn. The way between them is a smooth curve (a uniform
Catmull-Rom spline); a slash after a point makes a corner of it, and ` ; ` lifts the pen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PIECE_LENGTH = 0.03
"""Length of the straight pieces that a curve is cut into, in digit heights."""


@dataclass(frozen=True)
class Skeleton:
    """One way of writing a digit, as straight pieces that are linear in the control points.

    Attributes:
        share: how often people choose it, relative to the digit's other skeletons.
        control_points: float64 [control points, 2], x and y in digit heights.
        piece_ends: float64 [2 * pieces, control points]; `piece_ends @ control_points` is where
            the pieces begin (the first half) and where they end (the second half).
    """

    share: float
    control_points: NDArray[np.float64]
    piece_ends: NDArray[np.float64]


# fmt: off
_WRITTEN: tuple[tuple[tuple[float, str], ...], ...] = (
    (  # 0: closed; wide; begun inside; open at the top; with a tail
        (4, "48,0 14,24 8,70 38,100 72,76 76,24 46,0 30,7"),
        (2, "50,0 8,26 6,76 48,100 92,78 92,24 50,0 34,5"),
        (2, "64,10 34,6 6,52 30,98 68,86 80,38 52,2 34,22"),
        (2, "34,4 8,40 18,90 56,96 80,52 62,6"),
        (1, "70,0 50,6 14,30 12,78 42,100 74,70 74,26 50,4"),
    ),
    (  # 1: a plain stroke; bent; with a serif; with serif and foot
        (7, "50,0 50,50 50,100"),
        (2, "54,0 52,35 48,70 50,100"),
        (1, "30,20 52,0/ 50,50 50,100"),
        (0.7, "26,20 52,0/ 50,50 50,100 ; 18,100 50,99 86,98"),
    ),
    (  # 2: angular foot; looped foot; like a Z; swinging foot; small loop; wide loop
        (3, "12,22 36,2 72,10 72,38 44,70 8,97/ 46,96 88,96"),
        (3, "12,24 40,2 72,16 66,50 38,84 12,94 8,80 30,76 58,90 92,92"),
        (1, "10,10 44,4 76,8 66,38 36,70 8,98/ 50,96 92,94"),
        (2, "10,26 34,2 68,12 66,46 42,78 10,98/ 36,88 62,94 90,86"),
        (2, "18,14 46,0 76,14 66,50 40,84 22,96 12,86 32,78 54,92 80,104"),
        (2, "18,20 44,0 74,12 66,48 34,90 8,96 2,76 28,66 60,82 104,84"),
    ),
    (  # 3: pointed waist; flat top; looped waist; soft waist; leaning
        (4, "14,14 42,0 72,14 64,36 34,46/ 68,54 78,76 52,98 10,90"),
        (1, "12,4 42,2 76,4/ 38,42/ 70,50 78,74 54,98 10,92"),
        (2, "12,12 46,0 74,16 58,40 36,48 44,52 72,60 76,84 44,100 8,88"),
        (2, "18,8 50,2 68,18 58,40 40,48 62,56 72,76 48,98 10,96"),
        (2, "24,14 58,0 84,8 70,32 38,46/ 68,52 66,80 36,98 0,92"),
    ),
    (  # 4: open, two strokes; open with a round bowl; closed; like a y
        (3, "24,2 16,30 10,54/ 44,54 86,50 ; 72,2 66,50 60,100"),
        (3, "22,4 10,40 22,56 50,54 72,44 ; 76,2 70,50 62,100"),
        (2, "64,0 34,34 4,66/ 48,64 92,62 ; 66,0 64,50 60,100"),
        (2, "20,4 12,36 26,50 56,44 74,22 78,4/ 70,50 60,100"),
    ),
    (  # 5: separate cap; in one stroke; like an S; long cap; small bowl
        (4, "32,6 28,24 22,42/ 52,38 74,58 64,88 36,100 8,90 ; 32,6 58,4 86,0"),
        (3, "90,4 62,6 34,8/ 26,40/ 58,42 72,64 56,92 8,96"),
        (2, "84,6 50,4 30,20 42,42 66,62 58,90 32,100 6,92"),
        (2, "100,0 70,4 38,10 22,40 52,46 64,66 46,92 4,98"),
        (2, "36,10 30,46/ 62,56 66,86 36,100 16,84 ; 34,10 62,6 96,0"),
    ),
    (  # 6: round; straight stem; slim loop; wide loop; upright
        (4, "64,0 36,22 14,60 22,92 48,98 66,78 52,58 28,66 16,84"),
        (2, "50,0 28,34 12,70 26,98 56,94 64,72 42,60 16,76"),
        (2, "72,0 40,24 16,62 24,94 54,98 78,76 66,54 38,60 20,80"),
        (2, "40,0 18,30 6,70 22,98 62,96 78,72 56,58 26,72 12,88"),
        (2, "30,0 10,40 10,84 40,100 76,84 70,58 40,60 16,88"),
    ),
    (  # 7: straight; bent stem; with a bar; with a hook; round shoulder
        (4, "8,10 40,8 80,4/ 60,50 40,100"),
        (2, "10,8 44,8 84,4/ 56,44 46,100"),
        (1, "8,8 42,6 80,4/ 58,50 40,100 ; 28,52 54,48 80,46"),
        (2, "6,26 10,6/ 44,8 78,4/ 60,50 44,100"),
        (2, "8,20 30,4 66,4 74,24 58,62 44,100"),
    ),
    (  # 8: in one stroke; two rings; slim; begun in the middle; left open
        (4, "74,12 50,0 24,14 36,40 64,62 68,86 42,100 18,84 32,60 62,36 76,14 58,2"),
        (2, "46,0 22,22 46,46 70,22 46,0 ; 46,46 16,74 44,100 74,74 46,46"),
        (2, "70,10 46,2 30,18 40,42 58,64 56,92 36,98 28,80 44,56 66,32 74,12"),
        (1, "30,44 16,22 44,0 70,18 50,44 22,70 36,98 66,88 62,60 30,44"),
        (2, "80,8 52,2 26,18 42,44 64,68 50,98 24,92 30,64 60,36 88,6"),
    ),
    (  # 9: straight stem; curved stem; wide ring; hooked stem; narrow ring; angular
        (4, "70,12 42,2 18,24 28,46 56,40 72,14/ 66,56 58,100"),
        (3, "68,16 46,2 20,22 26,46 54,42 70,18/ 68,50 48,100"),
        (2, "66,8 34,4 14,28 34,48 62,34 72,8/ 72,50 70,100"),
        (1, "72,16 46,0 20,22 34,46 62,36 74,14/ 74,60 54,94 18,94"),
        (3, "72,8 46,0 24,26 36,50 62,26 72,6/ 62,56 40,100"),
        (2, "64,4 24,12 18,42 60,36 68,4/ 66,50 64,100"),
    ),
)
# fmt: on


def _cut_curve(control_points: NDArray[np.float64], first: int, last: int) -> NDArray[np.float64]:
    """Weights of the control points along the smooth curve from `first` to `last`."""
    run = np.eye(len(control_points))[first : last + 1]
    # Neighbours mirrored beyond both ends: the curve starts and stops without a hook.
    padded = np.vstack([2 * run[0] - run[1], run, 2 * run[-1] - run[-2]])
    rows = [run[:1]]
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces = max(2, round(np.linalg.norm((p2 - p1) @ control_points) / PIECE_LENGTH))
        t = (np.arange(1, pieces + 1) / pieces)[:, None]
        cubic, square, slope = 3 * (p1 - p2) + p3 - p0, 2 * p0 - 5 * p1 + 4 * p2 - p3, p2 - p0
        rows.append(p1 + 0.5 * t * (slope + t * (square + t * cubic)))
    return np.vstack(rows)


def _find_curves(words: list[str]) -> list[tuple[int, int]]:
    """First and last control point of each smooth curve, between corners and pen lifts."""
    curves: list[tuple[int, int]] = []
    first = position = 0
    for word in words:
        if word == ";":
            curves.append((first, position - 1))
            first = position
            continue
        if word.endswith("/"):
            curves.append((first, position))
            first = position
        position += 1
    return [*curves, (first, position - 1)]


def _read_skeleton(share: float, text: str) -> Skeleton:
    """Turn a written skeleton into matrices, so that drawing many is one product."""
    words = text.split()
    points = [word.rstrip("/").split(",") for word in words if word != ";"]
    control_points = np.array(points, dtype=np.float64) / 100
    curves = [_cut_curve(control_points, first, last) for first, last in _find_curves(words)]
    starts, ends = [curve[:-1] for curve in curves], [curve[1:] for curve in curves]
    return Skeleton(share, control_points, np.vstack(starts + ends))


SKELETONS: tuple[tuple[Skeleton, ...], ...] = tuple(
    tuple(_read_skeleton(share, text) for share, text in ways) for ways in _WRITTEN
)
"""The ways of writing each digit, in digit order."""
