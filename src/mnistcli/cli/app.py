"""The program: its commands, the errors of a command line, and exit codes."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

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
from mnistcli.cli.completion import SHELL_VARIABLE, complete_for_shell
from mnistcli.cli.options import (
    InstallCompletionOption,
    Invocation,
    LogFileOption,
    LogLevelOption,
    ShowCompletionOption,
    drop_log_flags,
    with_log,
)
from mnistcli.config.suggestions import find_nearest
from mnistcli.errors import (
    ExitCode,
    MnistcliError,
    ResourceError,
    UsageError,
    quote_words,
    redact,
)
from mnistcli.output.logs import SHOWN, close_log, open_log, report_error
from mnistcli.output.terminal import (
    PROGRAM,
    abandon_stdout,
    open_standard_streams,
    write_error_line,
)
from mnistcli.process_limits import start_no_threads, translate_shortages
from mnistcli.signals import SignalReceived, end_by_signal, install_handlers
from mnistcli.tensorflow_import import is_debugging

if TYPE_CHECKING:
    from mnistcli.output.results import ErrorDetail

_LOG = logging.getLogger(__name__)
_EXAMPLES = """
mnistcli train mnist-mlp -o mlp.h5
mnistcli evaluate mlp.h5
mnistcli predict mlp.h5 digit.png
mnistcli recipes list
"""


class Group(TyperGroup):
    """A group of commands, such as the program itself."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the flags; help shows no type for switches."""
        return _hide_types_of_switches(super().get_params(ctx))


