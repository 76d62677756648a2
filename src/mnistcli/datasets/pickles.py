"""CIFAR-10's batches are pickles, and a pickle is a program: this reads them without running it.

Three fences. Only the instructions that a batch consists of are carried out, and these build
nothing but plain containers. Only the few names are known that NumPy's arrays are pickled under,
and they mean stand-ins of ours, not NumPy: what an array says of itself is checked before it
becomes one. And the number of instructions is limited, as the size of the file was before: one
byte of a pickle can stand for a hundred bytes of memory.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.reading import damaged

# What the unpickler's instructions raise on bytes that are no pickle, or a hostile one.
_PICKLE_DAMAGE = (
    pickle.UnpicklingError, EOFError, AssertionError, AttributeError, IndexError, KeyError,
    MemoryError, OverflowError, RecursionError, TypeError, ValueError, struct.error,
)  # fmt: skip

_OPCODES = frozenset(
    pickle.PROTO + pickle.FRAME + pickle.STOP
    + pickle.MARK + pickle.MEMOIZE + pickle.BINPUT + pickle.LONG_BINPUT
    + pickle.BINGET + pickle.LONG_BINGET
    + pickle.EMPTY_DICT + pickle.EMPTY_LIST + pickle.EMPTY_TUPLE
    + pickle.TUPLE + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3
    + pickle.APPEND + pickle.APPENDS + pickle.SETITEM + pickle.SETITEMS
    + pickle.NONE + pickle.NEWTRUE + pickle.NEWFALSE
    + pickle.BININT + pickle.BININT1 + pickle.BININT2 + pickle.LONG1
    + pickle.BINSTRING + pickle.SHORT_BINSTRING
    + pickle.BINBYTES + pickle.SHORT_BINBYTES + pickle.BINBYTES8
    + pickle.BINUNICODE + pickle.SHORT_BINUNICODE
    + pickle.GLOBAL + pickle.STACK_GLOBAL + pickle.REDUCE + pickle.BUILD
)  # fmt: skip

_MAX_READS = 1_000_000
"""Three for each name and one for each label make 40000 in a published batch."""

_MAX_AXES = 8

_INTEGERS = re.compile(r"[<>|=][iu][1248]")


@dataclass(frozen=True)
class PickledBatch:
    """What a batch holds that anyone needs.

    Attributes:
        data: integers, as pickled; uint8 [count, 3072] in the published batches.
        labels: integers [count].
    """

    data: NDArray[Any]
    labels: NDArray[Any]


def unpickle_batch(path: Path, contents: bytes) -> PickledBatch:
    """Read one batch of CIFAR-10 in its "python version".

    Args:
        path: where the bytes came from, for messages.
        contents: all of the pickle; whoever read it has capped its size.

    Returns:
        Its arrays, perhaps read-only.

    Raises:
        DataError: no pickle, one that holds anything but a batch, or arrays of other things than
            integers.
    """
    try:
        batch = _BatchUnpickler(contents).load()
    except _PICKLE_DAMAGE as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise damaged(path, f"is not a pickled batch, or is damaged ({reason})") from error
    if not isinstance(batch, dict):
        raise damaged(path, "is a pickle, but not of a batch")
    return PickledBatch(data=_take(path, batch, "data"), labels=_take(path, batch, "labels"))


@dataclass
class _Dtype:
    """Stands for `numpy.dtype`; its state says the byte order."""

    code: str

    byte_order: str = "="

    def set_state(self, state: tuple[Any, ...]) -> None:
        """The state is (version, byte order, subarray, names, fields, size, alignment, flags)."""
        self.byte_order = _to_text(state[1])


@dataclass
class _Array:
    """Stands for `numpy.ndarray`: what the pickle says of an array, not believed yet."""

    state: tuple[Any, ...] = ()

    def set_state(self, state: tuple[Any, ...]) -> None:
        """The state is (version, shape, dtype, is Fortran order, bytes)."""
        self.state = state

    def to_numpy(self) -> NDArray[Any]:
        """Build the real array; ValueError or TypeError where the state is no array of integers."""
        _, shape, dtype, is_fortran_order, raw = self.state
        if not isinstance(dtype, _Dtype) or not _INTEGERS.fullmatch(dtype.byte_order + dtype.code):
            raise ValueError("its dtype is another one")
        real_dtype = np.dtype(dtype.byte_order + dtype.code)
        if len(shape) > _MAX_AXES or any(type(axis) is not int or axis < 0 for axis in shape):
            raise ValueError("an impossible shape")
        if type(raw) is not bytes or len(raw) != math.prod(shape) * real_dtype.itemsize:
            raise ValueError("fewer or more bytes than its shape says")
        array = np.frombuffer(raw, dtype=real_dtype)
        return array.reshape(tuple(shape), order="F" if is_fortran_order else "C")


def _reconstruct(*_: object) -> _Array:
    """Stands for `numpy.core.multiarray._reconstruct`, whose arguments never matter."""
    return _Array()


def _make_dtype(code: str | bytes, *_: object) -> _Dtype:
    """Stands for calling `numpy.dtype`; the flags behind the code concern structures only."""
    return _Dtype(_to_text(code))


def _to_text(text: Any) -> str:
    """Python 2's strings arrive as bytes."""
    if isinstance(text, bytes):
        return text.decode("ascii")
    if isinstance(text, str):
        return text
    raise TypeError("text expected")


