"""Files of data sets as others publish or damage them, a few images large."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}

X_TRAIN = np.arange(6 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(6, 28, 28)
BOMB_BYTES = 40 * 10**6
ARRAYS = {
    "x_train": X_TRAIN,
    "y_train": np.array([5, 0, 4, 1, 9, 2], dtype=np.uint8),
    "x_test": X_TRAIN[:3, ::-1].copy(),
    "y_test": np.array([7, 2, 1], dtype=np.uint8),
}


def write_npz(path: Path, **replaced: NDArray[np.generic]) -> Path:
    np.savez_compressed(path, **(ARRAYS | replaced))
    return path


def write_idx(folder: Path, *, compressed: bool, dot: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ARRAYS.items():
        file_name = IDX_NAMES[name].replace("-idx", ".idx") if dot else IDX_NAMES[name]
        header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
        contents = header + array.tobytes()
        if compressed:
            (folder / f"{file_name}.gz").write_bytes(gzip.compress(contents))
        else:
            (folder / file_name).write_bytes(contents)
    return folder


def write_members(path: Path, **members: bytes) -> Path:
    """An archive whose members are not NumPy's own doing."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in members.items():
            archive.writestr(f"{name}.npy", contents)
    return path


def npy(array: NDArray[np.generic], *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def npy_header(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_byte_of_x_train(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[300] ^= 0xFF
    path.write_bytes(contents)


def replace_array(name: str, array: NDArray[np.generic]) -> Callable[[Path], None]:
    return lambda path: np.savez_compressed(path, allow_pickle=True, **(ARRAYS | {name: array}))


def replace_member(name: str, contents: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        members = {other: npy(array) for other, array in ARRAYS.items()}
        write_members(path, **(members | {name: contents}))

    return write


def leave_out(name: str) -> Callable[[Path], None]:
    kept = {other: array for other, array in ARRAYS.items() if other != name}
    return lambda path: np.savez_compressed(path, **kept)


def claim_small_size(path: Path) -> None:
    """A bomb: the archive says that x_train has 4832 bytes, and inflates to 40 MB."""
    header = npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (6, 28, 28), }")
    size = len(header) + 6 * 28 * 28
    write_members(
        path, **{n: npy(a) for n, a in ARRAYS.items()} | {"x_train": header + bytes(BOMB_BYTES)}
    )
    contents = path.read_bytes().replace(
        struct.pack("<I", len(header) + BOMB_BYTES), struct.pack("<I", size)
    )
    path.write_bytes(contents)


HUGE_HEADER = npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (9999999, 28, 28), }")

CIFAR_FOLDER = "cifar-10-batches-py"
BATCH_NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2's strings, as the published batches hold them."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value: bytes) -> None:
        if self.proto == 0:
            self.write(pickle.STRING + repr(value)[1:].encode() + b"\n")
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def pickle_as_python_2(batch: object, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=protocol).dump(batch)
    return stream.getvalue().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")


def make_batch(number: int) -> dict[bytes, object]:
    """Two images; in the first, red is all 10 + number, green 100, blue 200."""
    first = np.repeat(np.array([10 + number, 100, 200], dtype=np.uint8), 1024)
    second = np.arange(3072, dtype=np.uint16).astype(np.uint8)
    return {
        b"batch_label": f"batch {number}".encode(),
        b"labels": [number, 9],
        b"data": np.stack([first, second]),
        b"filenames": [b"a.png", b"b.png"],
    }


def write_batches(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(BATCH_NAMES):
        (folder / name).write_bytes(pickle_as_python_2(make_batch(number)))
    return folder


def archive_batches(path: Path, folder: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, CIFAR_FOLDER)
    return path


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call
