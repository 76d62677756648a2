"""How much memory a training run will need. Pure arithmetic, done before anything is allocated.

What stays for the whole run is added to what comes and goes. Steps and checkpoints take turns, yet
both count: of what one has freed little is given back before the other begins. Measured against
the peaks of eighteen runs of all shapes, the sums are within 10 %.

How much memory this process may still take, where Linux tells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mnistcli.config.schema import Config, FilesConfig
from mnistcli.datasets.base import DatasetInfo
from mnistcli.errors import ResourceError
from mnistcli.models.architecture import Architecture


def read_available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that can be had without anything being killed; null where nobody tells.

    That is the kernel's own estimate (MemAvailable), or what is left of the limit of a control
    group that this process is in (a container, a batch job), whichever is less.

    Args:
        root: of the file system that holds proc and sys.
    """
    found = [*_read_machine(root), *_read_groups(root)]
    return max(0, min(found)) if found else None


def _read_machine(root: Path) -> Iterator[int]:
    """Offer MemAvailable, which counts the caches that the kernel would give up."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    if match is not None:
        yield int(match[1]) * 1024


def _read_groups(root: Path) -> Iterator[int]:
    """Offer what is left in each control group from this process' own up to the topmost."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":  # version 2
            names = ("memory.max", "memory.current", "inactive_file")
            yield from _read_upwards(root / "sys/fs/cgroup", path, names)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _read_upwards(root / "sys/fs/cgroup/memory", path, names)


