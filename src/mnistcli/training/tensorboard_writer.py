"""TensorBoard's event files: scalars, histograms and images, step by step.

Written with TensorBoard's own record writer and message types, as PyTorch's `SummaryWriter` does,
and in the same form, which every reader of theirs knows, steps that are written anew included.
Nothing here needs TensorFlow; the package `tensorboard` is imported when a file is opened.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnistcli.checkpoints.run_state import Array
from mnistcli.datasets.base import Split
from mnistcli.errors import ResourceError
from mnistcli.metrics.scores import Misclassified

PACKAGE = "tensorboard"
INSTALL_HINT = 'install it: python -m pip install "mnistcli[tensorboard]"'
HISTOGRAM_BUCKETS = 30  # TensorBoard's own default
SHEET_COLUMNS, SHEET_ROWS = 6, 4
_CELL_WIDTH, _CAPTION_HEIGHT, _LINE_HEIGHT, _MARGIN = 120, 32, 14, 4
_RGB = 3
_FILE_VERSION = "brain.Event:2"
_numbers = itertools.count()


@dataclass(frozen=True)
class Buckets:
    """A histogram, in TensorBoard's terms.

    Attributes:
        min: the least number.
        max: the largest.
        num: how many numbers there are.
        sum: of the numbers.
        sum_squares: of their squares.
        bucket_limit: each bucket's right edge; the first begins at the least number.
        bucket: how many numbers lie in each.
    """

    min: float
    max: float
    num: float
    sum: float
    sum_squares: float
    bucket_limit: tuple[float, ...]
    bucket: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """An image as TensorBoard keeps it: PNG bytes, and its size in pixels."""

    png: bytes
    width: int
    height: int


def check_tensorboard() -> None:
    """Find out whether event files can be written, without importing anything; ResourceError."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:  # a folder of event files may have the same name
        raise ResourceError(PACKAGE, "the package is not installed", INSTALL_HINT)


class EventFile:
    """One more event file of a run in a directory; readers take all of them together.

    Every method may raise OSError: the disk is full, or the directory is gone.

    Args:
        directory: made where it does not exist.
        first_step: what earlier files hold from this step on is to be forgotten by readers: it
            is of a run that was killed later than where this one goes on, or was overwritten.
    """

    def __init__(self, directory: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        stamp = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._path = directory / f"events.out.tfevents.{stamp}"
        directory.mkdir(parents=True, exist_ok=True)
        self._path.touch(exist_ok=False)
        self._write(Event(file_version=_FILE_VERSION))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(step=first_step, session_log=start))

    def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one number a tag."""
        self._write_values(step, [{"tag": t, "simple_value": v} for t, v in values.items()])

    def write_histograms(self, step: int, arrays: Mapping[str, Array]) -> None:
        """Write how the numbers of each array are distributed; only finite ones are counted."""
        from tensorboard.compat.proto.summary_pb2 import HistogramProto

        counted = {tag: count_buckets(array) for tag, array in arrays.items()}
        values = [{"tag": t, "histo": HistogramProto(**asdict(b))} for t, b in counted.items()]
        self._write_values(step, values)

    def write_picture(self, step: int, tag: str, picture: Picture) -> None:
        """Write an image."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(
            width=picture.width,
            height=picture.height,
            colorspace=_RGB,
            encoded_image_string=picture.png,
        )
        self._write_values(step, [{"tag": tag, "image": image}])

    def _write_values(self, step: int, values: Sequence[Mapping[str, Any]]) -> None:
        """Write the values of one step."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(**value) for value in values])
        self._write(Event(step=step, summary=summary))

    def _write(self, event: Any) -> None:
        """Append a record; the file is open no longer, so that nothing waits to be flushed."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        event.wall_time = time.time()
        with self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())


def count_buckets(array: Array) -> Buckets:
    """Return how the finite numbers of an array are distributed between the least and largest."""
    values = np.asarray(array, np.float64).reshape(-1)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Buckets(0.0, 0.0, 0.0, 0.0, 0.0, (), ())
    low, high = float(values.min()), float(values.max())
    count = HISTOGRAM_BUCKETS if low < high else 1
    counted, edges = np.histogram(values, count, (low, high))
    return Buckets(
        min=low,
        max=high,
        num=float(values.size),
        sum=float(values.sum()),
        sum_squares=float((values**2).sum()),
        bucket_limit=(*edges[1:-1].tolist(), high),
        bucket=tuple(counted.astype(np.float64).tolist()),
    )


def draw_misclassified(
    split: Split, misclassified: Sequence[Misclassified], class_names: Sequence[str]
) -> Picture:
    """Draw misclassified images in a grid, each with its true and its predicted class.

    Args:
        split: the images, grey [n, h, w] or colour [n, h, w, 3].
        misclassified: what to draw; those beyond SHEET_COLUMNS times SHEET_ROWS are left out.
        class_names: in class order.
    """
    from PIL import Image, ImageDraw

    drawn = misclassified[: SHEET_COLUMNS * SHEET_ROWS]
    side = _CELL_WIDTH - 2 * _MARGIN
    cell_height = side + _MARGIN + _CAPTION_HEIGHT
    columns = min(SHEET_COLUMNS, max(1, len(drawn)))
    rows = max(1, -(-len(drawn) // SHEET_COLUMNS))
    sheet = Image.new("RGB", (columns * _CELL_WIDTH, rows * cell_height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, one in enumerate(drawn):
        x = place % SHEET_COLUMNS * _CELL_WIDTH + _MARGIN
        y = place // SHEET_COLUMNS * cell_height + _MARGIN
        image = Image.fromarray(split.images[one.row])
        sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), (x, y))
        pen.text((x, y + side + 2), f"is {class_names[one.truth]}", "black")
        guess = f"not {class_names[one.predicted]} ({one.probability:.2f})"
        pen.text((x, y + side + 2 + _LINE_HEIGHT), guess, "darkred")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return Picture(buffer.getvalue(), sheet.width, sheet.height)
