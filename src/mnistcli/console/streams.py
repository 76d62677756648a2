"""The two streams: answers go to stdout, all other talk to stderr."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from pydantic import BaseModel

from mnistcli.errors import MnistcliError, Problem

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PROGRAM = "mnistcli"
PIPE_WIDTH = 200  # columns; off a terminal nothing may be wrapped or cut


def is_terminal(stream: TextIO) -> bool:
    """Tell whether bars and colours make sense on a stream."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def make_console(stream: TextIO) -> Console:
    """Return a Rich console that is as wide as its text off a terminal."""
    from rich.console import Console

    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


class Output:
    """Where a command's words go.

    A reader that has gone away (`| head -1`) is remembered in `is_closed`, not raised: a
    training run does not end because nobody reads its progress.

    Args:
        quiet: drop notes; warnings, errors and answers stay.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self.is_closed = False

    def print_json(self, answer: BaseModel) -> None:
        """Write an answer as one line of JSON on stdout."""
        self.print_line(answer.model_dump_json(by_alias=True))

    def print_line(self, line: str) -> None:
        """Write one line of the answer on stdout."""
        if self.is_closed:
            return
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self._close()

    def print_table(self, *renderables: RenderableType) -> None:
        """Write the answer for people on stdout, one thing below the other."""
        if self.is_closed:
            return
        console = make_console(sys.stdout)
        try:
            if sys.stdout.isatty():
                console.print(*renderables, sep="\n")
            else:
                with console.capture() as captured:
                    console.print(*renderables, sep="\n")
                lines = (line.rstrip() for line in captured.get().splitlines())
                sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self._close()

    def note(self, line: str) -> None:
        """Tell something useful on stderr; silent under `-q`."""
        if not self._quiet:
            write_error_line(line)

    def warn(self, line: str) -> None:
        """Tell something on stderr that the user should not miss."""
        write_error_line(f"{PROGRAM}: warning: {line}")

    def _close(self) -> None:
        """Let nothing try the closed stdout again, the interpreter's own last flush included."""
        self.is_closed = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_error_line(line: str) -> None:
    """Write one line on stderr; where nobody listens there is nobody to tell."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def report_error(error: MnistcliError) -> None:
    """Write each problem of a failure as one line on stderr."""
    for problem in error.problems:
        report_problem(problem)


def report_problem(problem: Problem) -> None:
    """Write `mnistcli: error: <where>: <what>. <way out>`."""
    write_error_line(f"{PROGRAM}: error: {problem}")