class Command(TyperCommand):
    """A command that refuses flags given twice, empty values and superfluous arguments."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return flags and arguments; help shows no type for switches."""
        return _hide_types_of_switches(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Check the words of a command line, then let Typer parse them.

        Raises:
            UsageError: a flag is given twice, an argument is superfluous, or a value is empty, as
                an unset shell variable is.
        """
        values, left_over, parameters = self.make_parser(ctx).parse_args(list(args))
        asks_for_help = any(set(p.opts) & set(ctx.help_option_names) for p in parameters)
        if not (asks_for_help or ctx.resilient_parsing):
            _refuse_second_values(parameters)
            _refuse_empty_values(parameters, values)
            _refuse_flags_as_values(parameters, values, ctx)
            _refuse_extra_arguments(left_over, ctx)
        return super().parse_args(ctx, args)


def make_group(name: str, about: str, examples: str) -> typer.Typer:
    """Return a group without commands.

    Args:
        name: the word before its commands.
        about: its help.
        examples: command lines, one per line, at the end of its help.
    """
    return typer.Typer(
        name=name,
        cls=Group,
        help=about,
        epilog=_show_examples(examples),
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,  # ours is in mnistcli.cli.completion
    )


def add_command(
    group: typer.Typer, function: Callable[..., None], examples: str, name: str | None = None
) -> None:
    """Add a command, whose help is its docstring and its examples.

    Args:
        group: of commands.
        function: runs it.
        examples: command lines, one per line.
        name: None for the function's.
    """
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
    add = group.command(name, cls=Command, help=text, epilog=_show_examples(examples))
    add(with_log(function))


def _hide_types_of_switches(parameters: list[Any]) -> list[Any]:
    # `<bool>` after `--json` looks as if a value had to be given.
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def _name_parameter(parameter: Any) -> str:
    """Return the name of a flag or an argument in the help."""
    flags = [name for name in parameter.opts if name.startswith("-")]
    return flags[0] if flags else str(parameter.metavar)


def _refuse_second_values(parameters: list[Any]) -> None:
    # Of two values one would be lost; a switch may be repeated.
    flags = [
        _name_parameter(one)
        for one in parameters
        if one.param_type_name == "option" and not one.is_flag and not one.multiple
    ]
    twice = next((flag for flag, count in Counter(flags).items() if count > 1), None)
    if twice is not None:
        raise UsageError(twice, "given more than once", "give it once")


def _refuse_empty_values(parameters: list[Any], values: Mapping[str, Any]) -> None:
    # An empty path would mean the working directory, an empty number None.
    for parameter in parameters:
        value = values.get(parameter.name)
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            hint = "give it a value, or leave it out"
            raise UsageError(_name_parameter(parameter), "its value is empty", hint)


def _refuse_flags_as_values(parameters: list[Any], values: Mapping[str, Any], ctx: Any) -> None:
    # Of `--resume --epochs 5`, --epochs would be the file's name.
    flags = {name for parameter in ctx.command.params for name in parameter.opts}
    for parameter in parameters:
        value = values.get(parameter.name)
        if parameter.param_type_name == "option" and isinstance(value, str) and value in flags:
            hint = f"give it a value before {value}"
            raise UsageError(_name_parameter(parameter), "requires an argument", hint)


def _refuse_extra_arguments(words: list[str], ctx: Any) -> None:
    if not words:
        return
    named = [p.metavar for p in ctx.command.params if p.param_type_name == "argument"]
    takes = f"one {' and one '.join(named)}" if named else "no arguments"
    what, hint = f"unexpected argument: {ctx.info_name} takes {takes}", ""
    key, is_assignment, value = words[0].partition("=")
    if is_assignment and any("--set" in p.opts for p in ctx.command.params):
        from mnistcli.config.messages import find_key, suggest_assignment

        found = find_key(key.rpartition(".")[2])
        hint = suggest_assignment(found, value) if found else ""
    raise UsageError(words[0], what, hint or f"see {ctx.command_path} --help")


def _show_examples(examples: str) -> str:
    return f"Examples:\n{escape(examples)}".rstrip()


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and end the process with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    install_handlers()
    open_standard_streams()
    sys.excepthook = functools.partial(_report_bug, words)
    code = run(words)
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.flush()
    os._exit(code)  # TensorFlow's orderly shutdown takes most of a second


def run(words: Sequence[str]) -> int:
    """Run a command line, report its error, if any, and return the exit code."""
    code = _run_command(words)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
        code = code or ExitCode.SIGPIPE
    except OSError as error:
        code = code or _report_failure(_explain_system_error(error), ())
    close_log()
    if code > 128:
        end_by_signal(code - 128)
    return int(code)


def _print_version(value: bool) -> None:
    """Print the version before anything else is parsed."""
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
    show_completion: ShowCompletionOption = None,
    install_completion: InstallCompletionOption = None,
    log_level: LogLevelOption = None,
    log_file: LogFileOption = None,
) -> None:
    """Train, evaluate, use and inspect small Keras classifiers from the shell."""
    del version, show_completion, install_completion  # answered when it was parsed
    context.obj = Invocation(tuple(context.obj or ()), log_level, log_file)


def _run_command(words: Sequence[str]) -> int:
    command = typer.main.get_command(app)  # app() itself would replace sys.excepthook
    open_log()
    try:
        if SHELL_VARIABLE in os.environ:
            sys.stdout.writelines(f"{row}\n" for row in complete_for_shell(command))
            return ExitCode.SUCCESS
        if not words:
            with contextlib.redirect_stdout(sys.stderr):  # help that was not asked for
                command.main(["--help"], PROGRAM, standalone_mode=False)
            return ExitCode.USAGE
        with translate_shortages():
            code = command.main(list(words), PROGRAM, standalone_mode=False, obj=words)
        return code or ExitCode.SUCCESS
    except typer.TyperException as error:
        return _report_failure(_explain_usage(error, drop_log_flags(words), command), words)
    except MnistcliError as error:
        return _report_failure(error, words)
    except SignalReceived as received:
        return _report_signal(received)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.SIGINT
    except (BrokenPipeError, SystemExit):  # Typer exits where the system reports a closed pipe
        return ExitCode.SIGPIPE
    except OSError as error:
        return _report_failure(_explain_system_error(error), words)


def _report_signal(received: SignalReceived) -> int:
    """Return the exit code of a signal, and report an error that it came with."""
    if isinstance(received.__cause__, MnistcliError):  # a run that diverged just then
        report_error(received.__cause__)
    return 128 + received.number


def _report_failure(error: MnistcliError, words: Sequence[str]) -> int:
    """Report an error on stderr, and with --json on stdout; return its exit code."""
    if is_debugging():
        _print_traceback(error)
    report_error(error)
    _LOG.debug("where it failed", exc_info=error)
    if _wants_json(words) and not error.is_answered:
        start_no_threads()  # NumPy comes with the results
        from mnistcli.output.results import describe_error

        _print_error(describe_error(error))
    return int(error.code)


def _print_traceback(error: BaseException) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(error))))


def _print_error(detail: ErrorDetail) -> None:
    """Print an error under --json; that stdout takes nothing is said, and changes no exit code."""
    from mnistcli.output.results import ErrorResult
    from mnistcli.output.terminal import print_json

    try:
        print_json(ErrorResult(error=detail))
    except BrokenPipeError:
        abandon_stdout()
    except OSError as error:
        report_error(_explain_system_error(error))


def _wants_json(words: Sequence[str]) -> bool:
    # Not parsed: the command line may be wrong.
    return bool({"--json", "--jsonl"} & set(words))


def _explain_system_error(error: OSError) -> ResourceError:
    """Return the error of the system; without a file's name it was writing to stdout."""
    if error.filename is None:
        abandon_stdout()
    where, what = str(error.filename or "output"), error.strerror or str(error)
    return ResourceError(where, what[:1].lower() + what[1:], "--debug shows where")


def _report_bug(
    words: Sequence[str],
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    """Report a bug in one line; Python then exits with 1."""
    if is_debugging():
        _print_traceback(error.with_traceback(trace))
    _LOG.error("a bug", exc_info=(kind, error, trace), extra=SHOWN)
    what = redact(" ".join(f"{kind.__name__}: {error}".split()))
    hint = f"this is a bug in {PROGRAM}: --debug shows where"
    write_error_line(f"{PROGRAM}: error: internal: {what}. {hint[0].upper()}{hint[1:]}")
    if _wants_json(words):
        from mnistcli.output.results import ErrorDetail

        detail = ErrorDetail(
            code=ExitCode.INTERNAL_ERROR, kind="internal", where="internal", message=what, hint=hint
        )
        _print_error(detail)


def _explain_usage(error: typer.TyperException, words: Sequence[str], program: Any) -> UsageError:
    """Turn Typer's error about a command line into a UsageError.

    Typer exports only the base of its exceptions; what the others know is in their attributes.

    Args:
        error: Typer's.
        words: the command line without the program's name.
        program: Typer's command of the whole program.
    """
    path, commands = _find_commands(words, program)
    command, left = " ".join([PROGRAM, *path]), words[len(path) :]
    see_help = f"see {command} --help"
    if commands and left and not left[0].startswith("-"):
        near = find_nearest(left[0], [*commands, *([] if path else ["--version", "--help"])])
        hint = f"did you mean {near}?" if near else f"choose one of {', '.join(commands)}"
        return UsageError(left[0], "no such command", hint)
    flag = getattr(error, "option_name", None)
    if flag is not None and hasattr(error, "possibilities"):
        return _explain_flag(flag, words, error, see_help)
    parameter = getattr(error, "param", None)
    if parameter is not None:
        return _explain_parameter(error, parameter, command)
    where = flag or command
    what = error.format_message().removeprefix(f"Option {flag!r} ")
    return UsageError(where, _to_phrase(what), see_help)


def _explain_flag(
    flag: str, words: Sequence[str], error: typer.TyperException, see_help: str
) -> UsageError:
    """Return the error for an unknown flag, with the one that was probably meant."""
    from mnistcli.config.messages import suggest_flag

    context: Any = getattr(error, "ctx", None)
    if getattr(context, "parent", None) is None:  # before the command
        flags = [name for p in context.command.params for name in p.opts] if context else []
        near = find_nearest(flag, flags, 0.8)
        behind = f"flags stand behind the command; {see_help}"
        return UsageError(flag, "no such flag", f"did you mean {near}?" if near else behind)
    # Of -lr only -l is reported.
    typed = next((word for word in words if word.split("=")[0] == flag), None)
    typed = typed or next((word for word in words if word.startswith(flag)), flag)
    name, has_value, value = typed.partition("=")
    following = words[words.index(typed) + 1 :] if typed in words else ()
    if not has_value and following and not following[0].startswith("-"):
        value = following[0]
    plain = name.lstrip("-").removesuffix("s")
    for parameter in context.command.params:
        named = parameter.name.removesuffix("s")
        if parameter.param_type_name == "argument" and plain in (named, named[0]):
            shown = f": {quote_words(value)}" if value else ""
            hint = f"give {parameter.metavar} without a flag{shown}"
            return UsageError(name, "no such flag", hint)
    flags = [name for p in context.command.params for name in p.opts if name.startswith("--")]
    hint = suggest_flag(name, value or None, flags)
    return UsageError(name, "no such flag", hint or see_help)


def _find_commands(words: Sequence[str], program: Any) -> tuple[list[str], list[str]]:
    """Return the words that name a command, and the names of the commands below it."""
    path: list[str] = []
    for word in words:
        if word not in getattr(program, "commands", ()):
            break
        program = program.commands[word]
        path.append(word)
    return path, list(getattr(program, "commands", ()))


def _explain_parameter(error: typer.TyperException, parameter: object, command: str) -> UsageError:
    """Return the error about a flag's or an argument's value, or that it is missing."""
    where, see_help = _name_parameter(parameter), f"see {command} --help"
    if hasattr(error, "param_type"):
        return UsageError(command, f"missing argument {where}", see_help)
    return UsageError(where, _to_phrase(str(getattr(error, "message", ""))), see_help)


def _to_phrase(sentence: str) -> str:
    """Turn a sentence into a phrase that follows a colon."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
