"""Writes results to stdout, in the form that was asked for, and lines to stderr."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from mnistcli.errors import make_displayable, make_printable, redact

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from typing_extensions import Buffer

    from mnistcli.errors import MnistcliError
    from mnistcli.output.results import Answer, AnswerPart

PROGRAM = "mnistcli"
ProgressMode = Literal["auto", "bar", "lines", "none"]
Form = Literal["text", "quiet", "json", "jsonl", "csv"]
NO_LIMIT = 100_000  # columns: answers are never wrapped or cut, a terminal may wrap them itself


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can show bars and colours."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def choose_progress(asked: ProgressMode, *, silent: bool) -> ProgressMode:
    """Return how progress is shown on stderr.

    Args:
        asked: value of `--progress`; `auto` is a bar on a terminal, otherwise lines.
        silent: `auto` shows nothing.
    """
    if asked != "auto":
        return asked
    if silent:
        return "none"
    return "bar" if is_terminal(sys.stderr) else "lines"


def make_console(
    stream: TextIO, *, width: int | None = None, terminal: bool | None = None
) -> Console:
    """Return a Rich console that styles on terminals only and prints text unchanged.

    It never hides the cursor, which a process that is stopped or killed could not show again.

    Args:
        stream: where it writes.
        width: in columns; None: the terminal's.
        terminal: whether the stream is treated as a terminal; None: whether it is one.
    """
    from rich.console import Console

    class CursorConsole(Console):
        """Leaves the cursor as it is."""

        def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002
            """Do nothing, unlike Rich's bars ask for."""
            return False

    return CursorConsole(
        file=stream,
        width=width,
        force_terminal=is_terminal(stream) if terminal is None else terminal,
        highlight=False,
        markup=False,  # brackets and colons in file names are no markup
        emoji=False,
    )


def emit(result: Answer, form: Form = "text", error: MnistcliError | None = None) -> None:
    """Print a command's result on stdout, then raise the error that belongs to it.

    A command ends with it: `emit(evaluate(...), form, find_failure(...))`. How a result looks is
    found by its type: `tables.render` for people, `results.list_quiet_lines` for `-q`,
    `results.format_csv` for `--csv`. JSON is the result's own, and the key `error` at its end.

    Args:
        result: of the command.
        form: asked for by the flags; `jsonl` is the whole result on a line of its own, after
            those that were printed as they came.
        error: a threshold that the result does not meet, for example.

    Raises:
        MnistcliError: the error.
        BrokenPipeError: the reader of stdout has gone.
    """
    if form in ("json", "jsonl"):
        print_json(result, error)
        if error is not None:
            error.is_answered = True
    elif form == "csv":
        print_csv(result)
    else:
        _print_text(result.make_displayable(), form)
    if error is not None:
        raise error


def _print_text(result: Answer, form: Form) -> None:
    from mnistcli.output.results import list_quiet_lines

    lines = list_quiet_lines(result) if form == "quiet" else None
    if lines is None:
        from mnistcli.output.tables import render

        print_parts(*render(result))
        return
    for line in lines:
        print_line(line)


def print_csv(result: Answer) -> None:
    """Write CSV on stdout: exact, but on a terminal, which a file's name must not control."""
    from mnistcli.output.results import format_csv

    text = format_csv(result)
    print_block("\n".join(map(make_printable, text.split("\n"))) if sys.stdout.isatty() else text)


def print_json(answer: AnswerPart, error: MnistcliError | None = None) -> None:
    """Write an answer, and the key `error` at its end, as one line of JSON on stdout."""
    print_block(format_json(answer, error))


