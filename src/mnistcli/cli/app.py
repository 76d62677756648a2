"""The program: its commands, and what becomes of every way in which one can end."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated

import typer
import typer.main

from mnistcli import __version__
from mnistcli.cli import (
    compare,
    data,
    doctor,
    evaluate,
    ls,
    plot,
    predict,
    recipes,
    report,
    reproduce,
    summary,
    sweep,
    train,
)
from mnistcli.cli.command import add_command, make_group
from mnistcli.cli.log_flags import Invocation, LogFile, LogLevel, drop_log_flags
from mnistcli.cli.options import InstallCompletion, ShowCompletion
from mnistcli.cli.shells import SHELL_VARIABLE, answer_shell
from mnistcli.cli.usage import explain_usage
from mnistcli.commands.signals import Stopped, end_by_signal, unwind_on_signals
from mnistcli.errors import ExitCode, GateError, MnistcliError, ResourceError
from mnistcli.output.logs import close_log, open_log
from mnistcli.output.terminal import (
    PROGRAM,
    SHOWN,
    abandon_stdout,
    open_missing_streams,
    report_error,
    write_error_line,
)
from mnistcli.tensorflow_import import is_debugging

_LOG = logging.getLogger(__name__)
_EXAMPLES = """
mnistcli train mnist-mlp -o mlp.h5
mnistcli evaluate mlp.h5
mnistcli predict mlp.h5 digit.png
mnistcli recipes list
"""

app = make_group(
    PROGRAM,
    "Train, evaluate, use and inspect small Keras classifiers from the shell.",
    _EXAMPLES,
)
_add_command = functools.partial(add_command, app)
_add_command(train.train, train.EXAMPLES)
_add_command(evaluate.evaluate, evaluate.EXAMPLES)
_add_command(predict.predict, predict.EXAMPLES)
_add_command(summary.summary, summary.EXAMPLES)
_add_command(ls.ls, ls.EXAMPLES)
_add_command(compare.compare, compare.EXAMPLES)
_add_command(sweep.sweep, sweep.EXAMPLES)
_add_command(plot.plot, plot.EXAMPLES)
_add_command(data.data, data.EXAMPLES)
_add_command(report.report, report.EXAMPLES)
_add_command(reproduce.reproduce, reproduce.EXAMPLES)
_add_command(doctor.doctor, doctor.EXAMPLES)

_recipes = make_group(
    "recipes", "List, show and copy the configs that come with the tool.", recipes.EXAMPLES
)
add_command(_recipes, recipes.list_recipes, recipes.LIST_EXAMPLES, "list")
add_command(_recipes, recipes.show_recipe, recipes.SHOW_EXAMPLES, "show")
add_command(_recipes, recipes.copy_recipe, recipes.COPY_EXAMPLES, "copy")
add_command(_recipes, recipes.print_schema, recipes.SCHEMA_EXAMPLES, "schema")
app.add_typer(_recipes)


def _print_version(value: bool) -> None:
    """Answer `--version` before anything else is looked at."""
    if value:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        raise typer.Exit


@app.callback()
def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    show_completion: ShowCompletion = None,
    install_completion: InstallCompletion = None,
    log_level: LogLevel = None,
    log_file: LogFile = None,
) -> None:
    """Train, evaluate, use and inspect small Keras classifiers from the shell."""
    del version, show_completion, install_completion  # answered when it was parsed
    context.obj = Invocation(tuple(context.obj or ()), log_level, log_file)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and leave the process with the exit code that its end means."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    unwind_on_signals()
    open_missing_streams()
    sys.excepthook = functools.partial(_report_bug, words)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = run(words)
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.flush()
    os._exit(code)  # taking TensorFlow down politely takes most of a second, for nothing


def run(words: Sequence[str]) -> int:
    """Run one command line and return its exit code; every failure has been reported."""
    code = _run_command(words)
    close_log()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
        code = code or ExitCode.SIGPIPE
    if code > 128:
        end_by_signal(code - 128)
    return int(code)


def _run_command(words: Sequence[str]) -> int:
    """Carry a command line out, and report how it failed."""
    command = typer.main.get_command(app)  # app() itself would replace sys.excepthook
    open_log()
    try:
        if SHELL_VARIABLE in os.environ:
            sys.stdout.writelines(f"{row}\n" for row in answer_shell(command))
            return ExitCode.DONE
        if not words:
            with contextlib.redirect_stdout(sys.stderr):  # nobody asked for this answer
                command.main(["--help"], PROGRAM, standalone_mode=False)
            return ExitCode.USAGE
        code = command.main(list(words), PROGRAM, standalone_mode=False, obj=words)
        return code or ExitCode.DONE
    except typer.TyperException as error:
        return _fail(explain_usage(error, drop_log_flags(words), command), words)
    except MnistcliError as error:
        return _fail(error, words)
    except MemoryError:
        hint = "use a smaller network, batch or data set"
        return _fail(ResourceError("memory", "there is not enough of it", hint), words)
    except Stopped as stopped:
        return 128 + stopped.number
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.SIGINT
    except (BrokenPipeError, SystemExit):  # Typer exits where the system reports a closed pipe
        return ExitCode.SIGPIPE
    except OSError as error:
        return _fail(_blame_environment(error), words)


def _blame_environment(error: OSError) -> ResourceError:
    """Say what the system refused; without a file's name it was the writing of the answer."""
    if error.filename is None:
        abandon_stdout()
    where, what = str(error.filename or "output"), error.strerror or str(error)
    return ResourceError(where, what[:1].lower() + what[1:], "--debug shows where")


def _wants_json(words: Sequence[str]) -> bool:
    """Tell whether a script reads stdout; a command line may be too wrong to be parsed."""
    return bool({"--json", "--jsonl"} & set(words))


def _fail(error: MnistcliError, words: Sequence[str]) -> int:
    """Report a failure where people and where scripts look for it, and return its exit code."""
    if is_debugging():
        traceback.print_exception(error)
    report_error(error)
    _LOG.debug("where it failed", exc_info=error)
    if _wants_json(words) and not isinstance(error, GateError):  # its results came with it
        from mnistcli.output.results import ErrorResult, describe_error
        from mnistcli.output.terminal import Output

        with contextlib.suppress(BrokenPipeError):  # the failure's own code tells more
            Output().print_json(ErrorResult(error=describe_error(error)))
    return int(error.code)


def _report_bug(
    words: Sequence[str],
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    """Say in one line that this is our mistake, not the user's; Python then exits with 1."""
    if is_debugging():
        traceback.print_exception(kind, error, trace)
    _LOG.error("a bug", exc_info=(kind, error, trace), extra=SHOWN)
    what = " ".join(f"{kind.__name__}: {error}".split())
    hint = f"this is a bug in {PROGRAM}: --debug shows where"
    write_error_line(f"{PROGRAM}: error: internal: {what}. {hint[0].upper()}{hint[1:]}")
    if _wants_json(words):
        from mnistcli.output.results import ErrorDetail, ErrorResult
        from mnistcli.output.terminal import Output

        detail = ErrorDetail(
            code=ExitCode.BUG, kind="internal", where="internal", message=what, hint=hint
        )
        Output().print_json(ErrorResult(error=detail))
