"""How commands are made: their help, and what they refuse where Typer would drop a part of it."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from mnistcli.cli.log_flags import with_log
from mnistcli.errors import UsageError


class Group(TyperGroup):
    """A group of commands; the program is one."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the flags; help shows no type for those that take no value."""
        return _hide_switches_types(super().get_params(ctx))


class Command(TyperCommand):
    """A command of which no flag is given twice, no value is empty, no argument too many."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return flags and arguments; help shows no type for flags that take no value."""
        return _hide_switches_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Look at all that was typed, then let Typer parse it.

        Raises:
            UsageError: a flag's first value would be dropped, an argument has no place, or a
                value is empty, as an unset variable of the shell's is.
        """
        values, left_over, parameters = self.make_parser(ctx).parse_args(list(args))
        asks_for_help = any(set(p.opts) & set(ctx.help_option_names) for p in parameters)
        if not (asks_for_help or ctx.resilient_parsing):
            _refuse_second_values(parameters)
            _refuse_empty_values(parameters, values)
            _refuse_left_over(left_over, ctx)
        return super().parse_args(ctx, args)


def make_group(name: str, about: str, examples: str) -> typer.Typer:
    """Return a group without commands yet.

    Args:
        name: the word that its commands stand behind.
        about: its help.
        examples: command lines, one a line, that its help ends with.
    """
    return typer.Typer(
        name=name,
        cls=Group,
        help=about,
        epilog=_show_examples(examples),
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,  # ours is in mnistcli.cli.shells
    )


def add_command(
    group: typer.Typer, function: Callable[..., None], examples: str, name: str | None = None
) -> None:
    """Add a command; its help is its docstring, a paragraph a line, and its examples.

    Args:
        group: what it is added to.
        function: carries it out.
        examples: command lines, one a line.
        name: null for the function's.
    """
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
    add = group.command(name, cls=Command, help=text, epilog=_show_examples(examples))
    add(with_log(function))


def _show_examples(examples: str) -> str:
    """Their brackets are no markup."""
    return f"Examples:\n{escape(examples)}".rstrip()


def _hide_switches_types(parameters: list[Any]) -> list[Any]:
    """`<bool>` behind `--json` looks as if something had to be given there."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def name_parameter(parameter: Any) -> str:
    """Call a flag or an argument as the help does."""
    flags = [name for name in parameter.opts if name.startswith("-")]
    return flags[0] if flags else str(parameter.metavar)


def _refuse_second_values(parameters: list[Any]) -> None:
    """A switch may stand twice; of two values one would be lost."""
    flags = [
        name_parameter(one)
        for one in parameters
        if one.param_type_name == "option" and not one.is_flag and not one.multiple
    ]
    twice = next((flag for flag, count in Counter(flags).items() if count > 1), None)
    if twice is not None:
        raise UsageError(twice, "given more than once", "give it once")


def _refuse_empty_values(parameters: list[Any], values: Mapping[str, Any]) -> None:
    """An empty path would mean the working directory, an empty number null."""
    for parameter in parameters:
        value = values.get(parameter.name)
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            hint = "give it a value, or leave it out"
            raise UsageError(name_parameter(parameter), "its value is empty", hint)


def _refuse_left_over(words: list[str], ctx: Any) -> None:
    """Typer's own words for it name no place."""
    if words:
        hint = f"see {ctx.command_path} --help"
        raise UsageError(words[0], f"one argument more than {ctx.info_name} takes", hint)
