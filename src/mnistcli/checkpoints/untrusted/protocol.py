"""What the parsing child tells its parent: one JSON line, `FileContents`, then the arrays' bytes.

Of many files it tells less, an `FileMetadata` each.

The parent takes nothing of it for granted: it may have come out of a hostile file.

JSON from a file that nobody vouches for, read strictly: bounded, typed, named when wrong.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from mnistcli.checkpoints.checksum import ChecksumState
from mnistcli.checkpoints.run_state import Array
from mnistcli.errors import CheckpointError

MAX_TEXT_CHARACTERS = 4_000_000
MAX_SHOWN_CHARACTERS = 60


def show(value: object) -> str:
    """Return a value as an error message may hold it: short, one line, nothing nested."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value[:MAX_SHOWN_CHARACTERS] if isinstance(value, str) else value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def parse_json(text: str, where: str, title: str) -> Any:
    """Return what the text says.

    Args:
        text: JSON, at most 4 million characters.
        where: the file, for messages.
        title: the name of the text within the file.

    Raises:
        CheckpointError: too long, too deeply nested, or no JSON.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise CheckpointError(
            where,
            f"{title} has {len(text):,} characters, at most {MAX_TEXT_CHARACTERS:,} are read",
            "save the network again",
        )
    try:
        return json.loads(text)
    except RecursionError:
        what = f"{title} is nested too deeply"
    except ValueError:  # also a number of more digits than Python converts
        what = f"{title} is not valid JSON"
    raise CheckpointError(where, what, "the file is damaged; save the network again")


class Settings:
    """The settings of one object, taken one by one; what is left over must not matter.

    Every method raises CheckpointError, which names the object and the setting.
    """

    def __init__(self, values: dict[str, Any], where: str, owner: str, hint: str) -> None:
        self._values = dict(values)
        self._where = where
        self._owner = owner
        self._hint = hint

    def refuse(self, why: str) -> NoReturn:
        """Raise the error that names the object."""
        raise CheckpointError(self._where, f"{self._owner}: {why}", self._hint)

    def take(self, key: str, default: Any = None) -> Any:
        """Return a setting as it is; the default where it is missing or null."""
        value = self._values.pop(key, None)
        return default if value is None else value

    def take_integer(self, key: str, low: int, high: int) -> int:
        """Return an integer from low to high; a bool is none."""
        return self._check_integer(key, self.take(key), low, high)

    def take_integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """Return a list of one to eight integers from low to high."""
        values = self.take(key)
        if not isinstance(values, list) or not 1 <= len(values) <= 8:
            self.refuse(f"{key} must be a list of integers, received {show(values)}")
        return tuple(self._check_integer(key, value, low, high) for value in values)

    def take_pair(self, key: str, high: int, default: tuple[int, int] | None) -> tuple[int, int]:
        """Return two integers from 1 to high, or the default."""
        if default is not None and self._values.get(key) is None:
            return default
        values = self.take_integers(key, 1, high)
        if len(values) != 2:
            self.refuse(f"{key} must be two integers, received {len(values)}")
        return values[0], values[1]

    def take_number(self, key: str, default: float, low: float, high: float) -> float:
        """Return a finite number from low to high; a bool is none."""
        value = self.take(key, default)
        if type(value) not in (int, float) or not low <= value <= high:
            self.refuse(f"{key} must be a number from {low:g} to {high:g}, received {show(value)}")
        return float(value)

    def take_bool(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.take(key, default)
        if type(value) is not bool:
            self.refuse(f"{key} must be true or false, received {show(value)}")
        return value

    def take_choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """Return one of the choices."""
        value = self.take(key, default)
        if type(value) is not str or value not in choices:
            self.refuse(f"{key} {show(value)} is not supported")
        return value

    def expect(self, key: str, expected: str | float | None) -> None:
        """Refuse any other value than the one that is supported, which is also the default."""
        value = self.take(key, expected)
        if isinstance(value, bool) != isinstance(expected, bool) or value != expected:
            self.refuse(f"{key} {show(value)} is not supported")

    def ignore(self, *keys: str) -> None:
        """Drop settings that change nothing about what a trained network computes."""
        for key in keys:
            self._values.pop(key, None)

    def finish(self) -> None:
        """Refuse settings that nobody took; null and false switch nothing on."""
        for key, value in self._values.items():
            if value is not None and value is not False:
                self.refuse(f"the setting {show(key)} is not supported")

    def _check_integer(self, key: str, value: object, low: int, high: int) -> int:
        if type(value) is not int or not low <= value <= high:
            self.refuse(f"{key} must be an integer from {low} to {high:,}, received {show(value)}")
        return value


def is_from_keras(entry: dict[str, Any]) -> bool:
    """Say whether a serialised object claims to be Keras' own, not one registered by someone."""
    module, registered_name = entry.get("module"), entry.get("registered_name")
    is_builtin = module is None or (
        isinstance(module, str)
        and module.partition(".")[0] in ("keras", "tf_keras", "tensorflow", "builtins")
    )
    return is_builtin and registered_name in (None, entry.get("class_name"))


# Groups of arrays beside the layers', whose names can hold no slash.
OPTIMIZER_GROUP = "/optimizer"
HISTORY_GROUP = "/history"
KEPT_GROUP = "/kept"  # the weights that callbacks keep

MAX_FILE_BYTES = 2 << 30

DURATIONS = "epoch_duration_s"  # stands among the histories: wall seconds of each epoch
RUN_METADATA_FIELDS = (
    "format_version",
    "config",
    "dataset",
    "progress",
    "test",
    "trial",
)  # of a `RunMetadata`

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
class FileContents:
    """What stands in a file, unchecked but for its HDF5 structure.

    Attributes:
        checksum: whether the file is as mnistcli wrote it.
        model_config: Keras' JSON description of the network.
        training_config: Keras' JSON description of loss, metrics and optimizer.
        keras_version: that saved the file.
        record: the JSON text of each part of a `Record`; null for files of others.
        arrays: in the order of their bytes.
    """

    checksum: ChecksumState
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
class FileMetadata:
    """What stands in a file about its network and its run, without any of the arrays.

    Attributes:
        checksum: whether the file is as mnistcli wrote it.
        model_config: Keras' JSON description of the network.
        keras_version: that saved the file.
        record: the JSON text of each part of a `RunMetadata`; null for files of others.
        history: a range for each metric.
        warm_epoch_s: median seconds of an epoch once compiled; null before there is one.
    """

    checksum: ChecksumState
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
