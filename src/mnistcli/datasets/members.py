"""An array in an .npz archive: found and measured before anything of it is read."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.config.schema import MAX_LABELS
from mnistcli.datasets.npz import ZIP_DAMAGE
from mnistcli.errors import DataError, make_printable
from mnistcli.images.npy import Header, read_header

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
        raise damaged(path, f"{name} claims {declared} bytes and has {info.file_size}")
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
            raise damaged(path, f"{name} has another length than the archive says")
    labels = member.header.make_array(contents).reshape(count)
    if labels.min() < 0 or labels.max() >= MAX_LABELS:
        wrong = labels[(labels < 0) | (labels >= MAX_LABELS)][0]
        what = f"{name} holds the label {wrong}; classes are 0 to at most {MAX_LABELS - 1}"
        raise DataError(str(path), what, _LABELS_HINT)
    return labels.astype(np.uint8)


def damaged(path: Path, what: str) -> DataError:
    """Return the error for an archive that is not whole, which is named and never deleted."""
    return DataError(str(path), what, _SOUND_HINT)


@contextmanager
def reporting_damage(path: Path) -> Iterator[None]:
    """Turn what zipfile raises on broken bytes into the error that names the file; DataError."""
    try:
        yield
    except ZIP_DAMAGE as error:
        reason = make_printable(str(error) or type(error).__name__)
        raise damaged(path, f"is damaged or no .npz file ({reason})") from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise DataError(str(path), what, "check the path and its permissions") from error
