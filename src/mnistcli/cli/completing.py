"""A command line that is still being typed, and the words that its last one can become."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from mnistcli.cli.completion import Completion
from mnistcli.output.terminal import PROGRAM


def complete_line(program: Any, line: str) -> Iterator[Completion]:
    """Yield what the last word of a command line can become, as whole words.

    Args:
        program: Typer's command of the whole program.
        line: as typed, quotes included, up to the cursor.
    """
    typed_words = split_line(line)
    typed = typed_words.pop()
    command, words = _find_command(program, typed_words[1:])
    known = [] if hasattr(command, "commands") else list(words)
    context = command.make_context(PROGRAM, known, resilient_parsing=True)
    prefix, flag = "", words[-1] if words else ""
    if typed.startswith("--") and "=" in typed:
        flag, _, typed = typed.partition("=")
        prefix = f"{flag}="
    asked = _find_option(command, flag) or _choose_asked(command, context, words, typed)
    for item in asked.shell_complete(context, typed):
        yield prefix + item.value, " ".join((item.help or "").split()).partition(". ")[0]


def split_line(line: str) -> list[str]:
    """Split a line as a shell does, whose last word, perhaps empty, may lack its closing quote."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        for word in lexer:
            words.append(word)
    except ValueError:
        return [*words, lexer.token]
    return [*words, ""] if not words or line[-1].isspace() else words


def _find_command(program: Any, words: list[str]) -> tuple[Any, list[str]]:
    """Go down to the command that the words name; return the words behind it."""
    commands = getattr(program, "commands", {})
    for number, word in enumerate(words):
        if word in commands:
            return _find_command(commands[word], words[number + 1 :])
    return program, words


def _find_option(command: Any, flag: str) -> Any:
    """Return the option that takes the word behind a flag; null where none does."""
    return next(
        (
            parameter
            for parameter in command.params
            if flag in parameter.opts
            and parameter.param_type_name == "option"
            and not parameter.is_flag
        ),
        None,
    )


def _choose_asked(command: Any, context: Any, words: list[str], typed: str) -> Any:
    """A dash asks for flags; other words go to the first argument that has room."""
    if typed.startswith("-") and "--" not in words:
        return command
    for parameter in command.params:
        if parameter.param_type_name == "argument" and (
            parameter.nargs == -1 or not context.params.get(parameter.name)
        ):
            return parameter
    return command
