"""Has children read the records of many files, and loses no more than the file that kills one.

Imports nothing heavy: the children start before their parent's imports.

Runs the parsing child. Imports nothing heavy: the child starts before its parent's imports.
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

ArraySelection = Literal["none", "weights", "all"]

TIME_LIMIT_BASE_S = 60  # a machine that swaps, a file on a network; hangs end by processor time
_SLOWEST_READ_BYTES_PER_S = 10 << 20
_LOG = logging.getLogger(__name__)
_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop(1))\n"
    "from mnistcli.checkpoints.untrusted.sandboxed_reader import FUNCTION; FUNCTION()"
)


@dataclass(frozen=True)
class ParserOutput:
    """What the child made of a file.

    Attributes:
        line: its JSON line, yet to be checked to be `FileContents`.
        arrays: the bytes of the arrays, one after the other.
        wanted: which arrays it was asked for.
    """

    line: dict[str, Any]
    arrays: memoryview
    wanted: ArraySelection


class ParserProcess:
    """The child at work on one file; `result` waits for it."""

    def __init__(self, path: Path, wanted: ArraySelection) -> None:
        """Open the file and start the child.

        Raises:
            CheckpointError: there is no such file, or it cannot be read.
        """
        self._path, self._wanted = path, wanted
        descriptor = open_regular(path)
        self._time_limit_s = limit_wall_time(os.fstat(descriptor).st_size)
        try:
            self._process = start_child(
                "parse_one_file", wanted, stdin=descriptor, stdout=subprocess.PIPE
            )
        finally:
            os.close(descriptor)

    def result(self) -> ParserOutput:
        """Return what the child found.

        Raises:
            CheckpointError: the file is damaged or refused.
        """
        try:
            output, _ = self._process.communicate(timeout=self._time_limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise explain_hang(self._path, self._time_limit_s) from None
        _LOG.debug(
            "process %d read %s (%s arrays) and ended with %d and %d bytes",
            self._process.pid, self._path, self._wanted, self._process.returncode, len(output),
        )  # fmt: skip
        if self._process.returncode != 0:
            raise explain_end(self._path, self._process.returncode)
        end = output.find(b"\n")
        line = read_line(self._path, output[:end])
        return ParserOutput(line, memoryview(output)[end + 1 :], self._wanted)


def start_child(function: str, *words: str, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    """Start Python on a function of `sandboxed_reader`."""
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM.replace("FUNCTION", function), root, *words],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "FALSE"},
    )


def limit_wall_time(size_bytes: int) -> int:
    """Return the seconds that reading a file may take at the very most."""
    return TIME_LIMIT_BASE_S + size_bytes // _SLOWEST_READ_BYTES_PER_S


def read_line(path: Path, text: bytes) -> dict[str, Any]:
    """Return a child's JSON line.

    Raises:
        CheckpointError: it is none, or says that the file is damaged or refused.
    """
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise _refuse(path, "damaged: reading it gave no result", RESTORE_HINT)
    if "refused" in line:
        raise _refuse(path, str(line["refused"]), str(line.get("hint", "")))
    return line


def explain_hang(path: Path, time_limit_s: int) -> CheckpointError:
    """Say that a child has not answered."""
    what = f"damaged: it was not read within {time_limit_s} s"
    return _refuse(path, what, RESTORE_HINT)


def explain_end(path: Path, code: int) -> CheckpointError:
    """Say how a child ended that should have said something itself."""
    if code == -signal.SIGXCPU:
        return _refuse(path, "damaged: reading it goes on and on", RESTORE_HINT)
    if code < 0:
        what = f"the process that reads it was ended by a signal ({signal.strsignal(-code)})"
        return _refuse(path, what, RESTORE_HINT)
    hint = "see whether Python can: python -c 'import h5py'"
    return _refuse(path, "the process that reads it did not start", hint)


def _refuse(path: Path, what: str, hint: str) -> CheckpointError:
    """Name the file in a child's verdict."""
    _LOG.info("refused %s: %s", path, what)
    return CheckpointError(str(path), what, hint)


def open_regular(path: Path) -> int:
    """Open a file for the child; anything that is no file could block or never end."""
    hint = "give a .h5 file that mnistcli or Keras saved"
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise CheckpointError(str(path), "no such checkpoint", hint) from None
    except OSError as error:
        raise CheckpointError(str(path), f"cannot be read: {error.strerror}", hint) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        what = "is a folder" if path.is_dir() else "not a regular file"
        os.close(descriptor)
        raise CheckpointError(str(path), what, hint)
    return descriptor


FILES_PER_CHILD = 40  # what a child reads in the time that another one takes to start
MAX_CHILDREN = 4
_WINDOW = 16  # files that a child has before it, so that it need not wait for a busy parent
_MAX_LINE_BYTES = 64 << 20
_PIECE_BYTES = 1 << 16

ParsedMetadata = dict[str, Any] | CheckpointError


