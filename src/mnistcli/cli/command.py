"""A command line that is refused where Typer would take a part of it and drop the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand

from mnistcli.console.streams import PROGRAM
from mnistcli.errors import UsageError


class Command(TyperCommand):
    """A command of which no flag is given twice, no value is empty, no argument too many."""

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
            _refuse_left_over(left_over, str(ctx.info_name))
        return super().parse_args(ctx, args)


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


def _refuse_left_over(words: list[str], command: str) -> None:
    """Typer's own words for it name no place."""
    if words:
        hint = f"see {PROGRAM} {command} --help"
        raise UsageError(words[0], f"one argument more than {command} takes", hint)
