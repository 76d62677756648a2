"""Parse checkpoints in processes with limits, since HDF5 may crash or hang on hostile files.

`ParserProcess` reads one file whole; `MetadataReader` reads the metadata of many files, and loses
only the file that a process ends over. Nothing heavy is imported here, so that the processes start
before the imports of their parent.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mnistcli.checkpoints.checksum import RESTORE_HINT
from mnistcli.errors import CheckpointError
from mnistcli.file_kinds import (
    CHECKPOINT_HINT,
    NOT_HDF5,
    explain_folder,
    explain_missing,
    explain_wrong_kind,
    read_head,
)

# Generous for a machine that swaps, or a file on a network: what hangs ends by its limit of
# processor time.
TIME_LIMIT_BASE_S = 60
FILES_PER_PROCESS = 40  # about as many are read in the time that another process takes to start
MAX_PROCESSES = 4

_SLOWEST_READ_BYTES_PER_S = 10 << 20
_QUEUED_FILES = 16  # sent ahead to a process, so that it need not wait for a busy parent
_MAX_LINE_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 16
_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop(1))\n"
    "from mnistcli.checkpoints.untrusted.sandboxed_reader import FUNCTION; FUNCTION()"
)
_LOG = logging.getLogger(__name__)

ArraySelection = Literal["none", "weights", "all"]
"""Which arrays are read: the network's `weights`, or `all`, the optimizer's too."""
ParsedMetadata = dict[str, Any] | CheckpointError
"""The JSON line about a file, not yet validated as `FileMetadata`, or why there is none."""


@dataclass(frozen=True)
class ParserOutput:
    """What the process read from a file.

    Attributes:
        line: its JSON line, not yet validated as `FileContents`.
        arrays: the bytes of the arrays, concatenated.
        selection: which arrays were requested.
    """

    line: dict[str, Any]
    arrays: memoryview
    selection: ArraySelection


class ParserProcess:
    """A process that parses one file.

    It starts at once, so that it works during the caller's imports; `result` waits for it.
    """

    def __init__(self, path: Path, selection: ArraySelection) -> None:
        """Open the file and start the process.

        Raises:
            CheckpointError: there is no such file, or it cannot be read.
        """
        self._path, self._selection = path, selection
        descriptor = _open_regular_file(path)
        self._time_limit_s = _limit_wall_time(os.fstat(descriptor).st_size)
        try:
            self._process = _start_process(
                "parse_one_file", selection, stdin=descriptor, stdout=subprocess.PIPE
            )
        finally:
            os.close(descriptor)

    def __del__(self) -> None:
        """End a process whose result was not asked for, since the command failed before."""
        process = getattr(self, "_process", None)
        if process is not None and process.returncode is None:
            process.kill()
            process.communicate()

    @property
    def path(self) -> Path:
        """The file that is read."""
        return self._path

    def result(self) -> ParserOutput:
        """Return what the process read.

        Raises:
            CheckpointError: the file is damaged or refused.
        """
        try:
            output, _ = self._process.communicate(timeout=self._time_limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise _make_timeout_error(self._path, self._time_limit_s) from None
        _LOG.debug(
            "process %d read %s (%s arrays) and ended with %d and %d bytes",
            self._process.pid, self._path, self._selection, self._process.returncode, len(output),
        )  # fmt: skip
        if self._process.returncode != 0:
            raise _make_exit_error(self._path, self._process.returncode)
        end = output.find(b"\n")
        line = _parse_line(self._path, output[:end])
        return ParserOutput(line, memoryview(output)[end + 1 :], self._selection)


class MetadataReader:
    """Processes that read the metadata of many files.

    They start at once, so that they work during the caller's imports; `results` waits for them.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Start as many processes as the number of files is worth."""
        needed = -(-len(paths) // FILES_PER_PROCESS)
        count = max(1, min(needed, os.cpu_count() or 1, MAX_PROCESSES))
        self._queue = deque(_Task(index, path) for index, path in enumerate(paths))
        self._pool = ThreadPoolExecutor(count)
        self._futures = [self._pool.submit(_read_files, self._queue) for _ in range(count)]

    def results(self) -> list[ParsedMetadata]:
        """Return what was read of each file, in the order of the paths."""
        results: dict[int, ParsedMetadata] = {}
        try:
            for future in self._futures:
                results |= future.result()
        finally:
            self._queue.clear()  # after an interrupt, only the files already sent are finished
            self._pool.shutdown()
        return [results[index] for index in sorted(results)]


@dataclass(frozen=True)
class _Task:
    """A file to read; its index is its position among the results."""

    index: int
    path: Path
    time_limit_s: int = 0


def _read_files(queue: deque[_Task]) -> dict[int, ParsedMetadata]:
    # Runs in several threads, which take from the same queue.
    if not queue:
        return {}
    worker = _Worker(queue)
    try:
        while worker.submit():
            worker.receive()
    finally:
        worker.close()
    return worker.results


class _Worker:
    """A process that reads one file after the other, replaced by another one if it ends.

    Attributes:
        results: by the files' indices.
    """

    def __init__(self, queue: deque[_Task]) -> None:
        self.results: dict[int, ParsedMetadata] = {}
        self._queue = queue
        self._retries: deque[_Task] = deque()  # sent to a process that ended before their turn
        self._sent: deque[_Task] = deque()  # to the current process, in order
        self._start()

    def _start(self) -> None:
        # A socket is the process' standard input: through it, open files are sent.
        self._received = bytearray()
        self._has_answered = False
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = _start_process(
                "parse_files", stdin=theirs.fileno(), stdout=subprocess.DEVNULL
            )

    def submit(self) -> bool:
        """Send files ahead to the process; return False if all files are answered."""
        while len(self._sent) < _QUEUED_FILES and (task := self._take_task()) is not None:
            try:
                descriptor = _open_regular_file(task.path)
            except CheckpointError as error:
                self.results[task.index] = error
                continue
            limit_s = _limit_wall_time(os.fstat(descriptor).st_size)
            self._sent.append(replace(task, time_limit_s=limit_s))
            try:
                socket.send_fds(self._socket, [b"f"], [descriptor])
            except ConnectionError:  # the process has ended, which `receive` finds out
                break
            finally:
                os.close(descriptor)
        return bool(self._sent)

    def receive(self) -> None:
        """Wait for the result of the first file sent, or for the end of the process over it."""
        task = self._sent[0]
        try:
            text = self._receive_line(time.monotonic() + task.time_limit_s)
        except TimeoutError:
            self._process.kill()
            self._replace_process(_make_timeout_error(task.path, task.time_limit_s))
            return
        except OverflowError:
            self._process.kill()
            self._replace_process(_make_no_result_error(task.path))
            return
        if text is None:
            self._replace_process(None)
            return
        self._has_answered = True
        self._sent.popleft()
        try:
            self.results[task.index] = _parse_line(task.path, text)
        except CheckpointError as error:
            self.results[task.index] = error

    def close(self) -> int:
        """Let the process end, and return its exit code."""
        self._socket.close()
        return self._process.wait()

    def _take_task(self) -> _Task | None:
        for tasks in (self._retries, self._queue):
            with suppress(IndexError):
                return tasks.popleft()
        return None

    def _replace_process(self, error: CheckpointError | None) -> None:
        # A process ends with 0 after a file that HDF5 failed on, which it has answered for: then
        # no file is to blame, and all files still waiting go to the next process.
        code = self.close()
        first = self._sent[0]
        if error is None and code != 0:
            error = _make_exit_error(first.path, code)
        elif error is None and not self._has_answered:
            error = _make_no_result_error(first.path)
        if error is not None:
            self.results[first.index] = error
            self._sent.popleft()
        self._retries.extend(self._sent)
        self._sent.clear()
        self._start()

    def _receive_line(self, deadline_s: float) -> bytes | None:
        """Return one line; None if the process ends first.

        Raises:
            TimeoutError: the deadline has passed.
            OverflowError: the line is too long.
        """
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > _MAX_LINE_BYTES:
                raise OverflowError
            self._socket.settimeout(max(0.001, deadline_s - time.monotonic()))
            try:
                chunk = self._socket.recv(_CHUNK_BYTES)
            except ConnectionError:
                return None
            if not chunk:
                return None
            self._received += chunk
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line


def _open_regular_file(path: Path) -> int:
    # Opening or reading anything else, a pipe for example, could block for ever.
    hint = CHECKPOINT_HINT
    where = str(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        what, hint = _explain_missing(where, hint)
        raise CheckpointError(where, what, hint) from None
    except OSError as error:
        raise CheckpointError(where, f"cannot be read: {error.strerror}", hint) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        what = "not a regular file"
        if path.is_dir():
            what, hint = explain_folder(path, "checkpoint")
        raise CheckpointError(where, what, hint)
    return descriptor


def _explain_missing(where: str, hint: str) -> tuple[str, str]:
    from mnistcli.config.recipes import list_recipe_names

    if where in list_recipe_names():
        return "is a recipe, not a checkpoint", f"train it first: mnistcli train {where}"
    return explain_missing(where, "no such checkpoint", hint)


def _limit_wall_time(size_bytes: int) -> int:
    return TIME_LIMIT_BASE_S + size_bytes // _SLOWEST_READ_BYTES_PER_S


def _start_process(
    function: str, *arguments: str, stdin: int, stdout: int
) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM.replace("FUNCTION", function), root, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "FALSE"},
    )


