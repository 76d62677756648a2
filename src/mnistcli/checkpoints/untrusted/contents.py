"""What the parsing child tells its parent: one JSON line, `Contents`, then the arrays' bytes.

Of many files it tells less, an `Excerpt` each.

The parent takes nothing of it for granted: it may have come out of a hostile file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mnistcli.checkpoints.checksum import SealState
from mnistcli.checkpoints.run_state import Array

# Groups of arrays beside the layers', whose names can hold no slash.
OPTIMIZER_GROUP = "/optimizer"
HISTORY_GROUP = "/history"
KEPT_GROUP = "/kept"  # the weights that callbacks keep

MAX_FILE_BYTES = 2 << 30

DURATIONS = "epoch_duration_s"  # stands among the histories: wall seconds of each epoch
EXCERPT_PARTS = (
    "format_version",
    "config",
    "dataset",
    "progress",
    "test",
    "trial",
)  # of a `RecordExcerpt`

_PLAIN_DTYPE = re.compile(r"[<>|]?(f[248]|[iu][1248])")


@dataclass(frozen=True)
class ArrayHeader:
    """Where an array belongs, its name, NumPy's dtype, its shape; its bytes follow the line."""

    group: str
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """How many bytes the array takes; ValueError where that has no meaning."""
        if not _PLAIN_DTYPE.fullmatch(self.dtype) or min(self.shape, default=0) < 0:
            raise ValueError(f"no array of plain numbers: {self}")
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Contents:
    """What stands in a file, unchecked but for its HDF5 structure.

    Attributes:
        seal: whether the file is as mnistcli wrote it.
        model_config: Keras' JSON description of the network.
        training_config: Keras' JSON description of loss, metrics and optimizer.
        keras_version: that saved the file.
        record: the JSON text of each part of a `Record`; null for files of others.
        arrays: in the order of their bytes.
    """

    seal: SealState
    model_config: str
    training_config: str | None
    keras_version: str | None
    record: dict[str, str] | None
    arrays: tuple[ArrayHeader, ...]


@dataclass(frozen=True)
class MetricRange:
    """What became of a metric over the epochs; null where it is not finite."""

    last: float | None
    lowest: float | None
    highest: float | None


@dataclass(frozen=True)
class Excerpt:
    """What stands in a file about its network and its run, without any of the arrays.

    Attributes:
        seal: whether the file is as mnistcli wrote it.
        model_config: Keras' JSON description of the network.
        keras_version: that saved the file.
        record: the JSON text of each part of a `RecordExcerpt`; null for files of others.
        history: a range for each metric.
        warm_epoch_s: median seconds of an epoch once compiled; null before there is one.
    """

    seal: SealState
    model_config: str
    keras_version: str | None
    record: dict[str, str] | None
    history: dict[str, MetricRange]
    warm_epoch_s: float | None


def cut_arrays(headers: Sequence[ArrayHeader], data: memoryview) -> Iterator[Array]:
    """Cut the bytes into arrays of their own memory.

    Raises:
        ValueError: headers and bytes are not of one piece.
    """
    sizes_bytes = [header.size_bytes for header in headers]
    if sum(sizes_bytes) != len(data):
        raise ValueError(f"{sum(sizes_bytes)} bytes were announced, {len(data)} came")
    start = 0
    for header, size_bytes in zip(headers, sizes_bytes, strict=True):
        piece = data[start : start + size_bytes]
        yield np.frombuffer(piece, header.dtype).reshape(header.shape).copy()
        start += size_bytes
