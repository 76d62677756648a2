"""NumPy's .npz archives: named arrays of a published data set, or custom images with labels.

Archives are read without `numpy.load`: headers are checked against the archive's own sizes before
anything is decompressed, and nothing in a file is ever evaluated. Custom images that are stored
without compression stay in the file; compressed ones are unpacked into the cache.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mnistcli.config.schema import MAX_LABELS, FilesConfig
from mnistcli.datasets.base import (
    MAX_ARRAY_BYTES,
    SplitName,
    check_file_size,
    make_damage_error,
    translate_read_errors,
)
from mnistcli.datasets.memory_map import (
    CHUNK_BYTES,
    CachedRows,
    OnProgress,
    RowSource,
    iter_chunks,
    load_rows,
    map_rows,
)
from mnistcli.errors import DataError, make_printable
from mnistcli.images.arrays import Header, read_header

# What zipfile and zlib raise on broken bytes; RuntimeError: encrypted members.
_ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, IndexError, OverflowError,
)  # fmt: skip
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_IMAGES_HINT = (
    "images are whole numbers from 0 to 255: save x.astype(numpy.uint8), times 255 before that"
    " where they go from 0 to 1"
)
_ARRAYS_HINT = "write it with numpy.savez(file, x_train=…, y_train=…, x_test=…, y_test=…)"
_LABELS_HINT = "labels are whole numbers from 0, one for each image"
_SOUND_HINT = "replace it by a sound copy"


@dataclass(frozen=True)
class ArrayMember:
    """An array in an archive, before it is read."""

    info: zipfile.ZipInfo
    header: Header


@dataclass(frozen=True)
class ImageArchive:
    """Custom images in an archive.

    Attributes:
        path: the file.
        images: the image arrays by split.
        labels: uint8 [count] by split.
        class_names: in class order.
        image_shape: of one image: (28, 28) for arrays of (count, 28, 28) and (count, 28, 28, 1).
        held_out: 0: an archive has a test set.
        notes: messages to the user, one line each.
    """

    path: Path
    images: dict[SplitName, ArrayMember]
    labels: dict[SplitName, NDArray[np.uint8]]
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    held_out: float = 0.0
    notes: tuple[str, ...] = ()

    def count(self, split: SplitName) -> int:
        """Count the images of a split."""
        return len(self.labels[split])

    def read_labels(self, split: SplitName) -> NDArray[np.uint8]:
        """Return the classes of the images, uint8 [count]."""
        return self.labels[split]

    def read_rows(self, split: SplitName, cache: Path, on_progress: OnProgress) -> CachedRows:
        """Return the images, memory-mapped in the archive itself or in the cache.

        Raises:
            DataError: they are damaged.
            ResourceError: the cache cannot be written.
        """
        member, name = self.images[split], f"x_{split}"
        shape = (self.count(split), *self.image_shape)
        with _translate_archive_errors(self.path):
            if member.info.compress_type == zipfile.ZIP_STORED:
                return self._map_member(member, name, shape)
        source = RowSource(
            (self._make_key(name, member),), shape, lambda: self._unpack(member, name)
        )
        return load_rows(source, cache, on_progress)

    def _map_member(self, member: ArrayMember, name: str, shape: tuple[int, ...]) -> CachedRows:
        """Map an uncompressed array, and verify the archive's CRC-32."""
        with self.path.open("rb") as file:
            file.seek(member.info.header_offset)
            magic, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            start = file.tell() + name_bytes + extra_bytes
            file.seek(start)
            header = file.read(member.header.header_bytes)
        if magic != b"PK\3\4":
            raise _make_archive_error(self.path, f"{name} is not where the archive says")
        rows = map_rows(self.path, start + len(header), shape)
        digest, crc = hashlib.sha256(), zlib.crc32(header)
        for chunk in iter_chunks(rows):
            digest.update(chunk.data)
            crc = zlib.crc32(chunk.data, crc)
        if crc != member.info.CRC:
            raise _make_archive_error(self.path, f"{name} is damaged: its check sum is another")
        return CachedRows(rows, digest.hexdigest())

    def _make_key(self, name: str, member: ArrayMember) -> str:
        """Return the cache key: a hash of all that the images depend on."""
        status = self.path.stat()
        about = (str(self.path), status.st_size, status.st_mtime_ns, name, member.info.CRC)
        return hashlib.sha256(repr(about).encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def _unpack(self, member: ArrayMember, name: str) -> Iterator[NDArray[np.uint8]]:
        """Decompress an array in chunks of some megabytes; zipfile verifies the CRC-32."""
        left = member.header.array_bytes
        with (
            _translate_archive_errors(self.path),
            zipfile.ZipFile(self.path) as archive,
            archive.open(member.info) as stream,
        ):
            stream.read(member.header.header_bytes)
            while chunk := stream.read(min(CHUNK_BYTES, left + 1)):
                left -= len(chunk)
                if left < 0:
                    break
                yield np.frombuffer(chunk, np.uint8)
        if left != 0:
            raise _make_archive_error(self.path, f"{name} has another length than the archive says")


def read_npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read some arrays of integers, all at the same time.

    Args:
        path: the archive.
        names: of the arrays, `x_train` for example.

    Returns:
        The arrays by name, C-contiguous, perhaps read-only.

    Raises:
        DataError: an array is missing, too large or not of integers; the file is damaged, not a zip
            archive, or cannot be read.
    """
    check_file_size(path)
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        arrays = pool.map(lambda name: _read_array(path, name), names)
        return dict(zip(names, arrays, strict=True))


def open_archive(config: FilesConfig, path: Path) -> ImageArchive:
    """Read the headers and labels of an archive of custom images.

    Raises:
        DataError: it is damaged or not a zip archive; images or labels have a wrong type or shape.
    """
    with _translate_archive_errors(path), zipfile.ZipFile(path) as archive:
        images: dict[SplitName, ArrayMember] = {
            "train": _describe_member(path, archive, "x_train", _IMAGES_HINT),
            "test": _describe_member(path, archive, "x_test", _IMAGES_HINT),
        }
        shapes = {f"x_{split}": _check_images(path, split, m) for split, m in images.items()}
        labels: dict[SplitName, NDArray[np.uint8]] = {
            split: _read_labels(path, archive, split, member.header.shape[0])
            for split, member in images.items()
        }
    if shapes["x_train"] != shapes["x_test"]:
        what = f"images of x_train are {shapes['x_train']}, of x_test {shapes['x_test']}"
        raise DataError(str(path), what, "both have to be of one size")
    if config.size is not None and config.size != shapes["x_train"]:
        what = f"its images are {shapes['x_train']}, dataset.size is {config.size}"
        raise DataError(str(path), what, "images of an .npz file are taken as they are")
    names = _name_classes(path, config, labels)
    absent = set(range(len(names))) - set(np.unique(labels["test"]).tolist())
    untested = ", ".join(names[label] for label in sorted(absent)[:10])
    notes = (f"no test images of {untested}",) if absent else ()
    return ImageArchive(path, images, labels, names, shapes["x_train"], notes=notes)


def _read_array(path: Path, name: str) -> NDArray[Any]:
    # each thread opens the archive: an open file has one position
    with translate_read_errors(path, *_ZIP_DAMAGE), zipfile.ZipFile(path) as archive:
        member = _find_member(path, archive, name)
        with archive.open(member) as stream:
            header = _read_header(path, name, stream)
            declared = header.header_bytes + header.array_bytes
            if declared > MAX_ARRAY_BYTES:
                raise make_damage_error(
                    path, f"{name} claims {declared} bytes, too many for a data set"
                )
            if declared != member.file_size:
                raise make_damage_error(
                    path, f"{name} claims {declared} bytes and has {member.file_size}"
                )
            contents = stream.read(header.array_bytes)
            at_end = stream.read(1) == b""  # zipfile compares the CRC only when it sees the end
        if not at_end or len(contents) != header.array_bytes:
            raise make_damage_error(path, f"{name} has another length than the archive says")
        return header.make_array(contents)


def _find_member(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise make_damage_error(path, f"holds no array {name}") from None
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise make_damage_error(path, f"{name} is compressed in a way that NumPy does not write")
    return member


def _read_header(path: Path, name: str, stream: IO[bytes]) -> Header:
    try:
        return read_header(stream)
    except ValueError as error:
        raise make_damage_error(path, f"{name} {error}") from None


def _describe_member(path: Path, archive: zipfile.ZipFile, name: str, hint: str) -> ArrayMember:
    """Read an array's header, and check it against the archive's.

    Args:
        path: of the archive, for messages.
        archive: the open archive.
        name: of the array, `x_train` for example.
        hint: what to do where it is an array of another type.

    Raises:
        DataError: the array is missing, not of integers, or damaged.
    """
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise DataError(str(path), f"holds no array {name}", _ARRAYS_HINT) from None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        what = f"{name} is encrypted, or compressed in a way that NumPy does not write"
        raise DataError(str(path), what, _ARRAYS_HINT)
    with archive.open(info) as stream:
        try:
            header = read_header(stream)
        except ValueError as error:
            raise DataError(str(path), make_printable(f"{name} {error}"), hint) from None
    declared = header.header_bytes + header.array_bytes
    if declared != info.file_size:
        raise _make_archive_error(path, f"{name} claims {declared} bytes and has {info.file_size}")
    return ArrayMember(info, header)


def _read_labels(path: Path, archive: zipfile.ZipFile, split: str, count: int) -> NDArray[np.uint8]:
    """Read labels of any integer dtype, one for each of `count` images: uint8 [count].

    Raises:
        DataError: they have another type, shape or range, or are damaged.
    """
    name = f"y_{split}"
    member = _describe_member(path, archive, name, _LABELS_HINT)
    if member.header.shape not in ((count,), (count, 1)):
        what = f"{name} has shape {member.header.shape}, x_{split} {count} images"
        raise DataError(str(path), what, _LABELS_HINT)
    with archive.open(member.info) as stream:
        stream.read(member.header.header_bytes)
        contents = stream.read(member.header.array_bytes)
        if len(contents) != member.header.array_bytes or stream.read(1):
            raise _make_archive_error(path, f"{name} has another length than the archive says")
    labels = member.header.make_array(contents).reshape(count)
    if labels.min() < 0 or labels.max() >= MAX_LABELS:
        wrong = labels[(labels < 0) | (labels >= MAX_LABELS)][0]
        what = f"{name} holds the label {wrong}; classes are 0 to at most {MAX_LABELS - 1}"
        raise DataError(str(path), what, _LABELS_HINT)
    return labels.astype(np.uint8)


def _make_archive_error(path: Path, what: str) -> DataError:
    """Return the error for a damaged archive of custom images, which is never deleted."""
    return DataError(str(path), what, _SOUND_HINT)


@contextmanager
def _translate_archive_errors(path: Path) -> Iterator[None]:
    """Turn the exceptions of zipfile into DataErrors that name the file."""
    try:
        yield
    except _ZIP_DAMAGE as error:
        reason = make_printable(str(error) or type(error).__name__)
        raise _make_archive_error(path, f"is damaged or no .npz file ({reason})") from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise DataError(str(path), what, "check the path and its permissions") from error


def _check_images(path: Path, split: str, member: ArrayMember) -> tuple[int, ...]:
    """Return the shape of one image; DataError where the array does not hold images."""
    header, name = member.header, f"x_{split}"
    if header.dtype != np.uint8:
        raise DataError(str(path), f"{name} has dtype {header.dtype}, not uint8", _IMAGES_HINT)
    shape = header.shape
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)) or 0 in shape:
        what = f"{name} has shape {header.shape}"
        hint = "images are (count, height, width), in colour (count, height, width, 3)"
        raise DataError(str(path), what, hint)
    if header.is_fortran_order:
        what = f"{name} is stored column by column"
        raise DataError(str(path), what, "save numpy.ascontiguousarray(x)")
    return shape[1:]


def _name_classes(
    path: Path, config: FilesConfig, labels: dict[SplitName, NDArray[np.uint8]]
) -> tuple[str, ...]:
    """Return the class names of the config, or the labels; DataError where they do not fit."""
    learned = set(np.unique(labels["train"]).tolist())
    highest = max(int(part.max()) for part in labels.values())
    names = config.classes or tuple(str(label) for label in range(highest + 1))
    if highest >= len(names):
        what = f"there are {highest + 1} classes, and dataset.classes names {len(names)}"
        raise DataError(str(path), what, "name them all")
    absent = next((label for label in range(len(names)) if label not in learned), None)
    if absent is not None:
        what = f"y_train has no example of the class {absent}"
        shown = f" ({names[absent]})" if config.classes else ""
        raise DataError(str(path), f"{what}{shown}", "number the classes from 0 without gaps")
    if len(names) < 2:
        raise DataError(str(path), "there is one class", "two can be told apart")
    return names
