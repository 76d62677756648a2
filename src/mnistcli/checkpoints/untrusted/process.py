"""Runs the parsing child. Imports nothing heavy: the child starts before its parent's imports."""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mnistcli.checkpoints.checksum import COPY_HINT
from mnistcli.errors import CheckpointError

Wanted = Literal["none", "weights", "all"]

TIME_LIMIT_BASE_S = 60  # a machine that swaps, a file on a network; hangs end by processor time
_SLOWEST_READ_BYTES_PER_S = 10 << 20
_LOG = logging.getLogger(__name__)
_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop(1))\n"
    "from mnistcli.checkpoints.untrusted.MODULE import main; main()"
)


@dataclass(frozen=True)
class Parsed:
    """What the child made of a file.

    Attributes:
        line: its JSON line, yet to be checked to be `Contents`.
        arrays: the bytes of the arrays, one after the other.
        wanted: which arrays it was asked for.
    """

    line: dict[str, Any]
    arrays: memoryview
    wanted: Wanted


class ParsingChild:
    """The child at work on one file; `result` waits for it."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        """Open the file and start the child.

        Raises:
            CheckpointError: there is no such file, or it cannot be read.
        """
        self._path, self._wanted = path, wanted
        descriptor = open_regular(path)
        self._time_limit_s = limit_wall_time(os.fstat(descriptor).st_size)
        try:
            self._process = start_child(
                "sandboxed_reader", wanted, stdin=descriptor, stdout=subprocess.PIPE
            )
        finally:
            os.close(descriptor)

    def result(self) -> Parsed:
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
        return Parsed(line, memoryview(output)[end + 1 :], self._wanted)


def start_child(module: str, *words: str, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    """Start Python on one of the modules beside this one that parse HDF5 files."""
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM.replace("MODULE", module), root, *words],
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
        raise _refuse(path, "damaged: reading it gave no result", COPY_HINT)
    if "refused" in line:
        raise _refuse(path, str(line["refused"]), str(line.get("hint", "")))
    return line


def explain_hang(path: Path, time_limit_s: int) -> CheckpointError:
    """Say that a child has not answered."""
    what = f"damaged: it was not read within {time_limit_s} s"
    return _refuse(path, what, COPY_HINT)


def explain_end(path: Path, code: int) -> CheckpointError:
    """Say how a child ended that should have said something itself."""
    if code == -signal.SIGXCPU:
        return _refuse(path, "damaged: reading it goes on and on", COPY_HINT)
    if code < 0:
        what = f"the process that reads it was ended by a signal ({signal.strsignal(-code)})"
        return _refuse(path, what, COPY_HINT)
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
