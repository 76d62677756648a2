"""Has children read the records of many files, and loses no more than the file that kills one.

Imports nothing heavy: the children start before their parent's imports.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnistcli.checkpoints.checksum import COPY_HINT
from mnistcli.checkpoints.untrusted.process import (
    explain_end,
    explain_hang,
    limit_wall_time,
    open_regular,
    read_line,
    start_child,
)
from mnistcli.errors import CheckpointError

FILES_PER_CHILD = 40  # what a child reads in the time that another one takes to start
MAX_CHILDREN = 4
_WINDOW = 16  # files that a child has before it, so that it need not wait for a busy parent
_MAX_LINE_BYTES = 64 << 20
_PIECE_BYTES = 1 << 16

Answer = dict[str, Any] | CheckpointError


class Survey:
    """Children at work on many files; `results` waits for them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Start as many children as the files keep busy."""
        needed = -(-len(paths) // FILES_PER_CHILD)
        count = max(1, min(needed, os.cpu_count() or 1, MAX_CHILDREN))
        self._left = deque(_Task(number, path) for number, path in enumerate(paths))
        self._pool = ThreadPoolExecutor(count)
        self._parts = [self._pool.submit(_read_files, self._left) for _ in range(count)]

    def results(self) -> list[Answer]:
        """Return the JSON line on each file in order, yet to be checked; or why there is none."""
        answers: dict[int, Answer] = {}
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


def _read_files(left: deque[_Task]) -> dict[int, Answer]:
    """Have files read until none is left; several threads take from the same queue."""
    if not left:
        return {}
    reader = _Reader(left)
    try:
        while reader.hand_out():
            reader.take_answer()
    finally:
        reader.close()
    return reader.answers


class _Reader:
    """One child after the other, each until it dies.

    Attributes:
        answers: by the files' numbers.
    """

    def __init__(self, left: deque[_Task]) -> None:
        self.answers: dict[int, Answer] = {}
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
                "survey_child", stdin=theirs.fileno(), stdout=subprocess.DEVNULL
            )

    def close(self) -> int:
        """Let the child end, and return how it did."""
        self._socket.close()
        return self._process.wait()

    def hand_out(self) -> bool:
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

    def take_answer(self) -> None:
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
    return CheckpointError(str(path), "damaged: reading it gave no result", COPY_HINT)
