"""A file that is not complete yet: locked, unbuffered, and blamed on the disk when it fails."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from mnistcli.errors import ResourceError

_LOCK_POLL_S = 0.2


class PartFile:
    """A file open for this process alone; closing it lets the next process in.

    Attributes:
        path: where it lies.
    """

    def __init__(self, path: Path, on_wait: Callable[[int], None]) -> None:
        """Open or create, and wait for the lock.

        Args:
            path: of the file.
            on_wait: hears of the file's size, several times a second, while another process
                has it.

        Raises:
            ResourceError: it cannot be created or locked.
        """
        self.path = path
        self._file = _open_locked(path, on_wait)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._file.fileno()).st_size

    def truncate(self, size: int) -> None:
        """Cut off what lies behind `size`, and go on writing there."""
        with reporting_disk(self.path):
            self._file.truncate(size)
            self._file.seek(size)

    def write(self, chunk: bytes) -> None:
        """Write all of it: an unbuffered file may take less than it is given."""
        view = memoryview(chunk)
        with reporting_disk(self.path):
            while view:
                view = view[self._file.write(view) :]

    def sha256(self) -> str:
        """Of the whole file, in hex."""
        with reporting_disk(self.path):
            self._file.seek(0)
            return hashlib.file_digest(self._file, "sha256").hexdigest()

    def rename(self, target: Path) -> None:
        """Put it in place, complete or not at all, even where the machine stops."""
        with reporting_disk(self.path):
            os.fsync(self._file.fileno())
            self.path.replace(target)

    def delete(self) -> None:
        """Remove it; who waits for it opens a new one."""
        with reporting_disk(self.path):
            self.path.unlink(missing_ok=True)


@contextmanager
def reporting_disk(path: Path) -> Iterator[None]:
    """Say what the disk refused, and where.

    Raises:
        ResourceError: in place of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(
            str(path),
            f"cannot be written: {error.strerror or error}",
            "free some space or mend the permissions, or name another folder with --data-dir",
        ) from error


def _open_locked(path: Path, on_wait: Callable[[int], None]) -> FileIO:
    """A file that was renamed or deleted while we waited for it is not the one."""
    while True:
        file = _open(path)
        try:
            while not _try_lock(path, file):
                on_wait(os.fstat(file.fileno()).st_size)
                time.sleep(_LOCK_POLL_S)
            if _is_at(path, file):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _open(path: Path) -> FileIO:
    """Created where it is missing, kept as it is where it is not: no mode of `open` does that."""
    with reporting_disk(path):
        return FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")


def _try_lock(path: Path, file: FileIO) -> bool:
    """Not waiting in the system call, so that the other process' progress can be shown."""
    with reporting_disk(path):
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _is_at(path: Path, file: FileIO) -> bool:
    """Compared by inode."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(file.fileno()))
