"""Writes files atomically: a path holds either its old or its complete new contents.

The contents are written to a temporary file next to the target, synced, read back, compared, and
then renamed. The temporary file is locked for as long as its process lives, which is how the next
writer finds those that killed processes left behind. Process ids would not tell: they are used
again, and differ between containers.

`check_output` and `write_output` do this for a file that the user named with `--output`.

`open_scratch_file` opens files that have a name of our choosing: locks, parts of downloads, and
whatever else another user of a shared folder could foresee and put a link at. `open_named_file`
opens a config or a log, where a FIFO would be waited for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shlex
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from mnistcli.errors import ResourceError, UsageError
from mnistcli.file_kinds import explain_odd_name
from mnistcli.signals import hold_signals

_READ_BYTES = 1 << 20
_NOT_REGULAR = "is not a regular file, which alone is replaced"
_OWN_STREAMS = ("/dev/fd/", "/dev/std", "/proc/self/fd/")


def replace_file(path: Path, chunks: Sequence[bytes]) -> None:
    """Write a file, in place of an existing one if there is one.

    Args:
        path: its folder exists; a symbolic link is replaced, not followed.
        chunks: the contents, in order.

    Raises:
        OSError: it could not be written, or what is there is no regular file; it is unchanged.
    """
    if _is_special(path):
        raise OSError(errno.EINVAL, _NOT_REGULAR, str(path))
    with _write_temporary(path, chunks) as temporary:
        temporary.replace(path)


def create_file(path: Path, chunks: Sequence[bytes]) -> None:
    """Write a file where none exists.

    Args:
        path: its folder exists.
        chunks: the contents, in order.

    Raises:
        FileExistsError: it exists, or another process made it meanwhile.
        OSError: it could not be written.
    """
    with _write_temporary(path, chunks) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _create_by_rename(path, temporary)


def open_scratch_file(path: Path, flags: int = os.O_RDWR | os.O_CREAT, mode: int = 0o666) -> int:
    """Open a file of our own, never what a link at its name leads to; return the descriptor.

    A file of the folder's owner will do as well: they can replace all that is in it anyhow, and
    some file systems give every file the same owner.

    Args:
        path: of the file.
        flags: as of `os.open`. Truncate what was opened, not what is to be.
        mode: of a new file.

    Raises:
        OSError: it is a link, has several names, is no regular file, or belongs to someone else; or
            the system does not open it.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, mode)
    except OSError as error:
        if path.is_symlink():
            raise _refuse_scratch_file(path, "is a link; remove it") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _refuse_scratch_file(path, "is no regular file; remove it")
        if status.st_nlink > 1:
            raise _refuse_scratch_file(path, "is a hard link to another file; remove it")
        if status.st_uid not in (os.geteuid(), path.parent.stat().st_uid):
            raise _refuse_scratch_file(path, "belongs to another user")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_named_file(path: Path, flags: int) -> int:
    """Open a file that the user named, but nothing that could be waited for; return the descriptor.

    What the shell has opened for this process is waited for, as elsewhere: `<(command)`,
    /dev/stdin.

    Args:
        path: of the file.
        flags: as of `os.open`.

    Raises:
        OSError: it is neither a regular file nor a device like /dev/null; or the system does not
            open it.
    """
    if str(path).startswith(_OWN_STREAMS):
        return os.open(path, flags)
    refusal = OSError(errno.EINVAL, "it is no regular file", str(path))
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a FIFO that nobody reads, a socket
            raise refusal from error
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISCHR(mode):
        return descriptor
    os.close(descriptor)
    raise IsADirectoryError(errno.EISDIR, "it is a folder") if stat.S_ISDIR(mode) else refusal


