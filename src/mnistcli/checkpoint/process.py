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

from mnistcli.checkpoint.seal import COPY_HINT
from mnistcli.errors import CheckpointError

Wanted = Literal["none", "weights", "all"]

TIME_LIMIT_BASE_S = 60  # a machine that swaps, a file on a network; hangs end by processor time
_SLOWEST_READ_BYTES_PER_S = 10 << 20
_LOG = logging.getLogger(__name__)
_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop(1));"
    "from mnistcli.checkpoint.child import main; main()"
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
        descriptor = _open_regular(path)
        size_bytes = os.fstat(descriptor).st_size
        self._time_limit_s = TIME_LIMIT_BASE_S + size_bytes // _SLOWEST_READ_BYTES_PER_S
        root = str(Path(__file__).parents[2])
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "FALSE"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, root, wanted],
                stdin=descriptor,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
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
            what = f"damaged: it was not read within {self._time_limit_s} s"
            raise self._refuse(what, COPY_HINT) from None
        _LOG.debug(
            "process %d read %s (%s arrays) and ended with %d and %d bytes",
            self._process.pid, self._path, self._wanted, self._process.returncode, len(output),
        )  # fmt: skip
        if self._process.returncode != 0:
            raise self._explain_end(self._process.returncode)
        end = output.find(b"\n")
        try:
            line = json.loads(output[:end])
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            raise self._refuse("damaged: reading it gave no result", COPY_HINT)
        if "refused" in line:
            raise self._refuse(str(line["refused"]), str(line.get("hint", "")))
        return Parsed(line, memoryview(output)[end + 1 :], self._wanted)

    def _explain_end(self, code: int) -> CheckpointError:
        """Say how the child ended that should have said something itself."""
        if code == -signal.SIGXCPU:
            return self._refuse("damaged: reading it goes on and on", COPY_HINT)
        if code < 0:
            what = f"the process that reads it was ended by a signal ({signal.strsignal(-code)})"
            return self._refuse(what, COPY_HINT)
        hint = "see whether Python can: python -c 'import h5py'"
        return self._refuse("the process that reads it did not start", hint)

    def _refuse(self, what: str, hint: str = "") -> CheckpointError:
        """Name the file in the child's verdict."""
        _LOG.info("process %d refused %s: %s", self._process.pid, self._path, what)
        return CheckpointError(str(self._path), what, hint)


def _open_regular(path: Path) -> int:
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
