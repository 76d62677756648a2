"""TensorBoard's event files: scalars, histograms and images, step by step.

Written with TensorBoard's own record writer and message types, as PyTorch's `SummaryWriter` does,
and in the form that TensorFlow 2 writes: a tensor with the plugin's name beside it. Nothing here
needs TensorFlow; the package `tensorboard` is imported when a file is opened.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistcli.errors import ResourceError
from mnistcli.state import Array

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

PACKAGE = "tensorboard"
INSTALL_HINT = 'install it: python -m pip install "mnistcli[tensorboard]"'
HISTOGRAM_BUCKETS = 30  # TensorBoard's own default
_FILE_VERSION = "brain.Event:2"
_numbers = itertools.count()


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
        from tensorboard.plugins.scalar.metadata import create_summary_metadata

        self._write_tensors(
            step,
            {tag: np.float32(value) for tag, value in values.items()},
            create_summary_metadata(display_name=None, description=None),
        )

    def write_histograms(self, step: int, arrays: Mapping[str, Array]) -> None:
        """Write how the numbers of each array are distributed; finite ones are counted only."""
        from tensorboard.plugins.histogram.metadata import create_summary_metadata

        self._write_tensors(
            step,
            {tag: count_buckets(array) for tag, array in arrays.items()},
            create_summary_metadata(display_name=None, description=None),
        )

    def write_picture(self, step: int, tag: str, picture: Picture, description: str) -> None:
        """Write an image; its description is Markdown."""
        from tensorboard.plugins.image.metadata import create_summary_metadata

        texts = [str(picture.width).encode(), str(picture.height).encode(), picture.png]
        metadata = create_summary_metadata(display_name=None, description=description)
        self._write_tensors(step, {tag: np.array(texts, object)}, metadata)

    def _write_tensors(self, step: int, tensors: Mapping[str, Any], metadata: Any) -> None:
        """Write one value a tag, all of one kind."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.util.tensor_util import make_tensor_proto

        summary: Summary = Summary()
        for tag, tensor in tensors.items():
            summary.value.add(tag=tag, metadata=metadata, tensor=make_tensor_proto(tensor))
        self._write(Event(step=step, summary=summary))

    def _write(self, event: Any) -> None:
        """Append a record; the file is open no longer, so that nothing waits to be flushed."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        event.wall_time = time.time()
        with self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())


def count_buckets(array: Array) -> Array:
    """Return float64 [buckets, 3]: left edge, right edge, how many numbers lie between them.

    Where all numbers are the same, all edges are that number, and the last bucket holds them all:
    the form that TensorBoard's histogram dashboard expects.
    """
    values = np.asarray(array, np.float64).reshape(-1)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return np.zeros((0, 3))
    low, high = values.min(), values.max()
    if low == high:
        counts = np.zeros(HISTOGRAM_BUCKETS)
        counts[-1] = values.size
        edges = np.full(HISTOGRAM_BUCKETS, low)
        return np.stack([edges, edges, counts], axis=1)
    counted, edges = np.histogram(values, HISTOGRAM_BUCKETS, (low, high))
    return np.stack([edges[:-1], edges[1:], counted.astype(np.float64)], axis=1)
