"""Typer's words for a wrong command line become ours: the place, the mistake, the way out."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import typer

from mnistcli.cli.command import name_parameter
from mnistcli.errors import UsageError
from mnistcli.output.terminal import PROGRAM


def explain_usage(error: typer.TyperException, words: Sequence[str], program: Any) -> UsageError:
    """Return what is wrong with a command line.

    Typer exports only the base of its exceptions; what the others know is in their attributes.

    Args:
        error: what Typer makes of it.
        words: the command line without the program's name.
        program: Typer's command of the whole program.
    """
    path, commands = _follow(words, program)
    command, left = " ".join([PROGRAM, *path]), words[len(path) :]
    see_help = f"see {command} --help"
    if commands and left and not left[0].startswith("-"):
        near = difflib.get_close_matches(left[0], commands, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(commands)}"
        return UsageError(left[0], "no such command", hint)
    flag = getattr(error, "option_name", None)
    if flag is not None and hasattr(error, "possibilities"):
        certainty = 0.6 if path else 0.8  # every command's flags are near to one of the two
        near = difflib.get_close_matches(flag, error.possibilities or (), 1, certainty)
        if not (near or path):
            see_help = f"flags stand behind the command; {see_help}"
        return UsageError(flag, "no such flag", f"did you mean {near[0]}?" if near else see_help)
    parameter = getattr(error, "param", None)
    if parameter is not None:
        return _explain_parameter(error, parameter, see_help)
    where = flag or command
    what = error.format_message().removeprefix(f"Option {flag!r} ")
    return UsageError(where, _to_phrase(what), see_help)


def _follow(words: Sequence[str], program: Any) -> tuple[list[str], list[str]]:
    """Return the words that name a command, and the commands that could follow them."""
    path: list[str] = []
    for word in words:
        if word not in getattr(program, "commands", ()):
            break
        program = program.commands[word]
        path.append(word)
    return path, list(getattr(program, "commands", ()))


def _explain_parameter(error: typer.TyperException, parameter: object, see_help: str) -> UsageError:
    """Say what is wrong with a flag's or an argument's value, or that it is missing."""
    where = name_parameter(parameter)
    if hasattr(error, "param_type"):
        return UsageError(where, "missing", see_help)
    return UsageError(where, _to_phrase(str(getattr(error, "message", ""))), see_help)


def _to_phrase(sentence: str) -> str:
    """Turn a sentence into what stands after a colon."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
