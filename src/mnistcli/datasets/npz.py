"""An .npz file with the four arrays x_train, y_train, x_test and y_test as a data set.

Arrays that are stored as they are stay in the file; compressed ones are unpacked into the cache.
Nothing in the file is ever evaluated, and what a header claims has to agree with the archive's.

NumPy's .npz archives, read without `numpy.load`: sizes are known before anything is inflated.

An array in an .npz archive: found and measured before anything of it is read.
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
    damaged,
    reporting_damage,
)
from mnistcli.datasets.memory_map import (
    PIECE_BYTES,
    FoundRows,
    OnProgress,
    RowSource,
    load_rows,
    map_rows,
    walk_pieces,
)
from mnistcli.errors import DataError, make_printable
from mnistcli.images.decoding import Header, read_header

# What zipfile and zlib raise on broken bytes; RuntimeError: encrypted members.
ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, IndexError, OverflowError,
)  # fmt: skip


def read_npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read arrays of integers by name, all at the same time; others are not touched.

    Args:
        path: the archive.
        names: of the arrays wanted, `x_train` for example.

    Returns:
        The arrays by name, each C-contiguous, perhaps read-only.

    Raises:
        DataError: no such array, one that is no array of integers or too large, a file that is
            damaged, no zip archive, or not readable.
    """
    check_file_size(path)
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        arrays = pool.map(lambda name: _read_array(path, name), names)
        return dict(zip(names, arrays, strict=True))


def _read_array(path: Path, name: str) -> NDArray[Any]:
    """Each thread opens the archive for itself: one file position cannot serve two."""
    with reporting_damage(path, *ZIP_DAMAGE), zipfile.ZipFile(path) as archive:
        member = _find_member(path, archive, name)
        with archive.open(member) as stream:
            header = _read_header(path, name, stream)
            declared = header.header_bytes + header.array_bytes
            if declared > MAX_ARRAY_BYTES:
                raise damaged(path, f"{name} claims {declared} bytes, too many for a data set")
            if declared != member.file_size:
                raise damaged(path, f"{name} claims {declared} bytes and has {member.file_size}")
            contents = stream.read(header.array_bytes)
            at_end = stream.read(1) == b""  # zipfile compares the CRC only when it sees the end
        if not at_end or len(contents) != header.array_bytes:
            raise damaged(path, f"{name} has another length than the archive says")
        return header.make_array(contents)