@contextlib.contextmanager
def open_temporary(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a temporary file next to a target; the caller syncs it and gives it its final name.

    Args:
        target: names the file; its folder exists. Temporary files of the same target that killed
            processes left behind are removed.

    Yields:
        The file, opened for writing, and its path. It is removed at the end unless renamed.
    """
    _remove_stale_files(target)
    descriptor, temporary = _open_temporary(target)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, _choose_mode(target))
            yield stream, temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_output(path: Path, content: bytes, title: str, *, overwrite: bool) -> None:
    """Write the file that a command was asked for; a symbolic link is followed.

    Args:
        path: checked by `check_output`.
        content: the whole of it.
        title: what it is called where it cannot be written: `the report`.
        overwrite: replace an existing file.

    Raises:
        UsageError: there is such a file, or it was made meanwhile.
        ResourceError: it could not be written.
    """
    try:
        if overwrite:
            replace_file(Path(os.path.realpath(path)), [content])
        else:
            create_file(path, [content])
    except FileExistsError:
        raise make_file_exists_error(path) from None
    except OSError as error:
        raise explain_write_error(path, title, error) from error


def explain_write_error(path: Path, title: str, error: OSError) -> ResourceError:
    """Return the error about a file that could not be written: why, and the way out of just that.

    Args:
        path: of the file.
        title: what it is called: `the checkpoint`.
        error: the system's.
    """
    folder, elsewhere = shlex.quote(str(path.parent)), "choose another place with -o"
    reason, hint = error.strerror or str(error), f"see whether the disk is sound, or {elsewhere}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"free some space, or {elsewhere}"
    elif error.errno == errno.EROFS:
        hint = elsewhere
    elif error.errno in (errno.EACCES, errno.EPERM):
        hint = f"make {folder} writable, or {elsewhere}"
    elif error.errno == errno.EFBIG:
        hint = "raise the limit on the size of files (ulimit -f)"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        hint = "raise the limit on open files (ulimit -n)"
    elif not path.parent.is_dir():
        reason, hint = "its folder is gone", f"make it: mkdir -p {folder}, or {elsewhere}"
    return ResourceError(str(path), f"{title} could not be written: {reason}", hint)


def check_output(
    path: Path,
    example: str,
    suffixes: Sequence[str],
    *,
    aliases: Sequence[str] = (),
    overwrite: bool,
) -> None:
    """Check the path of a command's output before anything is computed.

    Args:
        path: from `--output`.
        example: a name that would do: `picture.png`.
        suffixes: endings that are accepted.
        aliases: further ones, of which the message says nothing.
        overwrite: whether the file may exist.

    Raises:
        UsageError: the name has another ending, is a folder, or exists and may not be replaced.
        ResourceError: its folder does not exist or is not writable.
    """
    if path.is_dir():
        hint = f"write -o {shlex.quote(str(path / example))}"
        raise UsageError("--output", f"{path} is a folder", hint)
    if path.suffix.lower() not in (*suffixes, *aliases):
        stem = path.with_name(path.stem or Path(example).stem)
        hint = f"write -o {shlex.quote(str(stem))}{suffixes[0]}"
        raise UsageError("--output", f"{path} does not end in {' or '.join(suffixes)}", hint)
    check_directory(path.parent)
    check_replaceable(path, overwrite=overwrite)


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Check that an output's path is free, or that of a regular file that may be replaced.

    Raises:
        UsageError: there is a file, or something that is never replaced: a pipe or a device.
    """
    if _is_special(path):
        raise UsageError("--output", f"{path} {_NOT_REGULAR}", "choose another name")
    if path.exists() and not overwrite:
        raise make_file_exists_error(path)


def check_directory(directory: Path) -> None:
    """Check that files can be made in a folder; ResourceError where not."""
    try:
        Path.cwd()  # a deleted folder still looks like one from inside
    except OSError:
        hint = "go to one that exists, cd ~ for example"
        what = "it was deleted or cannot be reached"
        raise ResourceError("working directory", what, hint) from None
    if directory.is_file():
        hint = "choose another place with -o"
        raise ResourceError(str(directory), "this is a file, not a folder", hint)
    if not directory.is_dir():
        what = "this folder does not exist"
        hint = f"make it: mkdir -p {shlex.quote(str(directory))}"
        if odd := explain_odd_name(str(directory), "choose a folder of this machine"):
            what, hint = f"{what}: {odd[0]}", odd[1]
        raise ResourceError(str(directory), what, hint)
    if not os.access(directory, os.W_OK | os.X_OK):
        where = str(directory.absolute())
        raise ResourceError(where, "this folder is not writable", "choose another place with -o")


def make_file_exists_error(path: Path) -> UsageError:
    """Return the error that protects a file that exists."""
    return UsageError("--output", f"{path} exists", "choose another name, or give --overwrite")


def _is_special(path: Path) -> bool:
    """Return whether a path leads to a folder, a pipe or a device."""
    return path.exists() and not path.is_file()


def _refuse_scratch_file(path: Path, why: str) -> PermissionError:
    return PermissionError(errno.EPERM, f"{path.name} {why}", str(path))


@contextlib.contextmanager
def _write_temporary(target: Path, chunks: Sequence[bytes]) -> Iterator[Path]:
    """Write, sync and verify a temporary file next to the target; signals wait until the end."""
    with hold_signals():
        with open_temporary(target) as (stream, temporary):
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
            if not _has_contents(temporary, chunks):
                raise OSError("what was read back differs from what was written")
            yield temporary
        _sync_directory(target.parent)


def _create_by_rename(path: Path, temporary: Path) -> None:
    """Create an empty file, which fails if there is one, and put the complete one in its place."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        temporary.replace(path)
    except OSError:
        path.unlink()
        raise


def _has_contents(path: Path, chunks: Sequence[bytes]) -> bool:
    """Compare a file with what was written, a megabyte at a time to save memory."""
    with path.open("rb") as stream:
        for chunk in chunks:
            for start in range(0, len(chunk), _READ_BYTES):
                expected = chunk[start : start + _READ_BYTES]
                if stream.read(len(expected)) != expected:
                    return False
        return stream.read(1) == b""


def _prefix(target: Path) -> str:
    """Return how the names of a target's temporary files begin; names end at 255 bytes."""
    return f".{target.name[:40]}.mnistcli-"


def _open_temporary(target: Path) -> tuple[int, Path]:
    """Make a temporary file and lock it; the lock ends with the process.

    The lock is shared, as those of HDF5's readers are, so that it does not keep them out.
    """
    while True:
        descriptor, name = tempfile.mkstemp(".tmp", _prefix(target), target.parent)
        with contextlib.suppress(OSError):  # a file system without locks: nothing is removed there
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink > 0:
            return descriptor, Path(name)
        os.close(descriptor)  # another writer removed it as left behind before it was locked


def _remove_stale_files(target: Path) -> None:
    """Remove the target's temporary files whose writers were killed."""
    pattern = re.compile(re.escape(_prefix(target)) + r"[a-z0-9_]{8}\.tmp")
    try:
        with os.scandir(target.parent) as entries:
            names = [entry.path for entry in entries if pattern.fullmatch(entry.name)]
    except PermissionError:  # a folder can be writable without being readable
        return
    for name in names:
        with contextlib.suppress(OSError):  # removed already, in use, or another user's
            descriptor = open_scratch_file(Path(name), os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(name).unlink()
            finally:
                os.close(descriptor)


def _choose_mode(target: Path) -> int:
    """Return the permissions of the file that is replaced; for a new file, those of the umask."""
    try:
        return stat.S_IMODE(target.stat().st_mode) & 0o777
    except FileNotFoundError:
        umask = os.umask(0o077)  # it can only be read by setting it
        os.umask(umask)
        return 0o666 & ~umask


def _sync_directory(directory: Path) -> None:
    """Sync a directory, where that is possible: a new name then survives a power cut."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except PermissionError:  # a folder can be writable without being readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
