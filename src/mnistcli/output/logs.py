"""Notes and warnings for the user, and the log: records of the logger `mnistcli`.

Modules log under their own names (`logging.getLogger(__name__)`). A command line installs handlers
for stderr and for `--log-file`. In Python use there are none: logging's last resort then shows
warnings and errors on stderr, notes are dropped.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import sys
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from mnistcli.atomic_files import open_named_file
from mnistcli.errors import (
    MnistcliError,
    Problem,
    ResourceError,
    UsageError,
    make_printable,
    redact,
)
from mnistcli.output.terminal import PROGRAM, write_error_line
from mnistcli.tensorflow_import import redirect_native_stderr

LEVELS = ("debug", "info", "warning", "error")
DEFAULT_LEVEL, DEFAULT_FILE_LEVEL = "warning", "info"
_ROOT = logging.getLogger(PROGRAM)
_LOG = logging.getLogger(__name__)
_FLAG = "--log-file"
_redirection = contextlib.ExitStack()  # of descriptor 2, into the log's file
_LIBRARIES = ("tensorflow", "absl")  # their loggers; TensorFlow's C++ side writes to descriptor 2
_NOTE, _ANNOUNCEMENT, _WARNING = "note", "announcement", "warning"
SHOWN = {"is_shown": True}  # marks records of what was written to stderr without the log


def note(text: str) -> None:
    """Show a line on stderr, unless the command was given -q, --json, --jsonl or --csv."""
    _LOG.info(text, extra={"kind": _NOTE})


def announce(text: str) -> None:
    """Show a line on stderr under -q too: how far an interrupted run came, for example."""
    _LOG.info(text, extra={"kind": _ANNOUNCEMENT})


def warn(text: str) -> None:
    """Show `mnistcli: warning: <text>` on stderr, the same text once per command."""
    _LOG.warning(make_printable(text), extra={"kind": _WARNING})


def report_error(error: MnistcliError) -> None:
    """Show each problem of an error on stderr."""
    for problem in error.problems:
        report_problem(problem)


def report_problem(problem: Problem) -> None:
    """Show `mnistcli: error: <where>: <what>. <hint>` on stderr."""
    _LOG.error(str(problem))


@contextlib.contextmanager
def suppress_notes() -> Iterator[None]:
    """Treat notes as under -q, announcements apart."""
    handlers = [handler for handler in _ROOT.handlers if isinstance(handler, _StderrHandler)]
    shown = [handler.shows_notes for handler in handlers]
    for handler in handlers:
        handler.shows_notes = False
    try:
        yield
    finally:
        for handler, value in zip(handlers, shown, strict=True):
            handler.shows_notes = value


@contextlib.contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Yield a list that receives what `warn` shows meanwhile, each text once."""
    handler = _Collector()
    _ROOT.addHandler(handler)
    try:
        yield handler.texts
    finally:
        _ROOT.removeHandler(handler)


class _WarnsOnce(logging.Filter):
    """Drops a text of `warn` that this handler has had before."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is handled."""
        if getattr(record, "kind", None) != _WARNING:
            return True
        text = record.getMessage()
        is_new = text not in self._seen
        self._seen.add(text)
        return is_new


class _StderrHandler(logging.Handler):
    """Writes notes as they are, other records as `mnistcli: <level>: <message>`.

    Args:
        level: records below are dropped; notes and announcements are not.
        shows_notes: otherwise a note is an ordinary record of level INFO.
    """

    def __init__(self, level: int, *, shows_notes: bool) -> None:
        super().__init__(min(level, logging.INFO))
        self.addFilter(_WarnsOnce())
        self.shows_notes = shows_notes
        self._level = level

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record that the user has not been shown."""
        kind = getattr(record, "kind", None)
        if kind == _ANNOUNCEMENT or (kind == _NOTE and self.shows_notes):
            write_error_line(record.getMessage())
        elif record.levelno >= self._level and not getattr(record, "is_shown", False):
            for line in self.format(record).splitlines():
                write_error_line(f"{PROGRAM}: {record.levelname.lower()}: {line}")


class _Collector(logging.Handler):
    """Keeps the texts of `warn`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(_WarnsOnce())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning."""
        if getattr(record, "kind", None) == _WARNING:
            self.texts.append(record.getMessage())


class _FileFormatter(logging.Formatter):
    """One line: time with its zone, process, level, module, message; a traceback below it."""

    def __init__(self) -> None:
        line = "%(asctime)s.%(msecs)03d%(zone)s [%(process)d] %(levelname)s %(name)s: %(message)s"
        super().__init__(line, "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, without passwords."""
        record.zone = self.formatTime(record, "%z")
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the message in one line, whatever a file is called."""
        return make_printable(super().formatMessage(record))


class _FileHandler(logging.FileHandler):
    """Appends to a file; a full disk ends the log, not the command."""

    def _open(self) -> TextIOWrapper:
        """Open the file, unless another user's link or a hard link chose it."""
        path = Path(self.baseFilename)
        if path.is_symlink() and path.lstat().st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EPERM, "it is another user's link")
        descriptor = open_named_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            os.close(descriptor)
            raise PermissionError(errno.EPERM, "it is a hard link to another file")
        return os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Warn once that the log has ended; any other error is a bug in a logging call."""
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
        write_error_line(f"{PROGRAM}: warning: {what}")


def open_log(
    level: str | None = None, path: Path | None = None, *, shows_notes: bool = True
) -> None:
    """Install the handlers of a command, in place of those of the command before.

    Args:
        level: one of LEVELS: what is less is left out. None: `warning`, with a file `info`.
        path: file that the log is appended to, with times; stderr then has warnings and errors.
        shows_notes: whether stderr has notes.

    Raises:
        ResourceError: the file cannot be written.
        UsageError: it holds something else than text.
    """
    chosen = level or (DEFAULT_LEVEL if path is None else DEFAULT_FILE_LEVEL)
    number = logging.getLevelNamesMapping()[chosen.upper()]
    shown = number if path is None else max(number, logging.WARNING)
    handlers: list[logging.Handler] = [_StderrHandler(shown, shows_notes=shows_notes)]
    if path is not None:
        handlers.append(_open_file(path, number))
    close_log()  # only now: the handlers before report a file that cannot be opened
    if path is not None and number == logging.DEBUG:
        _redirection.enter_context(redirect_native_stderr(str(path)))
    _ROOT.setLevel(min(number, logging.INFO))  # notes are shown at every level
    _ROOT.propagate = False
    for handler in handlers:
        _ROOT.addHandler(handler)
        if number == logging.DEBUG:
            for name in _LIBRARIES:
                logging.getLogger(name).addHandler(handler)


def close_log() -> None:
    """Remove the handlers of a command; the logger is again as Python users have it."""
    _redirection.close()
    for logger in map(logging.getLogger, (PROGRAM, *_LIBRARIES)):
        for handler in list(logger.handlers):
            if isinstance(handler, _StderrHandler | _FileHandler):
                logger.removeHandler(handler)
                handler.close()
    _ROOT.setLevel(logging.NOTSET)
    _ROOT.propagate = True


def _open_file(path: Path, level: int) -> _FileHandler:
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
    handler.setLevel(level)
    handler.addFilter(_WarnsOnce())
    handler.setFormatter(_FileFormatter())
    return handler
