"""What a network takes for something else: which images, and a sheet that shows them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import Split
from mnistcli.training.tensorboard_writer import Picture

SHEET_COLUMNS, SHEET_ROWS = 6, 4
_CELL_WIDTH, _CAPTION_HEIGHT, _LINE_HEIGHT, _MARGIN = 120, 32, 14, 4


@dataclass(frozen=True)
class Mistake:
    """One image that was taken for something else.

    Attributes:
        row: its place in the split.
        truth: its class.
        taken_for: the class that the network sees in it.
        probability: how sure the network is of that, 0 to 1.
    """

    row: int
    truth: int
    taken_for: int
    probability: float


def find_mistakes(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], limit: int
) -> tuple[Mistake, ...]:
    """Return the mistakes of which the network is surest, the surest first.

    Args:
        probabilities: one column a class, [n, classes].
        labels: class indices [n].
        limit: return no more than so many.
    """
    predicted = probabilities.argmax(axis=1)
    sureness = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-sureness[wrong], kind="stable")][:limit]
    return tuple(
        Mistake(int(row), int(labels[row]), int(predicted[row]), float(sureness[row]))
        for row in surest
    )


def draw_sheet(split: Split, mistakes: Sequence[Mistake], class_names: Sequence[str]) -> Picture:
    """Draw mistakes side by side, each with its class and what it was taken for.

    Args:
        split: the images, grey [n, h, w] or colour [n, h, w, 3].
        mistakes: what to draw; at most SHEET_COLUMNS times SHEET_ROWS have a place.
        class_names: in class order.
    """
    from PIL import Image, ImageDraw

    mistakes = mistakes[: SHEET_COLUMNS * SHEET_ROWS]
    side = _CELL_WIDTH - 2 * _MARGIN
    cell_height = side + _MARGIN + _CAPTION_HEIGHT
    columns = min(SHEET_COLUMNS, max(1, len(mistakes)))
    rows = max(1, -(-len(mistakes) // SHEET_COLUMNS))
    sheet = Image.new("RGB", (columns * _CELL_WIDTH, rows * cell_height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, mistake in enumerate(mistakes):
        x = place % SHEET_COLUMNS * _CELL_WIDTH + _MARGIN
        y = place // SHEET_COLUMNS * cell_height + _MARGIN
        image = Image.fromarray(split.images[mistake.row])
        sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), (x, y))
        pen.text((x, y + side + 2), f"is {class_names[mistake.truth]}", "black")
        guess = f"not {class_names[mistake.taken_for]} ({mistake.probability:.2f})"
        pen.text((x, y + side + 2 + _LINE_HEIGHT), guess, "darkred")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return Picture(buffer.getvalue(), sheet.width, sheet.height)
