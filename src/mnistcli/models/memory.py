"""Estimate the memory that a training run needs, before anything is allocated.

The estimate adds what is allocated for the whole run, the largest of its steps, and the saving of
checkpoints: these do not coincide, but little of the memory that one frees is given back before the
other begins. It is within 10 % of the measured peaks of eighteen runs of all shapes.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mnistcli.config.schema import Config, FilesConfig
from mnistcli.datasets.base import DatasetInfo
from mnistcli.errors import ResourceError
from mnistcli.models.architecture import Architecture

FLOAT_BYTES = 4
LIBRARIES_BYTES = 830_000_000  # Python, TensorFlow, Keras and XLA while compiling; measured
WINDOW_BYTES = 1 << 25  # approximate size of a window of a streamed data set: whole batches
WINDOWS_AT_ONCE = 5  # one is trained on, one is ready, two are gathered, one is handed over

_ORDER_BYTES = 20  # per row: its position in the orders of two epochs, one of them being drawn
_EVALUATION_ROWS = 1024
_MAX_EVALUATION_VALUES = 1 << 25  # of the widest layer, as in `numpy_inference`

Placement = Literal["resident", "streamed"]
"""Where a training set is kept: on the device as a whole, or in windows that are streamed."""


class MemoryEstimate(BaseModel):
    """The memory that a run needs at its peak, in bytes.

    Attributes:
        total: the sum of all parts.
        libraries: TensorFlow and its dependencies.
        data: the uint8 images and labels: as read, on the device, and in an epoch's order; or
            the windows that are in memory at a time.
        weights: the network's float32 arrays.
        optimizer: its slots.
        working: the gradients and activations of a step, the run of the best epoch, and the copies
            made while saving a checkpoint; or the batches of an evaluation if they take more.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    total: int
    libraries: int
    data: int
    weights: int
    optimizer: int
    working: int

    def describe(self) -> str:
        """Return the sum and its parts as a text."""
        names = [name for name in MemoryEstimate.model_fields if name != "total"]
        parts = ", ".join(f"{name} {format_bytes(getattr(self, name))}" for name in names)
        return f"about {format_bytes(self.total)} of memory ({parts})"


def estimate_memory(
    config: Config,
    architecture: Architecture,
    info: DatasetInfo,
    devices: int = 1,
    placement: Placement = "resident",
) -> MemoryEstimate:
    """Return the memory that a run will need.

    Args:
        config: of the run.
        architecture: the network.
        info: the data set, as published; another copy may be smaller.
        devices: number of devices that share each batch, in this machine's memory; each has a
            copy of the network.
        placement: where the training set is kept.
    """
    weights = architecture.parameter_count * FLOAT_BYTES
    slots = config.training.optimizer.slots
    state = weights * (1 + slots)
    data = (_estimate_data if placement == "resident" else _estimate_windows)(config, info)
    working = max(
        _estimate_step(config.training.batch_size, architecture, info.train_count, slots)
        + (devices - 1) * architecture.trainable_count * FLOAT_BYTES * (2 + slots)
        + _estimate_saving(state)
        + _estimate_kept(config, weights, state),
        _estimate_evaluation(architecture),
    )
    return MemoryEstimate(
        total=LIBRARIES_BYTES + data + state * devices + working,
        libraries=LIBRARIES_BYTES,
        data=data,
        weights=weights * devices,
        optimizer=weights * slots * devices,
        working=working,
    )


def check_memory(estimate: MemoryEstimate, available: int | None) -> None:
    """Refuse a run that needs more memory than there is.

    Args:
        estimate: the memory that it needs.
        available: in bytes; None if unknown.

    Raises:
        ResourceError: the run does not fit.
    """
    if available is not None and estimate.total > available:
        what = f"this run needs {estimate.describe()}, {format_bytes(available)} are available"
        hint = "use a smaller network, batch (--batch-size) or data set, or end other programs"
        raise ResourceError("memory", what, hint)


def count_window_rows(batch_size: int, row_bytes: int, count: int, window_bytes: int) -> int:
    """Return the number of rows in a window of a data set: one or more whole batches."""
    batches = max(1, window_bytes // (batch_size * row_bytes))
    return min(batches, math.ceil(count / batch_size)) * batch_size


def format_bytes(count: int) -> str:
    """Return a number of bytes as a text: `812 MB`, `3.4 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 999_500_000 else f"{count / 1e6:.0f} MB"


def _estimate_data(config: Config, info: DatasetInfo) -> int:
    # The training set is on the device, and in the orders of two epochs if it is shuffled.
    row = math.prod(info.image_shape) + 1
    train, test = info.train_count * row, info.test_count * row
    placed = (3 if config.training.shuffle else 1) * train
    if config.dataset.validation == "test":
        placed += test
    return placed + _estimate_read(config, info)


def _estimate_read(config: Config, info: DatasetInfo) -> int:
    # Both splits, and the two parts of a divided training set. Image folders stay on disk.
    if isinstance(config.dataset, FilesConfig):
        return 0
    row = math.prod(info.image_shape) + 1
    parts = info.train_count if config.dataset.validation not in (0.0, "test") else 0
    return (info.train_count + info.test_count + parts) * row


def _estimate_windows(config: Config, info: DatasetInfo) -> int:
    row, training = math.prod(info.image_shape) + 1, config.training
    rows = count_window_rows(training.batch_size, row, info.train_count, WINDOW_BYTES)
    parts = 1 if config.dataset.validation == 0.0 else 2
    windows = WINDOWS_AT_ONCE * parts * rows * row
    return windows + info.train_count * _ORDER_BYTES + _estimate_read(config, info)


def _estimate_step(
    batch_size: int, architecture: Architecture, train_count: int, slots: int
) -> int:
    # Gradients, the updated arrays before they replace the old ones, and a batch's activations.
    trainable = architecture.trainable_count * FLOAT_BYTES
    values = 2 * math.prod(architecture.input_shape)  # as floats, and normalised
    values += 2 * sum(math.prod(node.output_shape) for node in architecture.iter_layers())
    batch = min(batch_size, train_count) * values * FLOAT_BYTES
    return trainable * (2 + slots) + batch


def _estimate_saving(state: int) -> int:
    # The copy from the device, the file in memory as it grows, and the bytes to be written.
    return 4 * state


def _estimate_kept(config: Config, weights: int, state: int) -> int:
    # The best epoch's run, if there is a validation set, and the weights of early stopping.
    stopping = config.training.early_stopping
    chosen = state if config.dataset.validation not in (0.0, "test") else 0
    return chosen + (2 * weights if stopping is not None and stopping.restore_best else 0)


def _estimate_evaluation(architecture: Architecture) -> int:
    # A batch of the widest layer's input and output, and an intermediate of its activation.
    widths = [math.prod(architecture.input_shape)]
    widths += [math.prod(node.output_shape) for node in architecture.iter_layers()]
    rows = max(1, min(_EVALUATION_ROWS, _MAX_EVALUATION_VALUES // max(widths)))
    return 3 * rows * max(widths) * FLOAT_BYTES
