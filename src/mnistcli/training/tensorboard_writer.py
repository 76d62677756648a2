"""A callback that writes TensorBoard's event files: scalars, histograms and images per epoch.

They are written with TensorBoard's own record writer and message types, as PyTorch's
`SummaryWriter` does. Nothing here needs TensorFlow; the package `tensorboard` is imported when a
file is opened.
"""

from __future__ import annotations

import io
import itertools
import os
import shlex
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistcli.checkpoints.run_state import Array, LayerState, Progress, RunState
from mnistcli.datasets.base import Dataset, Split
from mnistcli.errors import ResourceError
from mnistcli.metrics.losses import LossSpec
from mnistcli.metrics.scores import Misclassified, classify, find_misclassified
from mnistcli.models.architecture import Architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.numpy_inference import run_network
from mnistcli.optional_imports import require
from mnistcli.output.logs import note, warn
from mnistcli.training.callbacks import Callback

if TYPE_CHECKING:
    from mnistcli.training.trainer import Trainer

FLAG = "--tensorboard"
HISTOGRAM_BUCKETS = 30  # TensorBoard's own default
SHEET_COLUMNS, SHEET_ROWS = 6, 4
_CELL_WIDTH, _CAPTION_HEIGHT, _LINE_HEIGHT, _MARGIN = 120, 32, 14, 4
_MONITORED = "val_"
_RGB = 3
_FILE_VERSION = "brain.Event:2"
_numbers = itertools.count()


@dataclass(frozen=True)
class Buckets:
    """A histogram with the fields of TensorBoard's message.

    Attributes:
        min: the smallest value.
        max: the largest value.
        num: the number of values.
        sum: of the values.
        sum_squares: of their squares.
        bucket_limit: right edge of each bucket; the first begins at `min`.
        bucket: the number of values in each bucket.
    """

    min: float
    max: float
    num: float
    sum: float
    sum_squares: float
    bucket_limit: tuple[float, ...]
    bucket: tuple[float, ...]


@dataclass(frozen=True)
class PngImage:
    """An image as TensorBoard keeps it: PNG bytes, and its size in pixels."""

    png: bytes
    width: int
    height: int


def check_tensorboard_directory(directory: Path) -> None:
    """Check before a run that its event files can be written; nothing is made yet.

    Raises:
        ResourceError: TensorBoard is not installed, or the directory is not writable.
    """
    require("tensorboard", extra="tensorboard", what="the package is not installed")
    hint = f"choose another directory with {FLAG}"
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ResourceError(FLAG, f"{existing} is a file, not a directory", hint)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ResourceError(FLAG, f"{existing} is not writable", hint)


