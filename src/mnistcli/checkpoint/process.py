"""Runs the parsing child. Imports nothing heavy: the child starts before its parent's imports."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mnistcli.errors import CheckpointError

Wanted = Literal["none", "weights", "all"]

TIME_LIMIT_S = 60
_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop(1));"
    "from mnistcli.checkpoint.child import main; main()"
)


@dataclass(frozen=True)
class Parsed:
    """What the child made of a file.

    Attributes:
        line: its JSON line: texts, record, and headers of the arrays.
        arrays: the bytes of those arrays, one after the other.
    """

    line: dict[str, Any]
    arrays: memoryview


class ParsingChild:
    """The child at work on one file; `result` waits for it."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        """Open the file and start the child.

        Raises:
            CheckpointError: there is no such file, or it cannot be read.
        """
        self._path = path
        descriptor = _open_regular(path)
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
            output, _ = self._process.communicate(timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise self._refuse(f"damaged: it was not read within {TIME_LIMIT_S} s") from None
        end = output.find(b"\n")
        if end < 0 or self._process.returncode != 0:
            raise self._refuse("damaged: reading it exceeded the limits on time or memory")
        line = json.loads(output[:end])
        if "refused" in line:
            raise self._refuse(line["refused"], line["hint"])
        return Parsed(line, memoryview(output)[end + 1 :])

    def _refuse(self, what: str, hint: str = "") -> CheckpointError:
        """Name the file in the child's verdict."""
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
        os.close(descriptor)
        raise CheckpointError(str(path), "not a regular file", hint)
    return descriptor
