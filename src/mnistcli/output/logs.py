"""The log: what a run does and why, for whoever has to find out; on stderr, or in a file.

Modules log under their own names (`logging.getLogger(__name__)`); what the user has been told on
stderr is marked as shown, so that a file has it too and stderr has it once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from mnistcli.errors import ResourceError, UsageError, make_printable
from mnistcli.output.terminal import PROGRAM, write_error_line

LEVELS = ("debug", "info", "warning", "error")
DEFAULT_LEVEL, DEFAULT_FILE_LEVEL = "warning", "info"
_LOG = logging.getLogger(PROGRAM)
_FLAG = "--log-file"
_LIBRARIES = ("tensorflow", "absl")  # their loggers; TensorFlow's C++ side writes to descriptor 2


class _StderrHandler(logging.Handler):
    """Writes `mnistcli: <level>: <message>`, above a bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record that the user has not been shown."""
        if not getattr(record, "is_shown", False):
            for line in self.format(record).splitlines():
                write_error_line(f"{PROGRAM}: {record.levelname.lower()}: {make_printable(line)}")


class _FileFormatter(logging.Formatter):
    """Time with its zone, process, level, module, message, in one line; tracebacks have more."""

    def __init__(self) -> None:
        line = "%(asctime)s.%(msecs)03d%(zone)s [%(process)d] %(levelname)s %(name)s: %(message)s"
        super().__init__(line, "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Write a record out."""
        record.zone = self.formatTime(record, "%z")
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Keep file names from breaking lines."""
        return make_printable(super().formatMessage(record))


class _FileHandler(logging.FileHandler):
    """Appends to a file; a disk that fills up ends the log, not the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say once that the log has ended; any other failure is a mistake in a call of ours."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        for logger in map(logging.getLogger, (PROGRAM, *_LIBRARIES)):
            logger.removeHandler(self)
        if self.stream is not None:
            with contextlib.suppress(OSError):  # it tries once more what could not be written
                self.stream.close()
        what = f"{self.baseFilename}: {error.strerror}: the log ends here"
        write_error_line(f"{PROGRAM}: warning: {make_printable(what)}")


def open_log(level: str | None = None, path: Path | None = None) -> None:
    """Begin the log of a command, and end that of the command before.

    Args:
        level: one of LEVELS: what is less is left out. Null: `warning`, with a file `info`.
        path: where it goes, appended, with times; stderr then has warnings and errors only.

    Raises:
        ResourceError: the file cannot be written.
        UsageError: it holds something else than text.
    """
    close_log()
    chosen = level or (DEFAULT_LEVEL if path is None else DEFAULT_FILE_LEVEL)
    number = logging.getLevelNamesMapping()[chosen.upper()]
    stderr = _StderrHandler(number if path is None else max(number, logging.WARNING))
    handlers: list[logging.Handler] = [stderr]
    if path is not None:
        handlers.append(_open_file(path))
        if number == logging.DEBUG:
            _redirection.begin(path)
    _LOG.setLevel(number)
    _LOG.propagate = False
    for handler in handlers:
        _LOG.addHandler(handler)
        if number == logging.DEBUG:
            for name in _LIBRARIES:
                logging.getLogger(name).addHandler(handler)


def close_log() -> None:
    """End the log; what is logged afterwards is dropped."""
    _redirection.end()
    for logger in map(logging.getLogger, (PROGRAM, *_LIBRARIES)):
        for handler in list(logger.handlers):
            if isinstance(handler, _StderrHandler | _FileHandler):
                logger.removeHandler(handler)
                handler.close()
    _LOG.setLevel(logging.NOTSET)


def _open_file(path: Path) -> _FileHandler:
    """Open the log's file before anything else happens."""
    hint = f"name another file with {_FLAG}"
    try:
        if path.is_file():
            with path.open("rb") as existing:
                if b"\0" in existing.read(1024):
                    raise UsageError(_FLAG, f"{path} is no text that a log could go on with", hint)
        handler = _FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}"
        raise ResourceError(_FLAG, what, hint) from error
    handler.setFormatter(_FileFormatter())
    return handler


class _Redirection:
    """Leads descriptor 2 into the log's file, and Python's stderr to where 2 led."""

    def __init__(self) -> None:
        self._kept: int | None = None
        self._replaced: TextIO | None = None

    def begin(self, path: Path) -> None:
        """Let what native code prints go to a file."""
        stream = sys.stderr
        stream.flush()
        self._kept = os.dup(2)
        if isinstance(stream, TextIOWrapper) and stream is sys.__stderr__:
            self._replaced = stream
            sys.stderr = os.fdopen(
                os.dup(self._kept), "w", 1, encoding=stream.encoding, errors="backslashreplace"
            )
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, 2)
        os.close(descriptor)

    def end(self) -> None:
        """Put everything back."""
        if self._kept is None:
            return
        os.dup2(self._kept, 2)
        os.close(self._kept)
        self._kept = None
        if self._replaced is not None:
            sys.stderr.close()
            sys.stderr, self._replaced = self._replaced, None


_redirection = _Redirection()