class TensorBoardCallback(Callback):
    """Writes what TensorBoard shows of a run, as `keras.callbacks.TensorBoard` does.

    The run has a directory of its own, so that many runs can share one: `train` holds what Keras'
    callback writes there, `validation` the same metrics of the validation set, `test` the final
    score. Steps are completed epochs; 0 is before the first. It comes after the checkpoint's
    writer, which decides the run's name.

    Args:
        directory: of all runs.
        find_name: returns the run's name, once its checkpoint is written.
        dataset: its test images are shown with the final score.
        validation: the images that are monitored, where there are any.
        architecture: of the network.
        preprocessing: raw pixels to network input.
    """

    def __init__(
        self,
        directory: Path,
        find_name: Callable[[], str],
        dataset: Dataset,
        validation: Split | None,
        architecture: Architecture,
        preprocessing: Preprocessing,
    ) -> None:
        self._directory, self._find_name = directory, find_name
        self._dataset, self._validation = dataset, validation
        self._architecture, self._preprocessing = architecture, preprocessing
        self._files: dict[str, EventFile] = {}
        self._first_step = 0
        self._has_begun = self._is_broken = False
        self._trainer: Trainer

    def on_train_begin(self, trainer: Trainer) -> None:
        """Keep the trainer, whose weights are shown."""
        self._trainer = trainer

    def on_checkpoint(self, state: RunState, best: RunState | None) -> None:  # noqa: ARG002
        """Open the event files at the first checkpoint, when the run's file has its name."""
        if self._has_begun:
            return
        self._has_begun = True
        progress = state.progress
        self._first_step = progress.epoch + 1 if progress.epoch or progress.step else 0
        self._write(lambda: self._begin(state))
        note(f"watch  tensorboard --logdir {shlex.quote(str(self._directory))}")

    def on_epoch_end(self, progress: Progress) -> None:
        """Write the epoch's metrics, weights and misclassified validation images."""
        self._write(lambda: self._write_epoch(progress))

    def write_score(self, state: RunState, loss: float, accuracy: float) -> None:
        """Write the score on the test set, and a sheet of misclassified images."""
        step, scores = state.progress.epoch, {"epoch_loss": loss, "epoch_accuracy": accuracy}
        layers, split = state.network.layers, self._dataset.test
        self._write(lambda: self._open_file("test", step).write_scalars(step, scores))
        self._write(lambda: self._write_misclassified("test", step, layers, split))

    def _write(self, write: Callable[[], object]) -> None:
        """Write; a full disk ends the event files, not the run."""
        if self._is_broken:
            return
        try:
            write()
        except OSError as error:
            self._is_broken = True
            where = error.filename or self._directory
            warn(f"{where}: {error.strerror}: no more is written for TensorBoard")

    def _begin(self, state: RunState) -> None:
        """Open the run's event files, and those of parts that only the overwritten run had."""
        if self._first_step > 0:
            self._open_file("train", self._first_step)
            return
        for name in ("train", "validation", "test"):
            if name == "train" or (self._directory / self._find_name() / name).is_dir():
                self._open_file(name, 0)
        self._write_histograms(0, state.network.layers)

    def _open_file(self, name: str, first_step: int | None = None) -> EventFile:
        """Return the event file of a part of the run."""
        if name not in self._files:
            step = self._first_step if first_step is None else first_step
            self._files[name] = EventFile(self._directory / self._find_name() / name, step)
        return self._files[name]

    def _write_epoch(self, progress: Progress) -> None:
        step, layers, last = progress.epoch, self._trainer.copy_layers(), progress.last_metrics
        if "learning_rate" not in last:
            last["learning_rate"] = self._trainer.config.training.optimizer.learning_rate
        seen = {k: v for k, v in last.items() if not k.startswith(_MONITORED)}
        self._open_file("train").write_scalars(step, {f"epoch_{k}": v for k, v in seen.items()})
        self._write_histograms(step, layers)
        if self._validation is None:
            return
        monitored = {k.removeprefix(_MONITORED): v for k, v in last.items() if k not in seen}
        scores = {f"epoch_{name}": value for name, value in monitored.items()}
        self._open_file("validation").write_scalars(step, scores)
        self._write_misclassified("validation", step, layers, self._validation)

    def _write_histograms(self, step: int, layers: tuple[LayerState, ...]) -> None:
        """Write the distribution of each array's values, under the name that Keras gives it."""
        arrays = {f"{a.name}/histogram": a.values for layer in layers for a in layer.weights}
        self._open_file("train").write_histograms(step, arrays)

    def _write_misclassified(
        self, name: str, step: int, layers: tuple[LayerState, ...], split: Split
    ) -> None:
        """Write the errors with the highest probability; rows of numbers cannot be drawn."""
        info = self._dataset.info
        if len(info.image_shape) == 1:
            return
        weights = tuple(array.values for layer in layers for array in layer.weights)
        logits = run_network(self._architecture, weights, split.images, self._preprocessing)
        loss = LossSpec(self._trainer.config.training.loss)
        shown = classify(logits, self._architecture.head, loss)
        limit = SHEET_COLUMNS * SHEET_ROWS
        found = find_misclassified(shown.classes, shown.confidences, split.labels, limit)
        if found:
            bright = Split(info.to_uint8_range(split.images), split.labels)
            sheet = draw_misclassified(bright, found, info.class_names)
            self._open_file(name).write_image(step, "misclassified", sheet)


class EventFile:
    """A new event file of a run in a directory, all of whose files are read together.

    Every method may raise OSError: the disk is full, or the directory is gone.

    Args:
        directory: made where it does not exist.
        first_step: readers drop what earlier files hold from this step on: it is of a run that
            was killed after the step where this one resumes, or that was overwritten.
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
        """Write one value per tag."""
        self._write_values(step, [{"tag": t, "simple_value": v} for t, v in values.items()])

    def write_histograms(self, step: int, arrays: Mapping[str, Array]) -> None:
        """Write a histogram of each array's finite values."""
        from tensorboard.compat.proto.summary_pb2 import HistogramProto

        counted = {tag: count_buckets(array) for tag, array in arrays.items()}
        values = [{"tag": t, "histo": HistogramProto(**asdict(b))} for t, b in counted.items()]
        self._write_values(step, values)

    def write_image(self, step: int, tag: str, image: PngImage) -> None:
        """Write an image."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        encoded = Summary.Image(
            width=image.width,
            height=image.height,
            colorspace=_RGB,
            encoded_image_string=image.png,
        )
        self._write_values(step, [{"tag": tag, "image": encoded}])

    def _write_values(self, step: int, values: Sequence[Mapping[str, Any]]) -> None:
        """Write the values of one step."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(**value) for value in values])
        self._write(Event(step=step, summary=summary))

    def _write(self, event: Any) -> None:
        """Append a record, and close the file so that nothing remains in a buffer."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        event.wall_time = time.time()
        with self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())


def count_buckets(array: Array) -> Buckets:
    """Return a histogram of an array's finite values, from the smallest to the largest."""
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
) -> PngImage:
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
        pen.text((x, y + side + 2), f"is {class_names[one.true_class]}", "black")
        guess = f"not {class_names[one.predicted]} ({one.probability:.2f})"
        pen.text((x, y + side + 2 + _LINE_HEIGHT), guess, "darkred")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return PngImage(buffer.getvalue(), sheet.width, sheet.height)