class _MeteredBytes(io.BytesIO):
    """Bytes that can be read in so many pieces; an instruction takes at least one."""

    _reads_left = _MAX_READS

    def read(self, size: int | None = -1) -> bytes:
        """Like the base class', until the limit is passed."""
        self._reads_left -= 1
        if self._reads_left < 0:
            raise pickle.UnpicklingError("it has more instructions than any batch")
        return super().read(size)


class _BatchUnpickler(pickle._Unpickler):
    """Python's own unpickler, the one written in Python, with most of its instructions removed.

    The one written in C has no table to remove them from, and reserves memory for whatever index
    a pickle names; here the whole difference is 10 ms a batch.
    """

    # The base class', which typeshed does not declare.
    stack: list[Any]
    read: Callable[[int], bytes]

    def __init__(self, contents: bytes) -> None:
        super().__init__(_MeteredBytes(contents), encoding="bytes")
        self._encodable_bytes = len(contents)

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global; there is nothing else to be found."""
        known: dict[str, Any] = {
            "numpy.core.multiarray._reconstruct": _reconstruct,  # NumPy 1
            "numpy._core.multiarray._reconstruct": _reconstruct,  # NumPy 2
            "numpy.ndarray": None,  # only ever an argument of _reconstruct
            "numpy.dtype": _make_dtype,
            "_codecs.encode": self._encode,
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no batch needs")
        return known[f"{module}.{name}"]

    def _encode(self, text: str, encoding: str) -> bytes:
        """Stands for `_codecs.encode`: how Python 3 writes bytes in Python 2's protocols."""
        self._encodable_bytes -= len(text)
        if encoding != "latin1" or self._encodable_bytes < 0:
            raise pickle.UnpicklingError("bytes that are not written as NumPy writes them")
        return text.encode("latin1")

    def _skip_frame_size(self) -> None:
        """A frame is a hint to read ahead; read from memory of its own, it would not be metered."""
        self.read(8)

    def _load_build(self) -> None:
        """The base class' own would set attributes of anything."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype) or not isinstance(state, tuple):
            raise pickle.UnpicklingError("it sets the state of something that is no array")
        self.stack[-1].set_state(state)

    def _load_setitem(self) -> None:
        """Hashing a deeply nested key would overflow the interpreter's stack."""
        self._check_keys(self.stack[-2:-1])
        pickle._Unpickler.dispatch[pickle.SETITEM[0]](self)  # type: ignore[arg-type]

    def _load_setitems(self) -> None:
        """As above; the stack begins at the mark."""
        self._check_keys(self.stack[::2])
        pickle._Unpickler.dispatch[pickle.SETITEMS[0]](self)  # type: ignore[arg-type]

    def _check_keys(self, keys: list[Any]) -> None:
        """A batch's keys are plain strings."""
        if any(type(key) not in (bytes, str) for key in keys):
            raise pickle.UnpicklingError("it has a key that is no string")

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **{code: pickle._Unpickler.dispatch[code] for code in _OPCODES},
        pickle.FRAME[0]: _skip_frame_size,
        pickle.BUILD[0]: _load_build,
        pickle.SETITEM[0]: _load_setitem,
        pickle.SETITEMS[0]: _load_setitems,
    }


def _take(path: Path, batch: dict[Any, Any], key: str) -> NDArray[Any]:
    """Under Python 2's kind of key or Python 3's; a list of integers is as good as an array."""
    value = batch.get(key.encode(), batch.get(key))
    if value is None:
        raise damaged(path, f"holds no {key}")
    if isinstance(value, _Array):
        try:
            return value.to_numpy()
        except (ValueError, TypeError, OverflowError) as error:
            raise damaged(path, f"its {key} are no array of integers ({error})") from error
    if isinstance(value, list) and set(map(type, value)) <= {int}:
        try:
            return np.array(value, dtype=np.int64)
        except OverflowError as error:
            raise damaged(path, f"its {key} hold impossible numbers") from error
    raise damaged(path, f"its {key} are neither an array nor a list of integers")
