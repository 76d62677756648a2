"""The errors that a user can cause or meet, with their exit codes.

    MnistcliError
    ├── UsageError          2  a flag, an argument or a combination of them
    │   └── ConfigError     2  one or more problems in a config, all reported at once
    ├── CheckFailedError    3  a result fell short: --fail-under, --overfit, reproduce
    ├── DataError           4  data (images too) missing, unreachable or invalid
    ├── CheckpointError     5  a checkpoint missing, unreadable, damaged or refused
    ├── DivergenceError     6  training produced numbers that are not finite
    └── ResourceError       7  not writable, disk full, locked, out of memory

Each says where it happened, what is wrong and what to do; `str(error)` is one line,
`<where>: <what>. <hint>`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self


class ExitCode(IntEnum):
    """Exit codes of the process; the last three are those that shells show for signals."""

    SUCCESS = 0
    INTERNAL_ERROR = 1
    USAGE = 2
    CHECK_FAILED = 3
    DATA = 4
    CHECKPOINT = 5
    DIVERGED = 6
    RESOURCE = 7
    SIGINT = 130
    SIGPIPE = 141
    SIGTERM = 143


def make_printable(line: str) -> str:
    """Escape control characters: a file's name or contents must not control the terminal."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


MAX_PROBLEMS = 100  # of one config
MAX_SHOWN = 5000  # characters: a little more than the longest path


def make_displayable(text: str) -> str:
    """Return a text that neither controls the terminal nor fills it: printable, and not long."""
    if len(text) > MAX_SHOWN:
        text = f"{text[:MAX_SHOWN]}… ({len(text):,} characters)"
    return make_printable(text)


def quote_words(*words: object) -> str:
    """Format a command, or flags with their values, so that a shell takes it as it stands."""
    return shlex.join(map(str, words))


def pluralize(number: int, noun: str) -> str:
    """Format a number with its noun: `1 image`, `2,000 classes`, `3 entries`."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith(("s", "x", "tch")):
        noun += "es"
    elif noun.endswith("y") and noun[-2] not in "aeiou":
        noun = f"{noun[:-1]}ies"
    else:
        noun += "s"
    return f"{number:,} {noun}"


_PORT = r"\d+(?:[/?][^\s@]*)?[:,.)]?(?:[\s'\"]|$)"
_PASSWORDS = re.compile(
    rf"(://[^\s/:@]*:)(?!{_PORT})[^\n@]*@(?:\S*@)?"  # of a URL; one with an @ in it too
    r"|(\b\w*(?:password|passwd|secret|token)\w*=)(?:(?!:\s)[^\s&;'\"])*",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Replace the passwords in a text's URLs and parameters by `***`."""
    return _PASSWORDS.sub(lambda m: f"{m[1]}***@" if m[1] else f"{m[2]}***", text)


def escape_name(name: str) -> str:
    r"""Return a file's name as valid Unicode: bytes that are not UTF-8 become `\udcff` or alike."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; passwords in its texts are replaced.

    Attributes:
        where: a flag, a file, or `file:line:column`.
        what: what is wrong, a phrase without a full stop.
        hint: what to do, a phrase without a full stop; may be empty.
    """

    where: str
    what: str
    hint: str = ""

    def __post_init__(self) -> None:
        for name in ("where", "what", "hint"):
            object.__setattr__(self, name, redact(getattr(self, name)))  # it is frozen

    def __str__(self) -> str:
        # One after the other: what is long must not push the hint out.
        where, what, hint = (
            make_displayable(" ".join(part.split())) for part in (self.where, self.what, self.hint)
        )
        line = f"{where}: {what}" if where else what
        return f"{line}. {hint[0].upper()}{hint[1:]}" if hint else line


class MnistcliError(Exception):
    """Base class of errors that the user can do something about; not raised itself."""

    code: ClassVar[ExitCode]
    kind: ClassVar[str]

    def __init__(self, where: str, what: str, hint: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(where, what, hint),)
        self.is_answered = False  # whether results on stdout tell it under --json
        super().__init__(str(self.problems[0]))

    @classmethod
    def join(cls, problems: Sequence[Problem]) -> Self:
        """Return one error for several things that are wrong."""
        error = cls(problems[0].where, problems[0].what, problems[0].hint)
        error.problems = tuple(problems)
        return error

    @property
    def where(self) -> str:
        """Where the first problem is."""
        return self.problems[0].where

    @property
    def what(self) -> str:
        """What the first problem is."""
        return self.problems[0].what

    @property
    def hint(self) -> str:
        """What to do about the first problem; may be empty."""
        return self.problems[0].hint


class UsageError(MnistcliError):
    """A flag, an argument, or a combination of them that cannot be carried out."""

    code = ExitCode.USAGE
    kind = "usage"


class ConfigError(UsageError):
    """One or more problems in a config, all found before anything runs; at most `MAX_PROBLEMS`."""

    kind = "config"

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        super().__init__(first.where, first.what, first.hint)
        self.problems = tuple(problems[:MAX_PROBLEMS])
        if (further := len(problems) - MAX_PROBLEMS) > 0:
            more = Problem("", f"{further:,} further problems", "mend these first")
            self.problems = (*self.problems, more)


class CheckFailedError(MnistcliError):
    """A result that fell short of what the command was asked to check."""

    code = ExitCode.CHECK_FAILED
    kind = "gate"


class DataError(MnistcliError):
    """Data, images included, that is missing, unreachable or invalid."""

    code = ExitCode.DATA
    kind = "data"


class CheckpointError(MnistcliError):
    """A checkpoint that is missing, unreadable, damaged or refused."""

    code = ExitCode.CHECKPOINT
    kind = "checkpoint"


class DivergenceError(MnistcliError):
    """Training whose loss or weights are no longer finite numbers."""

    code = ExitCode.DIVERGED
    kind = "diverged"


class ResourceError(MnistcliError):
    """The environment: not writable, disk full, locked, out of memory."""

    code = ExitCode.RESOURCE
    kind = "resource"
