"""`--log-level` and `--log-file`: before a command's name or behind it, for every command alike."""

from __future__ import annotations

import functools
import inspect
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mnistcli import __version__
from mnistcli.cli.completion import offer
from mnistcli.config.allowed_values import check_choice, join_choices
from mnistcli.errors import UsageError
from mnistcli.output.logs import DEFAULT_FILE_LEVEL, DEFAULT_LEVEL, LEVELS, open_log
from mnistcli.output.terminal import PROGRAM

_LEVEL, _FILE = "--log-level", "--log-file"
_KIND = inspect.Parameter.KEYWORD_ONLY
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

LogLevel = Annotated[
    str | None,
    typer.Option(
        _LEVEL,
        metavar=join_choices(LEVELS),
        help="How much of what happens, and why, is logged on stderr.",
        autocompletion=offer(LEVELS),
        show_default=f"{DEFAULT_LEVEL}; {DEFAULT_FILE_LEVEL} with {_FILE}",
        rich_help_panel="Output",
    ),
]
LogFile = Annotated[
    Path | None,
    typer.Option(
        _FILE,
        metavar="FILE",
        help="Append the log to this file instead, with times; warnings stay on stderr too.",
        rich_help_panel="Output",
    ),
]


@dataclass(frozen=True)
class Invocation:
    """A command line, and what was said about the log before the command's name."""

    words: tuple[str, ...] = ()
    level: str | None = None
    file: Path | None = None


def drop_log_flags(words: Sequence[str]) -> Sequence[str]:
    """Return a command line from its command's name on, where only these flags stand before it."""
    while words and words[0].split("=")[0] in (_LEVEL, _FILE):
        words = words[1 if "=" in words[0] else 2 :]
    return words


def with_log(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the two flags too, and opens its log before it begins."""

    @functools.wraps(command)
    def logged(
        context: typer.Context, log_level: str | None, log_file: Path | None, **values: Any
    ) -> None:
        invocation = context.obj if isinstance(context.obj, Invocation) else Invocation()
        level = _choose(_LEVEL, invocation.level, log_level)
        file = _choose(_FILE, invocation.file, log_file)
        if level is not None:
            check_choice(level, LEVELS, _LEVEL)
        open_log(level, file)
        _LOG.info("%s %s: %s", PROGRAM, __version__, shlex.join(invocation.words))
        command(**values)

    added = [
        inspect.Parameter("log_level", _KIND, default=None, annotation=LogLevel),
        inspect.Parameter("log_file", _KIND, default=None, annotation=LogFile),
        inspect.Parameter("context", _KIND, annotation=typer.Context),
    ]
    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [p.replace(kind=_KIND) for p in own] + added
    logged.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return logged


def _choose(flag: str, before: _T | None, behind: _T | None) -> _T | None:
    """Take the value from where it was given; of two one would be lost."""
    if before is not None and behind is not None:
        raise UsageError(flag, "given before the command and behind it", "give it once")
    return behind if before is None else before