def _find_member(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A KeyError would not say what the archive holds instead."""
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise damaged(path, f"holds no array {name}") from None
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise damaged(path, f"{name} is compressed in a way that NumPy does not write")
    return member


def _read_header(path: Path, name: str, stream: IO[bytes]) -> Header:
    """Name file and array in what is wrong with a header."""
    try:
        return read_header(stream)
    except ValueError as error:
        raise damaged(path, f"{name} {error}") from None


ARRAYS_HINT = "write it with numpy.savez(file, x_train=…, y_train=…, x_test=…, y_test=…)"
_LABELS_HINT = "labels are whole numbers from 0, one for each image"
_SOUND_HINT = "replace it by a sound copy"


@dataclass(frozen=True)
class Member:
    """An array in the archive, before it is read."""

    info: zipfile.ZipInfo
    header: Header


def find_member(path: Path, archive: zipfile.ZipFile, name: str, hint: str) -> Member:
    """Read an array's header, and compare it with the archive's own.

    Args:
        path: of the archive, for messages.
        archive: open.
        name: of the array, x_train for example.
        hint: the way out where it is an array of something else.

    Raises:
        DataError: there is no such array, or not one of whole numbers; or it is damaged.
    """
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise DataError(str(path), f"holds no array {name}", ARRAYS_HINT) from None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        what = f"{name} is encrypted, or compressed in a way that NumPy does not write"
        raise DataError(str(path), what, ARRAYS_HINT)
    with archive.open(info) as stream:
        try:
            header = read_header(stream)
        except ValueError as error:
            raise DataError(str(path), make_printable(f"{name} {error}"), hint) from None
    declared = header.header_bytes + header.array_bytes
    if declared != info.file_size:
        raise damaged_member(path, f"{name} claims {declared} bytes and has {info.file_size}")
    return Member(info, header)


def read_labels(path: Path, archive: zipfile.ZipFile, split: str, count: int) -> NDArray[np.uint8]:
    """Read labels of any whole numbers' dtype, as many as there are images: uint8 [count].

    Raises:
        DataError: they are something else, or damaged.
    """
    name = f"y_{split}"
    member = find_member(path, archive, name, _LABELS_HINT)
    if member.header.shape not in ((count,), (count, 1)):
        what = f"{name} has shape {member.header.shape}, x_{split} {count} images"
        raise DataError(str(path), what, _LABELS_HINT)
    with archive.open(member.info) as stream:
        stream.read(member.header.header_bytes)
        contents = stream.read(member.header.array_bytes)
        if len(contents) != member.header.array_bytes or stream.read(1):
            raise damaged_member(path, f"{name} has another length than the archive says")
    labels = member.header.make_array(contents).reshape(count)
    if labels.min() < 0 or labels.max() >= MAX_LABELS:
        wrong = labels[(labels < 0) | (labels >= MAX_LABELS)][0]
        what = f"{name} holds the label {wrong}; classes are 0 to at most {MAX_LABELS - 1}"
        raise DataError(str(path), what, _LABELS_HINT)
    return labels.astype(np.uint8)


def damaged_member(path: Path, what: str) -> DataError:
    """Return the error for an archive that is not whole, which is named and never deleted."""
    return DataError(str(path), what, _SOUND_HINT)


@contextmanager
def reporting_member_damage(path: Path) -> Iterator[None]:
    """Turn what zipfile raises on broken bytes into the error that names the file; DataError."""
    try:
        yield
    except ZIP_DAMAGE as error:
        reason = make_printable(str(error) or type(error).__name__)
        raise damaged_member(path, f"is damaged or no .npz file ({reason})") from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise DataError(str(path), what, "check the path and its permissions") from error


_LOCAL_HEADER = struct.Struct("<4s22xHH")
_IMAGES_HINT = (
    "images are whole numbers from 0 to 255: save x.astype(numpy.uint8), times 255 before that"
    " where they go from 0 to 1"
)


@dataclass(frozen=True)
class ImageArchive:
    """The arrays of an archive.

    Attributes:
        path: the file.
        images: the image arrays by split.
        labels: uint8 [count], by split.
        class_names: in class order.
        image_shape: of one image, (28, 28) for arrays of (count, 28, 28) and (count, 28, 28, 1).
    """

    path: Path
    images: dict[SplitName, Member]
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

    def read_rows(self, split: SplitName, cache: Path, on_progress: OnProgress) -> FoundRows:
        """Return the images as rows, in the archive itself or unpacked; see `load_rows`.

        Raises:
            DataError: they are damaged.
            ResourceError: the cache cannot be written.
        """
        member, name = self.images[split], f"x_{split}"
        shape = (self.count(split), *self.image_shape)
        with reporting_member_damage(self.path):
            if member.info.compress_type == zipfile.ZIP_STORED:
                return self._map_member(member, name, shape)
        source = RowSource(
            (self._make_key(name, member),), shape, lambda: self._unpack(member, name)
        )
        return load_rows(source, cache, on_progress)

    def _map_member(self, member: Member, name: str, shape: tuple[int, ...]) -> FoundRows:
        """Find an array that is stored as it is, and compare it with the archive's check sum."""
        with self.path.open("rb") as file:
            file.seek(member.info.header_offset)
            magic, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            start = file.tell() + name_bytes + extra_bytes
            file.seek(start)
            header = file.read(member.header.header_bytes)
        if magic != b"PK\3\4":
            raise damaged_member(self.path, f"{name} is not where the archive says")
        rows = map_rows(self.path, start + len(header), shape)
        digest, crc = hashlib.sha256(), zlib.crc32(header)
        for piece in walk_pieces(rows):
            digest.update(piece.data)
            crc = zlib.crc32(piece.data, crc)
        if crc != member.info.CRC:
            raise damaged_member(self.path, f"{name} is damaged: its check sum is another")
        return FoundRows(rows, digest.hexdigest())

    def _make_key(self, name: str, member: Member) -> str:
        """Sum up what the rows depend on."""
        status = self.path.stat()
        about = (str(self.path), status.st_size, status.st_mtime_ns, name, member.info.CRC)
        return hashlib.sha256(repr(about).encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def _unpack(self, member: Member, name: str) -> Iterator[NDArray[np.uint8]]:
        """Inflate an array, some megabytes at a time; zipfile checks its sum at the end."""
        left = member.header.array_bytes
        with (
            reporting_member_damage(self.path),
            zipfile.ZipFile(self.path) as archive,
            archive.open(member.info) as stream,
        ):
            stream.read(member.header.header_bytes)
            while piece := stream.read(min(PIECE_BYTES, left + 1)):
                left -= len(piece)
                if left < 0:
                    break
                yield np.frombuffer(piece, np.uint8)
        if left != 0:
            raise damaged_member(self.path, f"{name} has another length than the archive says")


def open_archive(config: FilesConfig, path: Path) -> ImageArchive:
    """Read an archive's headers and labels.

    Raises:
        DataError: it is no such archive, or damaged; images or labels are not what they have to be.
    """
    with reporting_member_damage(path), zipfile.ZipFile(path) as archive:
        images: dict[SplitName, Member] = {
            "train": find_member(path, archive, "x_train", _IMAGES_HINT),
            "test": find_member(path, archive, "x_test", _IMAGES_HINT),
        }
        shapes = {f"x_{split}": _check_images(path, split, m) for split, m in images.items()}
        labels: dict[SplitName, NDArray[np.uint8]] = {
            split: read_labels(path, archive, split, member.header.shape[0])
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


def _check_images(path: Path, split: str, member: Member) -> tuple[int, ...]:
    """Return the shape of one image; DataError where they are none."""
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
    """Return the names given, or the labels; DataError where labels and names do not agree."""
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
