"""A file appears whole or not at all: its name holds the last good contents at every moment.

The contents are written to a temporary file beside the target, synced, read back and compared,
and only then given the name. The writer holds a lock on its temporary file, which ends with the
process however that ends; so the next writer knows which ones were left behind by a kill, where
process numbers would deceive it (they are used again, and differ in containers).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

_HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CHUNK_BYTES = 1 << 20


def replace_file(path: Path, pieces: Sequence[bytes]) -> None:
    """Write a file in the place of an older one, or where there is none.

    Args:
        path: its folder exists; a symbolic link would be replaced, not followed.
        pieces: the contents, one after the other.

    Raises:
        OSError: it could not be written; what was there before is untouched.
    """
    with _temporary_file(path, pieces) as temporary:
        temporary.replace(path)


def create_file(path: Path, pieces: Sequence[bytes]) -> None:
    """Write a file where there must be none yet.

    Args:
        path: its folder exists.
        pieces: the contents, one after the other.

    Raises:
        FileExistsError: there is one, or another process was first.
        OSError: it could not be written.
    """
    with _temporary_file(path, pieces) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _claim_name(path, temporary)


def _claim_name(path: Path, temporary: Path) -> None:
    """Take a new name with an empty file, then put the full one in its place."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        temporary.replace(path)
    except OSError:
        path.unlink()
        raise


@contextlib.contextmanager
def _temporary_file(target: Path, pieces: Sequence[bytes]) -> Iterator[Path]:
    """Offer the contents, synced and verified, as a file beside the target; signals wait."""
    with _hold_signals():
        _remove_left_behind(target)
        with _write_synced(target, pieces) as temporary:
            yield temporary
        _sync_directory(target.parent)


@contextlib.contextmanager
def _write_synced(target: Path, pieces: Sequence[bytes]) -> Iterator[Path]:
    """Write a new temporary file, wait for the disk, and read it back; remove it afterwards."""
    descriptor, temporary = _open_temporary(target)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, _choose_mode(target))
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(descriptor)
            if not _holds(temporary, pieces):
                raise OSError("what was read back differs from what was written")
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _holds(path: Path, pieces: Sequence[bytes]) -> bool:
    """Read a file back a little at a time: a copy of a large one would be one too many."""
    with path.open("rb") as stream:
        for piece in pieces:
            for start in range(0, len(piece), _CHUNK_BYTES):
                chunk = piece[start : start + _CHUNK_BYTES]
                if stream.read(len(chunk)) != chunk:
                    return False
        return stream.read(1) == b""


def _name_temporary(target: Path) -> str:
    """Return how names of temporary files begin, which have to stay within 255 bytes."""
    return f".{target.name[:40]}.mnistcli-"


def _open_temporary(target: Path) -> tuple[int, Path]:
    """Make a temporary file that is locked for as long as this process has it open.

    The lock is a shared one, as readers of HDF5 files take it: they are not kept out.
    """
    while True:
        descriptor, name = tempfile.mkstemp(".tmp", _name_temporary(target), target.parent)
        with contextlib.suppress(OSError):  # a file system without locks: nothing is removed there
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink > 0:
            return descriptor, Path(name)
        os.close(descriptor)  # another writer took it for left behind before it was locked


def _remove_left_behind(target: Path) -> None:
    """Remove the target's temporary files whose writers were killed."""
    pattern = re.compile(re.escape(_name_temporary(target)) + r"[a-z0-9_]{8}\.tmp")
    try:
        with os.scandir(target.parent) as entries:
            names = [entry.path for entry in entries if pattern.fullmatch(entry.name)]
    except PermissionError:  # one may write into a folder without being allowed to list it
        return
    for name in names:
        with contextlib.suppress(OSError):  # gone, or in use, or someone else's
            descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(name).unlink()
            finally:
                os.close(descriptor)


def _choose_mode(target: Path) -> int:
    """Keep the permissions of the file that is replaced; a new one gets what the umask leaves."""
    try:
        return stat.S_IMODE(target.stat().st_mode) & 0o777
    except FileNotFoundError:
        umask = os.umask(0o077)  # there is no way to read it but to set it
        os.umask(umask)
        return 0o666 & ~umask


def _sync_directory(directory: Path) -> None:
    """Make a new name last through a power cut, where directories can be synced."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except PermissionError:  # as above
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _hold_signals() -> Iterator[None]:
    """Keep signals waiting until the file has its name.

    Blocking them in this thread would not do: TensorFlow has others, which would get them.
    """
    received: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # others are never interrupted
        for number in _HELD_SIGNALS:
            before[number] = signal.signal(number, lambda got, _: received.append(got))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in received:
            signal.raise_signal(late)