def _read_upwards(top: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """Go from a group to its parents; in a container its own path may not be visible."""
    limit_name, usage_name, cache_name = names
    group = Path(path.lstrip("/"))
    for relative in (group, *group.parents):
        limit = _read(top / relative / limit_name).strip()
        usage = _read(top / relative / usage_name).strip()
        if limit.isdigit() and usage.isdigit():  # `max` is no limit
            statistics = _read(top / relative / "memory.stat")
            cache = re.search(rf"^{cache_name} (\d+)$", statistics, re.MULTILINE)
            yield int(limit) - int(usage) + (int(cache[1]) if cache else 0)


def _read(path: Path) -> str:
    """Read a file of the kernel's; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


FLOAT_BYTES = 4
LIBRARIES_BYTES = 830_000_000  # Python, TensorFlow, Keras and the compiler at work; measured
WINDOW_BYTES = 1 << 25
"""About what a window of a streamed data set has; a batch is never divided."""
WINDOWS_AT_ONCE = 5  # one is trained on, one is ready, two are gathered, one is handed over
_ORDER_BYTES = 20  # of a row: its place in two epochs' orders, one of them being drawn
_EVALUATION_ROWS = 1024
_MAX_EVALUATION_VALUES = 1 << 25  # of the widest layer, as `inference` cuts its batches

Placement = Literal["resident", "streamed"]
"""Where a training set lies: on the device as a whole, or window by window as it is needed."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run needs at its peak.

    Attributes:
        libraries: TensorFlow and what comes with it.
        data: the uint8 images and labels: as read, on the device, and in an epoch's order; or
            the windows of them that are there at a time.
        weights: the network's float32 arrays.
        optimizer: its slots.
        working: a step's gradients and activations, the best epoch's run, and the copies that a
            checkpoint is composed of; or an evaluation's batches, where those take more.
    """

    libraries: int
    data: int
    weights: int
    optimizer: int
    working: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())

    def describe(self) -> str:
        """Write the sum and its parts for people."""
        parts = ", ".join(f"{name} {format_bytes(n)}" for name, n in asdict(self).items())
        return f"about {format_bytes(self.total)} of memory ({parts})"


def estimate_memory(
    config: Config,
    architecture: Architecture,
    info: DatasetInfo,
    devices: int = 1,
    placement: Placement = "resident",
) -> MemoryEstimate:
    """Return what a run will need.

    Args:
        config: the experiment.
        architecture: the network that it trains.
        info: its data set, as published; another copy may be smaller.
        devices: that share each batch, in this machine's memory; each has a copy of the network.
        placement: where its rows are to lie.
    """
    weights = architecture.parameter_count * FLOAT_BYTES
    slots = config.training.optimizer.slots
    state = weights * (1 + slots)
    return MemoryEstimate(
        libraries=LIBRARIES_BYTES,
        data=(_estimate_data if placement == "resident" else _estimate_windows)(config, info),
        weights=weights * devices,
        optimizer=weights * slots * devices,
        working=max(
            _estimate_step(config.training.batch_size, architecture, info.train_count, slots)
            + (devices - 1) * architecture.trainable_count * FLOAT_BYTES * (2 + slots)
            + _estimate_saving(state)
            + _estimate_kept(config, weights, state),
            _estimate_evaluation(architecture),
        ),
    )


def count_window_rows(batch_size: int, row_bytes: int, count: int, window_bytes: int) -> int:
    """Return how many rows a window of a data set has: whole batches, at least one of them."""
    batches = max(1, window_bytes // (batch_size * row_bytes))
    return min(batches, math.ceil(count / batch_size)) * batch_size


def _estimate_data(config: Config, info: DatasetInfo) -> int:
    """Count the training set on the device and arranged for two epochs, and all as read."""
    row = math.prod(info.image_shape) + 1
    train, test = info.train_count * row, info.test_count * row
    placed = (3 if config.training.shuffle else 1) * train
    if config.dataset.validation == "test":
        placed += test
    return placed + _estimate_read(config, info)


def _estimate_read(config: Config, info: DatasetInfo) -> int:
    """Count both splits, and the two parts of a divided training set; one's own stay in files."""
    if isinstance(config.dataset, FilesConfig):
        return 0
    row = math.prod(info.image_shape) + 1
    parts = info.train_count if config.dataset.validation not in (0.0, "test") else 0
    return (info.train_count + info.test_count + parts) * row


def _estimate_windows(config: Config, info: DatasetInfo) -> int:
    """Count the windows that are there at a time, of what is learned and of what is monitored."""
    row, training = math.prod(info.image_shape) + 1, config.training
    rows = count_window_rows(training.batch_size, row, info.train_count, WINDOW_BYTES)
    parts = 1 if config.dataset.validation == 0.0 else 2
    windows = WINDOWS_AT_ONCE * parts * rows * row
    return windows + info.train_count * _ORDER_BYTES + _estimate_read(config, info)


def _estimate_step(
    batch_size: int, architecture: Architecture, train_count: int, slots: int
) -> int:
    """Count gradients, the updated arrays before they replace the old, and a batch's values."""
    trainable = architecture.trainable_count * FLOAT_BYTES
    values = 2 * math.prod(architecture.input_shape)  # as numbers, and normalised
    values += 2 * sum(math.prod(node.output_shape) for node in architecture.iter_layers())
    batch = min(batch_size, train_count) * values * FLOAT_BYTES
    return trainable * (2 + slots) + batch


def _estimate_saving(state: int) -> int:
    """Count the copy off the device, the file's image as it grows, and as it is written."""
    return 4 * state


def _estimate_kept(config: Config, weights: int, state: int) -> int:
    """Count the best epoch's run where a validation set chooses, and early stopping's weights."""
    stopping = config.training.early_stopping
    chosen = state if config.dataset.validation not in (0.0, "test") else 0
    return chosen + (2 * weights if stopping is not None and stopping.restore_best else 0)


def _estimate_evaluation(architecture: Architecture) -> int:
    """Count a batch of the widest layer's input and output, and an activation's intermediate."""
    widths = [math.prod(architecture.input_shape)]
    widths += [math.prod(node.output_shape) for node in architecture.iter_layers()]
    rows = max(1, min(_EVALUATION_ROWS, _MAX_EVALUATION_VALUES // max(widths)))
    return 3 * rows * max(widths) * FLOAT_BYTES


def check_memory(estimate: MemoryEstimate, available: int | None) -> None:
    """Refuse a run that would be killed for the memory it takes.

    Args:
        estimate: what it needs.
        available: bytes that there are; null where that is not known.

    Raises:
        ResourceError: it does not fit.
    """
    if available is not None and estimate.total > available:
        what = f"this run needs {estimate.describe()}, {format_bytes(available)} are available"
        hint = "use a smaller network, batch (--batch-size) or data set, or end other programs"
        raise ResourceError("memory", what, hint)


def format_bytes(count: int) -> str:
    """Write a number of bytes for people: `812 MB`, `3.4 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 999_500_000 else f"{count / 1e6:.0f} MB"
