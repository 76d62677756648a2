"""Lock the checkpoints that a run writes, so that no other run writes the same files.

The lock is the kernel's, taken with filelock on a hidden file next to the checkpoint; it is
released when the process ends, however that happens. It is not taken on the checkpoint itself,
which every save replaces by another file, and which readers of HDF5 files lock too. A killed run
leaves the hidden file without its lock; the next run in that folder removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import socket
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from mnistcli.atomic_files import open_scratch_file
from mnistcli.errors import ResourceError
from mnistcli.signals import hold_signals

_LOG = logging.getLogger(__name__)
_SUFFIX = ".mnistcli-lock"
_MAX_NAME_BYTES = 255
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # a file system without locks
_TIMEOUT_S = 0.2  # another run may just be checking whether the lock is stale


class LockedError(ResourceError):
    """Another run is writing the file."""


class RunLock:
    """The locks that a run holds on its checkpoints, released when the context ends."""

    def __init__(self) -> None:
        self._held: dict[Path, FileLock] = {}
        self._has_warned = False

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for path, lock in self._held.items():
            with contextlib.suppress(OSError):
                path.unlink()  # before the release, after which another run may own the file
            lock.release()
        self._held.clear()

    def acquire(self, path: Path) -> None:
        """Lock a checkpoint, unless this run holds the lock already.

        On a file system without locks it succeeds, and protects nothing; a warning says so.

        Args:
            path: of the checkpoint, which need not exist; its folder must.

        Raises:
            LockedError: another run is writing the checkpoint.
            ResourceError: no file can be created in its folder.
        """
        target, lock_path = _find_lock(path)
        if lock_path in self._held:
            return
        try:
            _remove_stale_locks(target.parent, lock_path)
            with hold_signals():  # a signal in between would leave the file behind
                self._held[lock_path] = _lock(lock_path, _TIMEOUT_S)
                _write_owner(lock_path)
            self._warn_without_lock(lock_path)
        except Timeout:
            what = f"another run is writing it{_describe_owner(lock_path)}"
            hint = "wait for its end, or write to another file"
            raise LockedError(str(path), what, hint) from None
        except OSError as error:
            what = f"cannot be locked: {error.strerror or error}"
            raise ResourceError(str(path), what, "choose another place with -o") from error

    def _warn_without_lock(self, lock_path: Path) -> None:
        if not (self._held[lock_path].is_locked or self._has_warned):
            self._has_warned = True
            what = "its file system has no locks, so another run could write the same file"
            _LOG.warning("%s: %s", lock_path.parent, what)

    def holds(self, path: Path) -> bool:
        """Return whether this run has locked a checkpoint."""
        return _find_lock(path)[1] in self._held


def is_locked(path: Path) -> bool:
    """Return whether another process, or another `RunLock` of this process, locks a checkpoint.

    Args:
        path: of the checkpoint, which need not exist.
    """
    _, lock_path = _find_lock(path)
    if not lock_path.exists():
        return False
    try:
        _lock(lock_path, 0).release()
    except Timeout:
        return True
    return False


def _find_lock(path: Path) -> tuple[Path, Path]:
    """Return the file that a path leads to, and the file of its lock."""
    target = Path(os.path.realpath(path))
    return target, target.with_name(_name_lock(target.name))


def _name_lock(name: str) -> str:
    """Return the name of a checkpoint's lock, different for each checkpoint of a folder."""
    lock = f".{name}{_SUFFIX}"
    if len(os.fsencode(lock)) <= _MAX_NAME_BYTES:
        return lock
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}{_SUFFIX}"


def _lock(path: Path, timeout_s: float) -> FileLock:
    """Return the lock, acquired; Timeout if another process holds it."""
    os.close(open_scratch_file(path))  # filelock would lock another file's second name
    lock = FileLock(
        path, timeout_s, poll_interval=_TIMEOUT_S / 4, fallback_to_soft=False, is_singleton=False
    )
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    return lock


def _write_owner(path: Path) -> None:
    """Write this process into the file of a lock that it holds."""
    with os.fdopen(open_scratch_file(path), "w", encoding="utf-8") as file:
        file.truncate()
        file.write(f"{os.getpid()} {socket.gethostname()}\n")


def _describe_owner(path: Path) -> str:
    """Return the process that holds a lock as a text; empty if it is not known."""
    try:
        with os.fdopen(
            open_scratch_file(path, os.O_RDONLY), encoding="utf-8", errors="replace"
        ) as f:
            text = f.read(_MAX_NAME_BYTES)
    except OSError:
        return ""
    owner = re.fullmatch(r"(\d+) ([\w.-]+)\n", text)
    if owner is None:
        return ""
    number, host = owner.groups()
    return f" (process {number})" if host == socket.gethostname() else f" ({number} on {host})"


def _remove_stale_locks(directory: Path, own: Path) -> None:
    """Remove the locks of runs that were killed, but `own`, which is about to be acquired."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.path for entry in entries if entry.name.endswith(_SUFFIX)]
    except PermissionError:  # a folder may be writable and not listable
        return
    for name in names:
        if Path(name) != own and Path(name).name.startswith("."):
            with contextlib.suppress(OSError):  # in use, gone, or another user's
                lock = _lock(Path(name), 0)
                Path(name).unlink()
                lock.release()