def _parse_line(path: Path, text: bytes) -> dict[str, Any]:
    """Return the JSON line; CheckpointError if it is not one, or says why the file is refused."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise _make_error(path, "damaged: reading it gave no result", RESTORE_HINT)
    if "refused" in line:
        what, hint = str(line["refused"]), str(line.get("hint", ""))
        if what == NOT_HDF5:
            kind = explain_wrong_kind(read_head(path), "checkpoint", str(path))
            what, hint = kind or (what, hint)
        raise _make_error(path, what, hint)
    return line


def _make_timeout_error(path: Path, time_limit_s: int) -> CheckpointError:
    return _make_error(path, f"damaged: it was not read within {time_limit_s} s", RESTORE_HINT)


def _make_exit_error(path: Path, code: int) -> CheckpointError:
    if code == -signal.SIGXCPU:
        return _make_error(path, "damaged: reading it goes on and on", RESTORE_HINT)
    if code < 0:
        what = f"the process that reads it was ended by a signal ({signal.strsignal(-code)})"
        return _make_error(path, what, RESTORE_HINT)
    hint = "see whether Python can: python -c 'import h5py'"
    return _make_error(path, "the process that reads it did not start", hint)


def _make_no_result_error(path: Path) -> CheckpointError:
    return CheckpointError(str(path), "damaged: reading it gave no result", RESTORE_HINT)


def _make_error(path: Path, what: str, hint: str) -> CheckpointError:
    _LOG.info("refused %s: %s", path, what)
    return CheckpointError(str(path), what, hint)
