"""The program: its commands, and what becomes of every way in which one can end."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Annotated

import typer
import typer.main
from rich.markup import escape

from mnistcli import __version__
from mnistcli.backend import is_debugging
from mnistcli.cli import evaluate, predict, summary, train
from mnistcli.cli.signals import end_by_signal
from mnistcli.console.streams import PROGRAM, report_error, write_error_line
from mnistcli.errors import ExitCode, MnistcliError, ResourceError, UsageError

app = typer.Typer(
    name=PROGRAM,
    help="Train, evaluate, use and inspect small Keras classifiers from the shell.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _add_command(function: Callable[..., None], examples: str) -> None:
    """Add a command; its help is its docstring, a paragraph a line, and its examples."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
    app.command(help=text, epilog=f"Examples:\n{escape(examples)}".rstrip())(function)


_add_command(train.train, train.EXAMPLES)
_add_command(evaluate.evaluate, evaluate.EXAMPLES)
_add_command(predict.predict, predict.EXAMPLES)
_add_command(summary.summary, summary.EXAMPLES)


def _print_version(value: bool) -> None:
    """Answer `--version` before anything else is looked at."""
    if value:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Train, evaluate, use and inspect small Keras classifiers from the shell."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and leave the process with the exit code that its end means."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.excepthook = _report_bug
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(run(words))


def run(words: Sequence[str]) -> int:
    """Run one command line and return its exit code; every failure has been reported."""
    try:
        command = typer.main.get_command(app)  # app() itself would replace sys.excepthook
        code = command.main(list(words), PROGRAM, standalone_mode=False) or ExitCode.DONE
        sys.stdout.flush()
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(error.format_message() + "\n")
            return ExitCode.USAGE
        return _fail(UsageError("", error.format_message().rstrip("."), _help_hint(words)), words)
    except MnistcliError as error:
        return _fail(error, words)
    except MemoryError:
        hint = "use a smaller network, batch or data set"
        return _fail(ResourceError("memory", "there is not enough of it", hint), words)
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.SIGPIPE
    if code > 128:
        end_by_signal(code - 128)
    return int(code)


def _help_hint(words: Sequence[str]) -> str:
    """Name the help that fits a command line."""
    commands = [word for word in words[:1] if not word.startswith("-")]
    return f"see {' '.join([PROGRAM, *commands, '--help'])}"


def _fail(error: MnistcliError, words: Sequence[str]) -> int:
    """Report a failure where people and where scripts look for it, and return its exit code."""
    if is_debugging():
        traceback.print_exception(error)
    report_error(error)
    if {"--json", "--jsonl"} & set(words):
        from mnistcli.console.streams import Output
        from mnistcli.results import describe_error

        Output().print_json(describe_error(error))
    return int(error.code)


def _report_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say in one line that this is our mistake, not the user's; Python then exits with 1."""
    if is_debugging():
        traceback.print_exception(kind, error, trace)
    what = " ".join(f"{kind.__name__}: {error}".split())
    write_error_line(
        f"{PROGRAM}: error: internal: {what}. This is a bug in {PROGRAM}: --debug shows where"
    )
