"""Download a file: from mirrors in turn, resumed after a break, verified, renamed into place.

A mirror that sends next to nothing is given up, so that every download ends.

The received part is `<name>.part` next to the target, locked by the process that downloads; another
process waits for it and then finds the file. Only contents with the expected sha256 get the
target's name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mnistcli import __version__
from mnistcli.atomic_files import open_scratch_file
from mnistcli.errors import DataError, ResourceError

if TYPE_CHECKING:
    from http.client import HTTPResponse

OnDownload = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes so far and in total (None where that is not known)."""

_TIMEOUT_S = 20.0
_PATIENCE_S = 30.0  # for an answer, and at any time before the next mirror is tried
_MIN_BYTES_PER_S = 10_000  # what has to arrive besides
_READ_AHEAD = 8  # chunks
_MAX_ATTEMPTS = 5
_CHUNK_BYTES = 256 * 1024
_LOCK_POLL_S = 0.2


@dataclass(frozen=True)
class RemoteFile:
    """A file as published.

    Attributes:
        name: of the file in the folder that it is downloaded to.
        urls: its mirrors, tried in turn.
        sha256: hex digest of its contents.
        max_bytes: a longer answer is refused.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    max_bytes: int


@dataclass(frozen=True)
class _Answer:
    """The headers of a mirror's answer; `length` in bytes is None where they do not tell it."""

    status: int
    content_range: str
    length: int | None


class _MirrorError(Exception):
    """A mirror does not provide the file; the message says why."""


class _InterruptedError(_MirrorError):
    """The transfer ended early; it can be resumed."""


def download_file(
    remote: RemoteFile, directory: Path, on_download: OnDownload, alternative: str = ""
) -> Path:
    """Download a file, or wait for another process that is downloading it.

    Args:
        remote: the file.
        directory: the folder to put it into; created if missing.
        on_download: called with the progress.
        alternative: what else the user can do, a phrase for the error's hint.

    Returns:
        The path of the complete, verified file.

    Raises:
        DataError: no mirror provides the file. The received part is kept for the next attempt,
            unless its sha256 is wrong.
        ResourceError: the folder cannot be written, or the disk is full.
    """
    target = directory / remote.name
    with translate_write_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with PartialFile(
        directory / f"{remote.name}.part", lambda size: on_download(remote.name, size, None)
    ) as part:
        if target.exists():  # the process that we waited for has done the work
            part.delete()
            return target
        try:
            _fetch(remote, part, on_download, alternative)
        finally:
            if part.size == 0:
                part.delete()
        part.rename(target)
    return target


class PartialFile:
    """A file under download, locked for this process until it is closed.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, on_wait: Callable[[int], None]) -> None:
        """Open or create the file, and wait for its lock.

        Args:
            path: of the file.
            on_wait: called with the file's size several times a second while another process
                holds the lock.

        Raises:
            ResourceError: it cannot be created or locked.
        """
        self.path = path
        self._file = _open_locked(path, on_wait)

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def size(self) -> int:
        """Number of bytes written so far."""
        return os.fstat(self._file.fileno()).st_size

    def truncate(self, size: int) -> None:
        """Truncate the file to `size` bytes, and continue writing there."""
        with translate_write_errors(self.path):
            self._file.truncate(size)
            self._file.seek(size)

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        view = memoryview(chunk)  # an unbuffered file may write fewer bytes than it is given
        with translate_write_errors(self.path):
            while view:
                view = view[self._file.write(view) :]

    def sha256(self) -> str:
        """Return the hex digest of the whole file."""
        with translate_write_errors(self.path):
            self._file.seek(0)
            return hashlib.file_digest(self._file, "sha256").hexdigest()

    def rename(self, target: Path) -> None:
        """Move the complete file to its target atomically, also in case of a power loss."""
        with translate_write_errors(self.path):
            os.fsync(self._file.fileno())
            self.path.replace(target)

    def delete(self) -> None:
        """Delete the file; a process that waits for its lock creates a new one."""
        with translate_write_errors(self.path):
            self.path.unlink(missing_ok=True)


@contextmanager
def translate_write_errors(path: Path) -> Iterator[None]:
    """Turn any OSError into a ResourceError that names the path."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            str(path),
            f"cannot be written: {error.strerror or error}",
            "free some space or mend the permissions, or name another folder with --data-dir",
        ) from error


def _fetch(
    remote: RemoteFile, part: PartialFile, on_download: OnDownload, alternative: str
) -> None:
    failures = []
    for url in remote.urls:
        try:
            # mirrors have the same bytes: one goes on where another broke off
            return _fetch_from(url, remote, part, on_download)
        except _MirrorError as error:
            failures.append((urlsplit(url).netloc, str(error)))
    kept = " (what has arrived is kept)" if part.size else ""
    hints = (
        f"check the network and try again{kept}",
        f"name the folder of your {remote.name} with --data-dir",
        alternative,
    )
    raise DataError(
        remote.name,
        f"not in {part.path.parent}, and cannot be downloaded{_describe_failures(failures)}",
        ", or ".join(hint for hint in hints if hint),
    )


def _describe_failures(failures: list[tuple[str, str]]) -> str:
    # without a network all mirrors fail alike, which is reported once
    reasons = {reason for _, reason in failures}
    if len(reasons) == 1:
        hosts = dict.fromkeys(host for host, _ in failures)
        return f" from {' or '.join(hosts)}: {reasons.pop()}"
    return f": {'; '.join(f'{host}: {reason}' for host, reason in failures)}"


