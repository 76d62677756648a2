"""The messages of the process that parses untrusted files, and the strict reading of their JSON.

For one file the process sends a JSON line, `FileContents`, and then the bytes of the arrays; for
each of many files a JSON line, `FileMetadata`. The receiver validates all of it, since a hostile
file may have made it. `parse_json` and `Settings` read JSON texts from such a file: bounded in size
and type, with errors that name the setting.
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

MAX_FILE_BYTES = 2 << 30
MAX_TEXT_CHARACTERS = 4_000_000
MAX_SHOWN_CHARACTERS = 60

# Names in the HDF5 file.
RECORD_GROUP = "mnistcli"
CALLBACK_WEIGHTS_PATH = f"{RECORD_GROUP}/kept_weights"
DURATIONS = "epoch_duration_s"  # one of the histories: wall seconds of each epoch
RUN_METADATA_FIELDS = (
    "format_version", "config", "dataset", "progress", "test", "trial", "early_stopping",
    "reduce_on_plateau",
)  # fmt: skip

# Groups of arrays that belong to no layer. A layer's name cannot begin with a slash.
OPTIMIZER_GROUP = "/optimizer"
HISTORY_GROUP = "/history"
CALLBACK_WEIGHTS_GROUP = "/kept"

READ_HINT = "what is read is listed in docs/foreign-checkpoints.md"
SAVE_HINT = "save the whole model again with model.save('model.h5')"

# A network's input shape, without the batch axis, is in one of these settings.
INPUT_SHAPE_KEYS = ("batch_shape", "batch_input_shape", "build_input_shape")
_OPEN_INPUT_SHAPE = re.compile(r"_shape\": *\[(null|\d+)(, *\d+)*, *null")
Shapes = tuple[tuple[int, ...], ...]
WeightShapes = tuple[Shapes, ...]
"""Those of each layer with weights, in order."""

_PLAIN_DTYPE = re.compile(r"[<>|]?(f[248]|[iu][1248])")


@dataclass(frozen=True)
class ArrayHeader:
    """The description of an array whose bytes follow the JSON line.

    Attributes:
        group: the layer's name, or one of the groups above.
        name: its Keras path.
        dtype: NumPy's name of the type, with the byte order.
        shape: its shape.
    """

    group: str
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Size of the array; ValueError for other types than plain numbers."""
        if not _PLAIN_DTYPE.fullmatch(self.dtype) or min(self.shape, default=0) < 0:
            raise ValueError(f"no array of plain numbers: {self}")
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class FileContents:
    """The contents of a file, of which only the HDF5 structure is checked.

    Attributes:
        checksum: valid if the file is as mnistcli wrote it.
        model_config: Keras' JSON description of the network.
        training_config: Keras' JSON description of loss, metrics and optimizer.
        keras_version: of the Keras that saved the file.
        record: the JSON text of each field of a `Record`; None without a group `/mnistcli`.
        weight_shapes: of each layer with weights, in order, by its name in the file.
        arrays: in the order of their bytes.
    """

    checksum: ChecksumState
    model_config: str
    training_config: str | None
    keras_version: str | None
    record: dict[str, str] | None
    weight_shapes: dict[str, Shapes]
    arrays: tuple[ArrayHeader, ...]


@dataclass(frozen=True)
class MetricRange:
    """A metric over the epochs; numbers are None where they are not finite.

    Attributes:
        count: number of its values.
        last: the last of them.
        lowest: the lowest of those that are finite.
        highest: likewise.
        lowest_epoch: the first (from 1) with the lowest value; None where one is not finite.
        at_best: the value at the best epoch of early stopping; None without early stopping.
    """

    count: int
    last: float | None
    lowest: float | None
    highest: float | None
    lowest_epoch: int | None
    at_best: float | None


@dataclass(frozen=True)
class FileMetadata:
    """What a file says of its network and its run, without the arrays.

    Attributes:
        checksum: valid if the file is as mnistcli wrote it.
        model_config: Keras' JSON description of the network.
        keras_version: of the Keras that saved the file.
        record: the JSON text of each of `RUN_METADATA_FIELDS`; None without a group `/mnistcli`.
        weight_shapes: as in `FileContents`; none unless the network's input shape has to be found
            by them.
        history: a range for each metric, and for `DURATIONS`.
        warm_epoch_s: median seconds of the epochs after the first; None without epochs.
    """

    checksum: ChecksumState
    model_config: str
    keras_version: str | None
    record: dict[str, str] | None
    weight_shapes: dict[str, Shapes]
    history: dict[str, MetricRange]
    warm_epoch_s: float | None


def measure_range(values: Array, best_epoch: int | None) -> MetricRange:
    """Return the range of a metric.

    Args:
        values: float [epochs].
        best_epoch: of early stopping, from 0; None without.
    """
    finite = values[np.isfinite(values)]
    is_finite = 0 < len(values) == len(finite)

    def choose(epoch: int) -> float | None:
        value = float(values[epoch]) if 0 <= epoch < len(values) else math.nan
        return value if math.isfinite(value) else None

    return MetricRange(
        count=len(values),
        last=choose(len(values) - 1),
        lowest=float(finite.min()) if len(finite) else None,
        highest=float(finite.max()) if len(finite) else None,
        lowest_epoch=int(values.argmin()) + 1 if is_finite else None,
        at_best=None if best_epoch is None else choose(best_epoch),
    )


