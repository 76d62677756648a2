"""What every reader of data files shares: the cap on sizes, and how damage is reported."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnistcli.errors import DataError

MAX_ARRAY_BYTES = 256 * 2**20
"""What one array, inflated, may have: five times the largest that is published."""

MAX_FILE_BYTES = 512 * 2**20
"""What one file or archive may have on disk."""

_MAX_REASON = 200  # characters: libraries quote whatever stands in a damaged file


def damaged(path: Path, what: str) -> DataError:
    """The error for a file whose contents are not what its name promises.

    Args:
        path: the file; it is named, never deleted.
        what: the mistake, a phrase without a full stop.
    """
    hint = "replace it by a sound copy, or move it away to have the data downloaded again"
    return DataError(str(path), what, hint)


def incomplete(path: Path, title: str) -> DataError:
    """The error for a file that is missing from a set of files that is there.

    Args:
        path: where it should be.
        title: the data set's.
    """
    return DataError(
        str(path),
        f"is missing beside the other files of {title}",
        "put it there, or move the others away to have the data downloaded again",
    )


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file or folder that the system will not let us read."""
    reason = error.strerror or str(error)
    return DataError(
        str(path),
        f"cannot be read: {reason}",
        "check the path and its permissions, or name another folder with --data-dir",
    )


@contextmanager
def reporting_damage(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """Turn what a decoder raises on broken bytes into the error that names the file.

    Args:
        path: the file being read.
        *damage: what the decoder raises; it may include kinds of OSError.

    Raises:
        DataError: the file is damaged, or the system cannot read it.
    """
    try:
        yield
    except damage as error:
        reason = (str(error) or type(error).__name__)[:_MAX_REASON]
        raise damaged(path, f"is damaged or incomplete ({reason})") from error
    except OSError as error:
        raise unreadable(path, error) from error


def check_file_size(path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
    """Refuse what is no regular file, or is larger than any data set, before it is opened.

    Raises:
        DataError: as said, or the system cannot tell.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise damaged(path, "is not a regular file")
    if status.st_size > max_bytes:
        raise damaged(path, f"has {status.st_size} bytes, more than the {max_bytes} allowed")


def read_file(path: Path, max_bytes: int) -> bytes:
    """All of a regular file that has at most `max_bytes`.

    Raises:
        DataError: the file is missing, unreadable or too large.
    """
    check_file_size(path, max_bytes)
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
