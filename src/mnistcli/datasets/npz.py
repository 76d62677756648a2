"""NumPy's .npz archives: named arrays of a published data set, or custom images with labels.

Archives are read without `numpy.load`: headers are checked against the archive's own sizes before
anything is decompressed, and nothing in a file is ever evaluated. Custom images that are stored
without compression stay in the file; compressed ones are unpacked into the cache.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
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
    ARRAY_NAMES,
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
from mnistcli.errors import DataError, make_printable, pluralize
from mnistcli.file_kinds import explain_wrong_kind, read_head
from mnistcli.images.arrays import (
    Header,
    Shape,
    arrange_images,
    make_python_command,
    read_header,
    scale_to_bytes,
)

# What zipfile and zlib raise on broken bytes; RuntimeError: encrypted members.
_ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, IndexError, OverflowError,
)  # fmt: skip
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_SPLITS: tuple[SplitName, SplitName] = ("train", "test")
_IMAGES, _LABELS = ("x_train", "x_test"), ("y_train", "y_test")
_ARRAYS_HINT = "write it with numpy.savez(file, x_train=…, y_train=…, x_test=…, y_test=…)"
_AXES_HINT = "images are (count, height, width), in colour (count, height, width, 3)"
_RANGE_HINT = "images are whole numbers from 0 to 255, of dtype uint8"
_LABELS_HINT = "labels are whole numbers from 0, one for each image"
_OBJECTS_HINT = "where it is made, save numpy.array(values.tolist()), of numbers or texts"
_MAX_MEMBERS = 1000  # arrays of an archive that are looked at
_MAX_SHOWN = 10
_MAX_NAME_LENGTH = 100
_MIN_PIXELS = 64  # in a row of flat images; fewer are a one-hot vector
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
        warnings: none.
    """

    path: Path
    images: dict[SplitName, ArrayMember]
    labels: dict[SplitName, NDArray[np.uint8]]
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    held_out: float = 0.0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

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
    """Read some arrays of numbers or texts, all at the same time.

    Args:
        path: the archive.
        names: of the arrays, `x_train` for example.

    Returns:
        The arrays by name, C-contiguous, perhaps read-only.

    Raises:
        DataError: an array is missing, too large or of Python objects; the file is damaged, not a
            zip archive, or cannot be read.
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
        members = _list_members(path, archive)
        if not members and (kind := explain_wrong_kind(read_head(path), "data", str(path))):
            raise DataError(str(path), *kind)
        if any(name not in members for name in ARRAY_NAMES):
            raise _make_names_error(path, members)
        labels = {split: _read_labels(path, archive, split, members) for split in _SPLITS}
        shapes = {split: _check_axes(path, split, members) for split in _SPLITS}
        _check_types(path, archive, members)
    if shapes["train"] != shapes["test"]:
        raise _make_size_error(path, shapes)
    if config.size is not None and config.size != shapes["train"]:
        what = f"its images are {shapes['train']}, dataset.size is {config.size}"
        raise DataError(str(path), what, "images of an .npz file are taken as they are")
    names = _name_classes(path, config, labels)
    absent = set(range(len(names))) - set(np.unique(labels["test"]).tolist())
    untested = ", ".join(names[label] for label in sorted(absent)[:10])
    notes = (f"no test images of {untested}",) if absent else ()
    images: dict[SplitName, ArrayMember] = {split: members[f"x_{split}"] for split in _SPLITS}
    return ImageArchive(path, images, labels, names, shapes["train"], notes=notes)


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


def _list_members(path: Path, archive: zipfile.ZipFile) -> dict[str, ArrayMember]:
    """Read the header of each array in an archive, and check it against the archive's.

    Raises:
        DataError: an array holds Python objects, or is damaged.
    """
    members: dict[str, ArrayMember] = {}
    for info in archive.infolist()[:_MAX_MEMBERS]:
        name = info.filename.removesuffix(".npy")
        if name == info.filename or not name.isprintable() or len(name) > _MAX_NAME_LENGTH:
            continue
        is_packed = info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if is_packed or info.flag_bits & 1:
            if name in ARRAY_NAMES:
                what = f"{name} is encrypted, or compressed in a way that NumPy does not write"
                raise DataError(str(path), what, _ARRAYS_HINT)
            continue
        with archive.open(info) as stream:
            try:
                header = read_header(stream)
            except ValueError as error:
                if name not in ARRAY_NAMES:
                    continue
                what = make_printable(f"{name} {error}")
                hint = _AXES_HINT if name in _IMAGES else _LABELS_HINT
                hint = _OBJECTS_HINT if "objects" in what else hint
                raise DataError(str(path), what, hint) from None
        declared = header.header_bytes + header.array_bytes
        if declared != info.file_size:
            what = f"{name} claims {declared} bytes and has {info.file_size}"
            raise _make_archive_error(path, what)
        members[name] = ArrayMember(info, header)
    return members


def _read_labels(
    path: Path, archive: zipfile.ZipFile, split: str, members: dict[str, ArrayMember]
) -> NDArray[np.uint8]:
    """Read labels of any integer dtype, one for each image: uint8 [count].

    Raises:
        DataError: they have another type, shape or range, or are damaged.
    """
    name, images = f"y_{split}", members[f"x_{split}"].header
    header = members[name].header
    shape, count = header.shape, math.prod(header.shape[:1])
    if count == 0:
        raise DataError(str(path), f"{name} is empty", _LABELS_HINT)
    if len(shape) == 2 and shape[1] > 1 and header.dtype.kind not in "US":
        what = f"{name} has shape {shape}: a vector of {shape[1]} numbers for each image"
        sums = _read_values(path, archive, members[name], name).reshape(shape).sum(axis=1)
        if not np.allclose(sums, 1):
            raise DataError(str(path), f"{what}, some of several classes", _LABELS_HINT)
        raise DataError(str(path), what, _suggest_arrays(path, "d[k].argmax(1)", *_LABELS))
    if shape not in ((count,), (count, 1)) or count not in images.shape:
        what = f"{name} has shape {shape}, x_{split} {images.shape}"
        raise DataError(str(path), what, _LABELS_HINT)
    labels = _read_values(path, archive, members[name], name).reshape(count)
    if labels.dtype.kind not in "iu":
        held = "texts" if labels.dtype.kind in "US" else labels.dtype
        what = f"{name} holds {held}, not whole numbers"
        raise DataError(str(path), what, _suggest_numbers(path, labels))
    if labels.min() < 0 or labels.max() >= MAX_LABELS:
        wrong = labels[(labels < 0) | (labels >= MAX_LABELS)][0]
        what = f"{name} holds the label {wrong}; classes are 0 to at most {MAX_LABELS - 1}"
        raise DataError(str(path), what, _suggest_numbers(path, labels))
    return labels.astype(np.uint8)


def _read_values(
    path: Path, archive: zipfile.ZipFile, member: ArrayMember, name: str
) -> NDArray[Any]:
    if member.header.array_bytes > MAX_ARRAY_BYTES:
        what = f"{name} claims {member.header.array_bytes} bytes, too many for labels"
        raise DataError(str(path), what, _LABELS_HINT)
    with archive.open(member.info) as stream:
        stream.read(member.header.header_bytes)
        contents = stream.read(member.header.array_bytes)
        if len(contents) != member.header.array_bytes or stream.read(1):
            raise _make_archive_error(path, f"{name} has another length than the archive says")
    return member.header.make_array(contents)


def _make_archive_error(path: Path, what: str) -> DataError:
    """Return the error for a damaged archive of custom images, which is never deleted."""
    return DataError(str(path), what, _SOUND_HINT)


@contextmanager
def _translate_archive_errors(path: Path) -> Iterator[None]:
    """Turn the exceptions of zipfile into DataErrors that name the file."""
    try:
        yield
    except _ZIP_DAMAGE as error:
        head = read_head(path)
        if kind := explain_wrong_kind(head, "data", str(path)):
            raise DataError(str(path), *kind) from error
        if not head:
            raise _make_archive_error(path, "the file is empty") from error
        reason = make_printable(str(error) or type(error).__name__)
        raise _make_archive_error(path, f"is damaged or no .npz file ({reason})") from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise DataError(str(path), what, "check the path and its permissions") from error


def _check_axes(path: Path, split: str, members: dict[str, ArrayMember]) -> Shape:
    """Return the shape of one image; DataError where the array's axes are not those of images."""
    name, count = f"x_{split}", members[f"y_{split}"].header.shape[0]
    header = members[name].header
    shape = header.shape[:3] if header.shape[3:] == (1,) else header.shape
    if shape[0] == count and 0 not in shape and shape[3:] in ((), (3,)) and len(shape) > 2:
        if header.is_fortran_order:
            what = f"{name} is stored column by column"
            raise DataError(
                str(path), what, _suggest_arrays(path, "np.ascontiguousarray(d[k])", *_IMAGES)
            )
        return shape[1:]
    what = f"{name} has shape {header.shape}"
    expression = arrange_images("d[k]", header.shape, count)
    hint = _AXES_HINT if expression is None else _suggest_arrays(path, expression, *_IMAGES)
    raise DataError(str(path), what, hint)


