"""One file from the network: mirrors in turn, resumed where it broke off, checked, then in place.

What has arrived lies in `<name>.part` beside the target, locked while a process works on it: a
second process waits, and finds the file when the first is done. Only contents with the expected
sha256 ever get the target's name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mnistcli import __version__
from mnistcli.errors import DataError, ResourceError

if TYPE_CHECKING:
    from http.client import HTTPResponse

OnDownload = Callable[[str, int, int | None], None]
"""Hears of progress: file name, bytes so far, bytes in total (None: the server did not say)."""

_TIMEOUT_S = 20.0
_MAX_ATTEMPTS = 5
_CHUNK_BYTES = 256 * 1024
_LOCK_POLL_S = 0.2


@dataclass(frozen=True)
class RemoteFile:
    """A file as published.

    Attributes:
        name: what it is called in the folder that it is downloaded to.
        urls: its mirrors, tried in turn.
        sha256: hex digest of the one right content.
        max_bytes: more than this is not received.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    max_bytes: int


class _MirrorError(Exception):
    """One mirror cannot give the file; the message says why."""


class _BrokenOffError(_MirrorError):
    """The transfer ended early; what has arrived is good to go on from."""


def download_file(
    remote: RemoteFile, directory: Path, on_download: OnDownload, alternative: str = ""
) -> Path:
    """Fetch a file, or wait for the process that is fetching it already.

    Args:
        remote: the file.
        directory: where it goes; made where it does not exist.
        on_download: hears of progress.
        alternative: what else the user can do, a phrase; for the error's hint.

    Returns:
        The complete, checked file.

    Raises:
        DataError: no mirror could give the file. What has arrived is kept for the next try,
            except contents that are known to be wrong.
        ResourceError: the folder cannot be written, or the disk is full.
    """
    target = directory / remote.name
    with reporting_disk(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with PartFile(
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


def _fetch(remote: RemoteFile, part: PartFile, on_download: OnDownload, alternative: str) -> None:
    """Mirrors hold the same bytes, so one goes on where another broke off."""
    failures = []
    for url in remote.urls:
        try:
            return _fetch_from(url, remote, part, on_download)
        except _MirrorError as error:
            failures.append((urlsplit(url).netloc, str(error)))
    kept = " (what has arrived is kept)" if part.size else ""
    ways_out = (
        f"check the network and try again{kept}",
        f"name the folder of your {remote.name} with --data-dir",
        alternative,
    )
    raise DataError(
        remote.name,
        f"cannot be downloaded{_describe_failures(failures)}",
        ", or ".join(way_out for way_out in ways_out if way_out),
    )


def _describe_failures(failures: list[tuple[str, str]]) -> str:
    """Without a network all mirrors fail alike: that is said once."""
    reasons = {reason for _, reason in failures}
    if len(reasons) == 1:
        hosts = dict.fromkeys(host for host, _ in failures)
        return f" from {' or '.join(hosts)}: {reasons.pop()}"
    return f": {'; '.join(f'{host}: {reason}' for host, reason in failures)}"


def _fetch_from(url: str, remote: RemoteFile, part: PartFile, on_download: OnDownload) -> None:
    """A transfer that breaks off is taken up again as long as each try brings something."""
    for _ in range(_MAX_ATTEMPTS):
        start = part.size
        try:
            _receive(url, remote, part, on_download)
        except _BrokenOffError:
            if part.size <= start:
                raise
            continue
        if part.sha256() == remote.sha256:
            return
        part.truncate(0)
        if start == 0:
            raise _MirrorError("sent contents with another sha256 than the published one")
    raise _MirrorError(f"broke off {_MAX_ATTEMPTS} times")


def _receive(url: str, remote: RemoteFile, part: PartFile, on_download: OnDownload) -> None:
    """Append what is missing; from the start where the server knows no ranges."""
    with _open_url(url, start=part.size) as response:
        if response is None:
            return
        received = _place_range(response, part)
        total = None if response.length is None else received + response.length
        _check_size(total or 0, remote)
        on_download(remote.name, received, total)
        for chunk in _read_chunks(response):
            received += len(chunk)
            _check_size(received, remote)
            part.write(chunk)
            on_download(remote.name, received, total)
    if total is not None and received != total:
        raise _BrokenOffError(f"broke off after {received} of {total} bytes")


@contextmanager
def _open_url(url: str, start: int) -> Iterator[HTTPResponse | None]:
    """The answer to a request for the bytes from `start` on; None: there are none (416)."""
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
    """The system's own words, without the number of the error."""
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return str(text)


def _place_range(response: HTTPResponse, part: PartFile) -> int:
    """The offset at which the answer's bytes belong; what lies behind it is cut off."""
    start = part.size if response.status == 206 else 0
    if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _MirrorError("sent another range than the one asked for")
    part.truncate(start)
    return start


def _read_chunks(response: HTTPResponse) -> Iterator[bytes]:
    """As they arrive, so that nothing is lost of what came before a break."""
    import http.client

    try:
        while chunk := response.read1(_CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"broke off ({_describe(error)})") from error


def _check_size(size: int, remote: RemoteFile) -> None:
    """A server must not fill the disk."""
    if size > remote.max_bytes:
        raise _MirrorError(f"sends more than the {remote.max_bytes} bytes allowed")


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