def _fetch_from(url: str, remote: RemoteFile, part: PartialFile, on_download: OnDownload) -> None:
    # an interrupted transfer is resumed as long as each attempt receives something
    for _ in range(_MAX_ATTEMPTS):
        start = part.size
        try:
            _receive(url, remote, part, on_download)
        except _InterruptedError:
            if part.size <= start:
                raise
            continue
        if part.sha256() == remote.sha256:
            return
        part.truncate(0)
        if start == 0:
            raise _MirrorError("sent contents with another sha256 than the published one")
    raise _MirrorError(f"broke off {_MAX_ATTEMPTS} times")


def _receive(url: str, remote: RemoteFile, part: PartialFile, on_download: OnDownload) -> None:
    with closing(_read_ahead(_iter_response(url, part.size))) as items:
        answer = next(items, None)
        if not isinstance(answer, _Answer):
            return
        received = _seek_to_range(answer, part)
        total = None if answer.length is None else received + answer.length
        _check_size(total or 0, remote)
        on_download(remote.name, received, total)
        for chunk in items:
            if isinstance(chunk, bytes):
                received += len(chunk)
                _check_size(received, remote)
                part.write(chunk)
                on_download(remote.name, received, total)
    if total is not None and received != total:
        raise _InterruptedError(f"broke off after {received} of {total} bytes")


def _read_ahead(items: Iterator[_Answer | bytes]) -> Generator[_Answer | bytes]:
    """Yield what another thread receives, as long as it comes fast enough.

    A timeout of the socket begins anew with each byte, of headers too, so that a server could keep
    us for ever. Where it is too slow the thread is left to it, and ends with the process.
    """
    queue: Queue[_Answer | bytes | _MirrorError | None] = Queue(_READ_AHEAD)
    is_wanted = True

    def receive() -> None:
        end: _MirrorError | None = None
        try:
            for item in items:
                queue.put(item)
                if not is_wanted:
                    break
        except _MirrorError as error:
            end = error
        finally:
            queue.put(end)

    threading.Thread(target=receive, daemon=True).start()
    start_s, received = time.monotonic(), 0
    try:
        while True:
            deadline_s = start_s + _PATIENCE_S + received / _MIN_BYTES_PER_S
            try:
                item = queue.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except Empty:
                elapsed = f"{time.monotonic() - start_s:.0f} s"
                raise _MirrorError(f"is too slow: {received} bytes in {elapsed}") from None
            if item is None:
                return
            if isinstance(item, _MirrorError):
                raise item
            received += len(item) if isinstance(item, bytes) else 0
            yield item
    finally:
        is_wanted = False
        with suppress(Empty):
            while True:  # lets the thread go on to its end
                queue.get_nowait()


def _iter_response(url: str, start: int) -> Iterator[_Answer | bytes]:
    """Request the bytes from `start` on; yield the headers, then bytes as they arrive.

    Nothing is yielded where there are no more bytes.
    """
    with _open_url(url, start) as response:
        if response is not None:
            content_range = response.headers.get("Content-Range", "")
            yield _Answer(response.status, content_range, response.length)
            yield from _read_chunks(response)


@contextmanager
def _open_url(url: str, start: int) -> Iterator[HTTPResponse | None]:
    """Request the bytes from `start` on; None where there are no more of them (status 416)."""
    import http.client
    import urllib.error
    import urllib.request

    headers = {"User-Agent": f"mnistcli/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or not start:
                raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
        yield None
        return
    except urllib.error.URLError as error:
        raise _MirrorError(_describe(error.reason)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _MirrorError(_describe(error)) from error
    with response:
        yield response


def _describe(reason: BaseException | str) -> str:
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return str(text)


def _seek_to_range(answer: _Answer, part: PartialFile) -> int:
    """Truncate the file to where the answer's bytes begin, and return that offset."""
    start = part.size if answer.status == 206 else 0
    if start and not answer.content_range.startswith(f"bytes {start}-"):
        raise _MirrorError("sent another range than the one asked for")
    part.truncate(start)
    return start


def _read_chunks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield bytes as they arrive, so that those before an interruption are kept."""
    import http.client

    try:
        while chunk := response.read1(_CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(f"broke off ({_describe(error)})") from error


def _check_size(size: int, remote: RemoteFile) -> None:
    if size > remote.max_bytes:
        raise _MirrorError(f"sends more than the {remote.max_bytes} bytes allowed")


def _open_locked(path: Path, on_wait: Callable[[int], None]) -> FileIO:
    """Open and lock the file that is at a path once the lock is held."""
    while True:
        file = _open(path)
        try:
            while not _try_lock(path, file):
                on_wait(os.fstat(file.fileno()).st_size)
                time.sleep(_LOCK_POLL_S)
            if _is_at(path, file):  # neither renamed nor deleted while we waited
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _open(path: Path) -> FileIO:
    with translate_write_errors(path):
        return FileIO(open_scratch_file(path), "r+")


def _try_lock(path: Path, file: FileIO) -> bool:
    # without blocking, so that the progress of the other process can be shown
    with translate_write_errors(path):
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _is_at(path: Path, file: FileIO) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(file.fileno()))
