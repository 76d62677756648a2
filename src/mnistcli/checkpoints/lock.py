"""Two runs never write the same file: each locks its own, and a lock ends with its process.

The lock is the kernel's, taken by filelock on a hidden file beside the checkpoint. It cannot be on
the checkpoint: that is another file after every save, and readers of HDF5 files lock it themselves.
What a killed run leaves behind is the hidden file without its lock; the next run in that folder
removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from mnistcli.errors import ResourceError

_SUFFIX = ".mnistcli-lock"
_MAX_NAME_BYTES = 255
_LOCKLESS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # a file system without locks
_PATIENCE_S = 0.2  # another run may be looking whether a lock was left behind


class LockedError(ResourceError):
    """Another run is writing the file."""


class RunLock:
    """The files that this run alone may write, while it is open."""

    def __init__(self) -> None:
        self._held: dict[Path, FileLock] = {}

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
                path.unlink()  # before the lock is let go of: nobody else's file has this name
            lock.release()
        self._held.clear()

    def take(self, path: Path) -> None:
        """Keep other runs off a checkpoint; a file system without locks keeps nobody off.

        Args:
            path: of the checkpoint, which need not exist; its folder does.

        Raises:
            LockedError: another run is writing it.
            ResourceError: its folder takes no files.
        """
        target, lock_path = _find_lock(path)
        if lock_path in self._held:
            return
        try:
            _remove_left_behind(target.parent, lock_path)
            self._held[lock_path] = _lock(lock_path, _PATIENCE_S)
            lock_path.write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf-8")
        except Timeout:
            if not lock_path.exists():  # filelock waits where nothing can be made, as in /proc
                what, hint = "its folder takes no files", "choose another place with -o"
                raise ResourceError(str(path), what, hint) from None
            what = f"another run is writing it{_describe_owner(lock_path)}"
            hint = "wait for its end, or write to another file"
            raise LockedError(str(path), what, hint) from None
        except OSError as error:
            what = f"its folder takes no files: {error.strerror or error}"
            raise ResourceError(str(path), what, "choose another place with -o") from error

    def holds(self, path: Path) -> bool:
        """Tell whether the checkpoint is ours to write."""
        return _find_lock(path)[1] in self._held


def is_locked(path: Path) -> bool:
    """Tell whether another process, or another `RunLock` of this one, keeps runs off a checkpoint.

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
    """Return the file that a path leads to, and that of its lock."""
    target = Path(os.path.realpath(path))
    return target, target.with_name(_name_lock(target.name))


def _name_lock(name: str) -> str:
    """Name a checkpoint's lock; two checkpoints of one folder never have the same."""
    lock = f".{name}{_SUFFIX}"
    if len(os.fsencode(lock)) <= _MAX_NAME_BYTES:
        return lock
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}{_SUFFIX}"


def _lock(path: Path, timeout_s: float) -> FileLock:
    """Return a lock's file, locked; Timeout where another process has it."""
    lock = FileLock(
        path, timeout_s, poll_interval=_PATIENCE_S / 4, fallback_to_soft=False, is_singleton=False
    )
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _LOCKLESS:
            raise
    return lock


def _describe_owner(path: Path) -> str:
    """Say which process has a lock; nothing where it has not said so yet, or is gone by now."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    owner = re.fullmatch(r"(\d+) ([\w.-]+)\n", text)
    if owner is None:
        return ""
    number, host = owner.groups()
    return f" (process {number})" if host == socket.gethostname() else f" ({number} on {host})"


def _remove_left_behind(directory: Path, own: Path) -> None:
    """Remove the locks of runs that were killed; our own is taken over instead."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.path for entry in entries if entry.name.endswith(_SUFFIX)]
    except PermissionError:  # one may write into a folder without being allowed to list it
        return
    for name in names:
        if Path(name) != own and Path(name).name.startswith("."):
            with contextlib.suppress(OSError):  # in use, gone, or someone else's
                lock = _lock(Path(name), 0)
                Path(name).unlink()
                lock.release()