def format_json(answer: AnswerPart, error: MnistcliError | None = None) -> str:
    """Return one line of JSON, in ASCII where it is not printable or not in stdout's encoding."""
    text = answer.dump_json()
    if error is not None:
        from mnistcli.output.results import describe_error

        text = f'{text[:-1]},"error":{describe_error(error).dump_json()}}}'
    with contextlib.suppress(UnicodeEncodeError):
        text.encode(sys.stdout.encoding or "utf-8")
        if text.isprintable():
            return text
    # All but DEL, which json takes for a letter.
    return json.dumps(json.loads(text), separators=(",", ":")).replace("\x7f", "\\u007f")


def print_parts(*parts: RenderableType) -> None:
    """Write lines and tables on stdout, one below the other; Rich is imported for tables only."""
    if all(isinstance(part, str) for part in parts):
        for part in parts:
            print_block(str(part))
    else:
        print_block(format_table(*parts))


def format_table(*renderables: RenderableType) -> str:
    """Return the text of tables and lines, one below the other, without trailing spaces."""
    console = make_console(sys.stdout, width=NO_LIMIT)
    with console.capture() as captured:
        console.print(*renderables, sep="\n")
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def print_line(line: str) -> None:
    """Write one line on stdout, printable; BrokenPipeError where its reader has gone."""
    print_block(make_displayable(line))


def print_block(text: str) -> None:
    """Write lines on stdout as they are, styles too; BrokenPipeError where the reader has gone."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        if not _pipe.is_ignored:
            raise
        abandon_stdout()
        _pipe.is_broken = True


class _Pipe:
    """Whether a command goes on without a reader of stdout, and whether it lost one."""

    is_ignored = False
    is_broken = False


_pipe = _Pipe()


@contextlib.contextmanager
def ignore_broken_pipe() -> Iterator[None]:
    """Finish a long command although the reader of stdout has gone (`| head -1`).

    Raises:
        BrokenPipeError: at the end, if that was so.
    """
    _pipe.is_ignored, _pipe.is_broken = True, False
    try:
        yield
    finally:
        _pipe.is_ignored = False
    if _pipe.is_broken:
        raise BrokenPipeError


def open_standard_streams() -> None:
    """Open stdout and stderr so that text is written whole or not without an error.

    Python's own are unbuffered under `python -u` and PYTHONUNBUFFERED, and then lose what the
    system did not take at once. Streams that the process was started without (`>&-`) become the
    null device: otherwise the next file that is opened takes their descriptor.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, "r")  # it lives as long as the process does
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.BufferedWriter(writer(number, "wb", closefd=False)),
            encoding=None if stream is None else stream.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )
        for number, stream, writer in (
            (1, sys.stdout, _BlockingWriter),
            (2, sys.stderr, _StderrWriter),
        )
    )


class _BlockingWriter(io.FileIO):
    """Waits for a reader that is slow, where the process got a pipe that does not block."""

    def write(self, data: Buffer, /) -> int:
        """Write what the system takes, at least a byte; return how many it were."""
        while (count := super().write(data)) is None:
            select.select([], [self], [])
        return count


class _StderrWriter(_BlockingWriter):
    """Drops what cannot be written: progress and notes end no command."""

    def write(self, data: Buffer, /) -> int:
        """Write what the system takes; all of it is counted as written after an error."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def format_command(*words: str, data_dir: Path | None = None) -> str:
    """Format a command that can be typed as it stands: quoted, and with the folder of its data."""
    where = [] if data_dir is None else ["--data-dir", str(data_dir)]
    return shlex.join([_name_program(), *words, *where])


def _name_program() -> str:
    """Return this program's name, or its path where PATH does not lead to it."""
    typed = Path(sys.argv[0])
    found = shutil.which(PROGRAM)
    if typed.name != PROGRAM or (found is not None and Path(found).samefile(typed)):
        return PROGRAM
    return os.path.relpath(typed)


def abandon_stdout() -> None:
    """Redirect stdout to the null device, so that Python's last flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_error_line(line: str) -> None:
    """Write one line on stderr, printable and without passwords.

    An error there is ignored, and so is what follows.
    """
    try:
        sys.stderr.write(make_displayable(redact(line)) + "\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