def _check_types(path: Path, archive: zipfile.ZipFile, members: dict[str, ArrayMember]) -> None:
    """Raise a DataError with the range of its numbers where an image array is not of bytes."""
    others = [name for name in _IMAGES if members[name].header.dtype != np.uint8]
    if not others:
        return
    dtype = members[others[0]].header.dtype
    if dtype.kind in "US":
        raise DataError(str(path), f"{others[0]} holds texts, not images", _ARRAYS_HINT)
    ranges = [_find_range(archive, members[name]) for name in others]
    lowest, highest = min(low for low, _ in ranges), max(high for _, high in ranges)
    what = f"{others[0]} holds {dtype} from {lowest:g} to {highest:g}, not uint8 from 0 to 255"
    expression = scale_to_bytes("d[k]", lowest, highest)
    hint = _RANGE_HINT if expression is None else _suggest_arrays(path, expression, *others)
    raise DataError(str(path), what, hint)


def _find_range(archive: zipfile.ZipFile, member: ArrayMember) -> tuple[float, float]:
    """Return the smallest and the largest number of an array; nan where it holds one."""
    lowest, highest, dtype = math.inf, -math.inf, member.header.dtype
    with archive.open(member.info) as stream:
        stream.read(member.header.header_bytes)
        while chunk := stream.read(CHUNK_BYTES):
            values = np.frombuffer(chunk[: len(chunk) // dtype.itemsize * dtype.itemsize], dtype)
            lowest = float(np.minimum(lowest, values.min()))
            highest = float(np.maximum(highest, values.max()))
    return lowest, highest


def _make_size_error(path: Path, shapes: dict[SplitName, Shape]) -> DataError:
    """Return the error for two sizes of images, with the command that resizes the test images."""
    train, test = shapes["train"], shapes["test"]
    what = f"images of x_train are {train}, of x_test {test}"
    if len(train) != len(test):
        return DataError(str(path), what, "both have to be of one size")
    statements = (
        'from PIL import Image; d["x_test"] = np.stack([np.asarray(Image.fromarray(i)'
        f'.resize(({train[1]}, {train[0]}))) for i in d["x_test"]])'
    )
    return DataError(str(path), what, _suggest(path, statements))


def _make_names_error(path: Path, members: dict[str, ArrayMember]) -> DataError:
    """Return the error for missing arrays, with the command that renames or splits them."""
    missing = next(name for name in ARRAY_NAMES if name not in members)
    found = {name: member.header.shape for name, member in members.items() if member.header.shape}
    shown = ", ".join(f"{name} {shape}" for name, shape in list(found.items())[:_MAX_SHOWN])
    what = f"holds no array {missing}" + (f", but {shown}" if found else "")
    pairs = _pair_arrays(found)
    if len(pairs) == 2:
        names = [name for pair in pairs for name in pair]
        renamed = ", ".join(
            f"{new}=d[{json.dumps(old)}]" for new, old in zip(ARRAY_NAMES, names, strict=True)
        )
        return DataError(str(path), what, _suggest(path, f"d = dict({renamed})"))
    if len(pairs) == 1:
        [(x, y)] = pairs
        statements = (
            f"x, y = d[{json.dumps(x)}], d[{json.dumps(y)}];"
            " r = np.random.default_rng(0).permutation(len(y));"
            " n = len(y) // 5; d = dict(x_train=x[r[n:]], y_train=y[r[n:]], x_test=x[r[:n]],"
            " y_test=y[r[:n]])"
        )
        return DataError(
            str(path), what, _suggest(path, statements, "hold out a fifth for testing")
        )
    return DataError(str(path), what, _ARRAYS_HINT)


def _pair_arrays(found: dict[str, Shape]) -> list[tuple[str, str]]:
    """Return the names of images and of their labels, those for training first.

    Arrays belong together by their lengths, and by what their names say of splits.
    """
    images = [n for n, s in found.items() if len(s) > 2 or (len(s) == 2 and s[1] >= _MIN_PIXELS)]
    labels = [name for name in found if name not in images]
    pairs = []
    for x in sorted(images, key=lambda name: _get_part(name) == "test"):
        fits = [y for y in labels if found[y][0] == found[x][0] and _get_part(y) == _get_part(x)]
        if fits and _get_part(x) != "val":
            pairs.append((x, fits[0]))
            labels.remove(fits[0])
    return pairs


def _get_part(name: str) -> str:
    """Return which split an array belongs to by its name; nothing where that does not tell."""
    return next((part for part in ("val", "train", "test") if part in name.lower()), "")


def _suggest(path: Path, statements: str, purpose: str = "mend a copy") -> str:
    """Return the hint to make another archive from the arrays d of one."""
    mended = path.with_name(f"{path.stem}-mended.npz")
    code = f"d = dict(np.load({{path}})); {statements}; np.savez({{mended}}, **d)"
    command = make_python_command(code, path=path, mended=mended)
    return f"{purpose} and give {mended.name}: {command}"


def _suggest_arrays(path: Path, expression: str, *names: str) -> str:
    """Return the hint to replace each of some arrays d[k] by an expression."""
    return _suggest(path, f"d |= {{k: {expression} for k in {json.dumps(names)}}}")


def _suggest_numbers(path: Path, labels: NDArray[Any]) -> str:
    """Return the hint to number the classes from 0, in the order of their numbers or names."""
    classes = np.unique(labels)
    is_measured = labels.dtype.kind == "f" and not np.array_equal(classes, np.round(classes))
    if is_measured or len(classes) > MAX_LABELS:
        return f"labels tell 2 to {MAX_LABELS} classes apart, by whole numbers from 0"
    statements = (
        'c = np.unique(np.append(d["y_train"], d["y_test"]));'
        f" d |= {{k: np.searchsorted(c, d[k]) for k in {json.dumps(_LABELS)}}}"
    )
    purpose, names = "mend a copy", classes.astype(str).tolist()
    are_short = len(names) <= _MAX_SHOWN and max(map(len, names)) <= _MAX_NAME_LENGTH
    if labels.dtype.kind in "US" and are_short and all(map(str.isprintable, names)):
        setting = f"dataset.classes={json.dumps(names, ensure_ascii=False)}"
        purpose += f", add --set {shlex.quote(setting)}"
    return _suggest(path, statements, purpose)


def _name_classes(
    path: Path, config: FilesConfig, labels: dict[SplitName, NDArray[np.uint8]]
) -> tuple[str, ...]:
    """Return the class names of the config, or the labels; DataError where they do not fit."""
    learned, tested = (set(np.unique(labels[split]).tolist()) for split in _SPLITS)
    if len(learned) < 2:
        raise DataError(str(path), "y_train has one class alone", "two can be told apart")
    names = config.classes or tuple(str(label) for label in range(max(learned | tested) + 1))
    if max(learned | tested) >= len(names):
        count = max(learned | tested) + 1
        what = f"there are {pluralize(count, 'class')}, and dataset.classes names {len(names)}"
        raise DataError(str(path), what, "name them all")
    if tested - learned:
        what = (
            f"y_train has no example of the class {names[min(tested - learned)]}, which y_test has"
        )
        statements = (
            'm = np.isin(d["y_test"], d["y_train"]);'
            ' d |= {k: d[k][m] for k in ["x_test", "y_test"]}'
        )
        hint = _suggest(path, statements, "leave it out of a copy")
        raise DataError(str(path), what, hint)
    absent = next((label for label in range(len(names)) if label not in learned), None)
    if absent is not None:
        if config.classes:
            what = f"y_train has no example of the class {absent} ({names[absent]})"
            raise DataError(str(path), what, "name in dataset.classes the classes that there are")
        what = f"labels of y_train go from {min(learned)} to {max(learned)}, none is {absent}"
        raise DataError(str(path), what, _suggest_numbers(path, labels["train"]))
    return names
