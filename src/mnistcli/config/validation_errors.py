"""What is wrong with a config: issues, the paths of keys, and how messages write both."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mnistcli.errors import Problem

KeyPath = tuple[str | int, ...]
"""A key's path from the top: ("model", "hidden", 0, "units")."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_<-]{1,64}")
_MAX_SHOWN = 40  # characters of a value


@dataclass(frozen=True, order=True)
class Mark:
    """A position in a text; line and column count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True)
class ConfigIssue:
    """One thing that is wrong with a config, before it is known where the key was given.

    Attributes:
        path: the key that the message names.
        what: what is wrong, a phrase without a full stop.
        hint: what to do about it in a file; may be empty.
        flag_hint: what to do about it on the command line, where that differs.
        is_key: the key is wrong rather than its value.
        depends_on: further keys whose values the issue depends on.
        joint_hint: what to do where one flag causes several such issues.
        mark: where the issue is, if its path does not tell: in the YAML itself.
        literal: the value that was probably meant, as it is written in YAML.
    """

    path: KeyPath
    what: str
    hint: str = ""
    flag_hint: str | None = None
    is_key: bool = False
    depends_on: tuple[KeyPath, ...] = ()
    joint_hint: str | None = None
    mark: Mark | None = None
    literal: str = ""

    def to_problem(self, where: str) -> Problem:
        """Return the issue with its place, a file or `file:line:column`."""
        what = f"{format_path(self.path)}: {self.what}" if self.path else self.what
        return Problem(where, what, self.hint)


def format_path(path: KeyPath) -> str:
    """Format a path as it is typed: `model.hidden.0.units`."""
    return ".".join(
        str(part) if _PLAIN_KEY.fullmatch(str(part)) else format_value(part) for part in path
    )


def format_value(value: object) -> str:
    """Format a value that was received in YAML's words, cut to 40 characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "an empty list" if not value else f"a list of {len(value)}"
    if isinstance(value, str):
        return repr(value[:_MAX_SHOWN]) + ("…" if len(value) > _MAX_SHOWN else "")
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def starts_with(path: KeyPath, prefixes: Iterable[KeyPath]) -> bool:
    """Return whether a path equals one of the prefixes or lies below one."""
    return any(path[: len(prefix)] == prefix for prefix in prefixes)


def is_related(path: KeyPath, others: Iterable[KeyPath]) -> bool:
    """Return whether a path equals one of the others, or lies below or above one."""
    return any(path[: len(other)] == other[: len(path)] for other in others)
