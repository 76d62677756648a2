"""The two streams: answers go to stdout, all other talk to stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Literal, TextIO

from mnistcli.errors import MnistcliError, Problem, make_printable

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console, RenderableType

PROGRAM = "mnistcli"
Progress = Literal["auto", "bar", "lines", "none"]
SHOWN = {"is_shown": True}  # marks records of what stderr has had already
NO_LIMIT = 100_000  # columns: answers are never wrapped or cut, a terminal may wrap them itself

_LOG = logging.getLogger(__name__)


def is_terminal(stream: TextIO) -> bool:
    """Tell whether bars and colours make sense on a stream."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def choose_progress(asked: Progress, *, silent: bool) -> Progress:
    """Return how progress is shown on stderr.

    Args:
        asked: by the user; `auto` is a bar on a terminal and lines off it.
        silent: `auto` is nothing at all.
    """
    if asked != "auto":
        return asked
    if silent:
        return "none"
    return "bar" if is_terminal(sys.stderr) else "lines"


def make_console(
    stream: TextIO, *, width: int | None = None, terminal: bool | None = None
) -> Console:
    """Return a Rich console that styles on terminals only and takes text as it is.

    Args:
        stream: where it writes.
        width: in columns; null for the terminal's.
        terminal: whether the stream is taken for one; null: whether it is.
    """
    from rich.console import Console

    return Console(
        file=stream,
        width=width,
        force_terminal=is_terminal(stream) if terminal is None else terminal,
        highlight=False,
        markup=False,  # brackets and colons in file names are no markup
        emoji=False,
    )


class Output:
    """Where a command's words go.

    Args:
        quiet: drop notes; warnings, errors and answers stay.
        outlives_reader: a reader that has gone away (`| head -1`) is remembered in `is_closed`,
            not raised: a training run does not end because nobody reads its progress.
        progress: how downloads are shown.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        outlives_reader: bool = False,
        progress: Progress = "auto",
    ) -> None:
        self.progress: Progress = choose_progress(progress, silent=False)
        self._quiet = quiet
        self._outlives_reader = outlives_reader
        self.is_closed = False

    def print_json(self, answer: BaseModel) -> None:
        """Write an answer as one line of JSON on stdout, in ASCII where stdout takes no more."""
        text = answer.model_dump_json(by_alias=True)
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            text = json.dumps(json.loads(text), separators=(",", ":"))
        self.print_line(text)

    def print_line(self, line: str) -> None:
        """Write one line of the answer on stdout; BrokenPipeError where nobody reads it."""
        if self.is_closed:
            return
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            if not self._outlives_reader:
                raise
            abandon_stdout()
            self.is_closed = True

    def print_table(self, *renderables: RenderableType) -> None:
        """Write the answer for people on stdout, one thing below the other."""
        console = make_console(sys.stdout, width=NO_LIMIT)
        with console.capture() as captured:
            console.print(*renderables, sep="\n")
        self.print_line("\n".join(line.rstrip() for line in captured.get().splitlines()))

    def note(self, line: str) -> None:
        """Tell something useful on stderr; silent under `-q`."""
        from mnistcli.output.logs import announce

        if self._quiet:
            _LOG.info(line)
        else:
            announce(line)

    def warn(self, line: str) -> None:
        """Tell something on stderr that the user should not miss, once."""
        from mnistcli.output.logs import warn

        warn(line)


def open_missing_streams() -> None:
    """Lead streams nowhere that the process was started without (`>&-`).

    Otherwise the next file that is opened takes their number, and is written into.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    # They live as long as the process does.
    sys.stdin = sys.stdin or os.fdopen(0, "r")
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def abandon_stdout() -> None:
    """Let nothing try a stdout again that takes no more, Python's own last flush included."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_error_line(line: str) -> None:
    """Write one line on stderr; where nobody listens there is nobody to tell."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def report_error(error: MnistcliError) -> None:
    """Write each problem of a failure as one line on stderr."""
    for problem in error.problems:
        report_problem(problem)


def report_problem(problem: Problem) -> None:
    """Write `mnistcli: error: <where>: <what>. <way out>`."""
    write_error_line(f"{PROGRAM}: error: {problem}")
    _LOG.error(make_printable(str(problem)), extra=SHOWN)