class MetadataReader:
    """Children at work on many files; `results` waits for them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Start as many children as the files keep busy."""
        needed = -(-len(paths) // FILES_PER_CHILD)
        count = max(1, min(needed, os.cpu_count() or 1, MAX_CHILDREN))
        self._left = deque(_Task(number, path) for number, path in enumerate(paths))
        self._pool = ThreadPoolExecutor(count)
        self._parts = [self._pool.submit(_read_files, self._left) for _ in range(count)]

    def results(self) -> list[ParsedMetadata]:
        """Return the JSON line on each file in order, yet to be checked; or why there is none."""
        answers: dict[int, ParsedMetadata] = {}
        try:
            for part in self._parts:
                answers |= part.result()
        finally:
            self._left.clear()  # an interrupted survey ends with the files that are under way
            self._pool.shutdown()
        return [answers[number] for number in sorted(answers)]


@dataclass(frozen=True)
class _Task:
    """A file to read; its number is its place among the answers."""

    number: int
    path: Path
    time_limit_s: int = 0


def _read_files(left: deque[_Task]) -> dict[int, ParsedMetadata]:
    """Have files read until none is left; several threads take from the same queue."""
    if not left:
        return {}
    reader = _Reader(left)
    try:
        while reader.submit():
            reader.receive()
    finally:
        reader.close()
    return reader.answers


class _Reader:
    """One child after the other, each until it dies.

    Attributes:
        answers: by the files' numbers.
    """

    def __init__(self, left: deque[_Task]) -> None:
        self.answers: dict[int, ParsedMetadata] = {}
        self._left = left
        self._again: deque[_Task] = deque()  # what a child that died had not begun
        self._waiting: deque[_Task] = deque()  # what the child has, in order
        self._start()

    def _start(self) -> None:
        """Start a child with a socket as its standard input."""
        self._received = bytearray()
        self._has_answered = False
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = start_child(
                "parse_files", stdin=theirs.fileno(), stdout=subprocess.DEVNULL
            )

    def close(self) -> int:
        """Let the child end, and return how it did."""
        self._socket.close()
        return self._process.wait()

    def submit(self) -> bool:
        """Give the child as many files as it may have; return False where all are answered."""
        while len(self._waiting) < _WINDOW and (task := self._take_task()) is not None:
            try:
                descriptor = open_regular(task.path)
            except CheckpointError as error:
                self.answers[task.number] = error
                continue
            limit_s = limit_wall_time(os.fstat(descriptor).st_size)
            self._waiting.append(replace(task, time_limit_s=limit_s))
            try:
                socket.send_fds(self._socket, [b"f"], [descriptor])
            except ConnectionError:  # the child has ended, which the next answer will tell
                break
            finally:
                os.close(descriptor)
        return bool(self._waiting)

    def _take_task(self) -> _Task | None:
        """Return the next file to read."""
        for tasks in (self._again, self._left):
            with suppress(IndexError):
                return tasks.popleft()
        return None

    def receive(self) -> None:
        """Wait until the first of the files is answered, or is found to have killed the child."""
        task = self._waiting[0]
        try:
            text = self._receive(time.monotonic() + task.time_limit_s)
        except TimeoutError:
            self._process.kill()
            self._replace_child(explain_hang(task.path, task.time_limit_s))
            return
        except OverflowError:
            self._process.kill()
            self._replace_child(_explain_silence(task.path))
            return
        if text is None:
            self._replace_child(None)
            return
        self._has_answered = True
        self._waiting.popleft()
        try:
            self.answers[task.number] = read_line(task.path, text)
        except CheckpointError as error:
            self.answers[task.number] = error

    def _replace_child(self, verdict: CheckpointError | None) -> None:
        """Find out which file the child ended over, if over any; the next child gets the others."""
        code = self.close()
        first = self._waiting[0]
        if verdict is None and code != 0:
            verdict = explain_end(first.path, code)
        elif verdict is None and not self._has_answered:
            verdict = _explain_silence(first.path)
        if verdict is not None:
            self.answers[first.number] = verdict
            self._waiting.popleft()
        self._again.extend(self._waiting)
        self._waiting.clear()
        self._start()

    def _receive(self, deadline_s: float) -> bytes | None:
        """Return one line; None where the child ends first.

        Raises:
            TimeoutError: it takes too long.
            OverflowError: there is no end to it.
        """
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > _MAX_LINE_BYTES:
                raise OverflowError
            self._socket.settimeout(max(0.001, deadline_s - time.monotonic()))
            try:
                piece = self._socket.recv(_PIECE_BYTES)
            except ConnectionError:
                return None
            if not piece:
                return None
            self._received += piece
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line


def _explain_silence(path: Path) -> CheckpointError:
    """Say that a child gave no answer that makes sense."""
    return CheckpointError(str(path), "damaged: reading it gave no result", RESTORE_HINT)