def split_arrays(headers: Sequence[ArrayHeader], data: memoryview) -> Iterator[Array]:
    """Yield a copy of each array in the bytes.

    Raises:
        ValueError: the bytes are not as many as the headers say.
    """
    sizes_bytes = [header.size_bytes for header in headers]
    if sum(sizes_bytes) != len(data):
        raise ValueError(f"{sum(sizes_bytes)} bytes were announced, {len(data)} came")
    start = 0
    for header, size_bytes in zip(headers, sizes_bytes, strict=True):
        values = np.frombuffer(data[start : start + size_bytes], header.dtype)
        yield values.reshape(header.shape).copy()
        start += size_bytes


def leaves_input_open(model_config: str) -> bool:
    """Return whether a `model_config` seems not to say its input shape, or not all of it."""
    is_stated = any(f'"{key}": [' in model_config for key in INPUT_SHAPE_KEYS)
    return not is_stated or _OPEN_INPUT_SHAPE.search(model_config) is not None


def quote(value: object) -> str:
    """Return a value for an error message: one short line, lists and mappings left out."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value[:MAX_SHOWN_CHARACTERS] if isinstance(value, str) else value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def parse_json(text: str, where: str, title: str) -> Any:
    """Return the value of a JSON text.

    Args:
        text: at most 4 million characters.
        where: the file, for messages.
        title: the text's name in the file, for messages.

    Raises:
        CheckpointError: the text is too long, too deeply nested, or not JSON.
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
    """The settings of a serialised object, to be taken one after the other.

    `finish` refuses settings that were not taken. Every method raises CheckpointError, which names
    the object and the setting.

    Args:
        values: the object's `config`.
        where: the file, for messages.
        owner: the object, for messages.
    """

    def __init__(self, values: dict[str, Any], where: str, owner: str) -> None:
        self._values = dict(values)
        self._where = where
        self._owner = owner

    def refuse(self, why: str, hint: str = READ_HINT) -> NoReturn:
        """Raise the error that names the object."""
        raise CheckpointError(self._where, f"{self._owner}: {why}", hint)

    def take(self, key: str, default: Any = None) -> Any:
        """Return a setting of any type; the default if it is missing or None."""
        value = self._values.pop(key, None)
        return default if value is None else value

    def take_integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Return an integer from low to high; a bool is refused."""
        return self._check_integer(key, self.take(key, default), low, high)

    def take_integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """Return a list of one to eight integers from low to high."""
        values = self.take(key)
        if not isinstance(values, list) or not 1 <= len(values) <= 8:
            self.refuse(f"{key} must be a list of integers, received {quote(values)}")
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
        """Return a finite number from low to high, or the default; a bool is refused."""
        value = self.take(key)
        return default if value is None else self._check_number(key, value, low, high)

    def take_numbers(
        self, key: str, default: float, low: float, high: float
    ) -> float | tuple[float, ...]:
        """Return a finite number from low to high, or a list of such numbers."""
        values = self.take(key, default)
        if not isinstance(values, list):
            return self._check_number(key, values, low, high)
        return tuple(self._check_number(key, value, low, high) for value in values)

    def take_bool(self, key: str, default: bool) -> bool:
        """Return a bool."""
        value = self.take(key, default)
        if type(value) is not bool:
            self.refuse(f"{key} must be true or false, received {quote(value)}")
        return value

    def take_choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """Return one of the choices."""
        value = self.take(key, default)
        if type(value) is not str or value not in choices:
            self.refuse(f"{key} {quote(value)} is not supported")
        return value

    def expect(self, key: str, expected: str | float | None) -> None:
        """Refuse every value but the one that is supported, which is also the default."""
        value = self.take(key, expected)
        if isinstance(value, bool) != isinstance(expected, bool) or value != expected:
            self.refuse(f"{key} {quote(value)} is not supported")

    def ignore(self, *keys: str) -> None:
        """Drop settings that do not affect what a trained network computes."""
        for key in keys:
            self._values.pop(key, None)

    def finish(self) -> None:
        """Refuse settings that were not taken, unless they are None or False."""
        for key, value in self._values.items():
            if value is not None and value is not False:
                self.refuse(f"the setting {quote(key)} is not supported")

    def _check_number(self, key: str, value: object, low: float, high: float) -> float:
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not low <= value <= high
        ):
            self.refuse(f"{key} must be a number from {low:g} to {high:g}, received {quote(value)}")
        return float(value)

    def _check_integer(self, key: str, value: object, low: int, high: int) -> int:
        if type(value) is not int or not low <= value <= high:
            self.refuse(f"{key} must be an integer from {low} to {high:,}, received {quote(value)}")
        return value


def is_from_keras(entry: dict[str, Any]) -> bool:
    """Return whether a serialised object is of a class of Keras' own, not of a registered one."""
    module, registered_name = entry.get("module"), entry.get("registered_name")
    is_builtin = module is None or (
        isinstance(module, str)
        and module.partition(".")[0] in ("keras", "tf_keras", "tensorflow", "builtins")
    )
    return is_builtin and registered_name in (None, entry.get("class_name"))
