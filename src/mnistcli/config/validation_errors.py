"""What is wrong with a key of the config, before it is known where that key was written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mnistcli.errors import Problem

KeyPath = tuple[str | int, ...]
"""The way to a key from the top: ("model", "hidden", 0, "units")."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_<-]{1,64}")
_SHOWN_LENGTH = 40


@dataclass(frozen=True)
class Fault:
    """One mistake.

    Attributes:
        path: the key that the message names.
        what: the mistake, a phrase without a full stop.
        hint: the way out, as one says it to somebody who wrote a file; may be empty.
        flag_hint: the same for somebody who typed a flag; null where it does not differ.
        is_key: the key itself is the mistake, rather than its value.
        involves: further keys that the mistake depends on.
        remedy: the way out for somebody who brought about several such faults with one flag.
    """

    path: KeyPath
    what: str
    hint: str = ""
    flag_hint: str | None = None
    is_key: bool = False
    involves: tuple[KeyPath, ...] = ()
    remedy: str | None = None


def format_path(path: KeyPath) -> str:
    """Write a path as users do: `model.hidden.0.units`."""
    return ".".join(
        str(part) if _PLAIN_KEY.fullmatch(str(part)) else format_value(part) for part in path
    )


def format_value(value: object) -> str:
    """Describe a value that was received, in YAML's words and at most a few dozen letters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "an empty list" if not value else f"a list of {len(value)}"
    if isinstance(value, str):
        return repr(value[:_SHOWN_LENGTH]) + ("…" if len(value) > _SHOWN_LENGTH else "")
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…"


def to_problem(what: str, hint: str, where: str, path: KeyPath) -> Problem:
    """Join a place and a key's name with what is wrong there."""
    return Problem(where, f"{format_path(path)}: {what}" if path else what, hint)


def starts_with(path: KeyPath, prefixes: Iterable[KeyPath]) -> bool:
    """Tell whether a path is one of the prefixes or lies below one."""
    return any(path[: len(prefix)] == prefix for prefix in prefixes)


def is_related(path: KeyPath, others: Iterable[KeyPath]) -> bool:
    """Tell whether a path lies below or above one of the others, or is one of them."""
    return any(path[: len(other)] == other[: len(path)] for other in others)


def find_nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is spelt most like a word; null where none is close."""
    from difflib import get_close_matches

    if len(word) < 2:  # like any short one
        return None
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    near = get_close_matches(word.lower()[:64], by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None
