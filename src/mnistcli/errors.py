"""Every failure that a user can meet, and the exit code that a script sees.

    MnistcliError
    ├── UsageError          2  a flag, an argument or a combination of them
    │   └── ConfigError     2  one or more problems in a config, all reported at once
    ├── GateError           3  a `--fail-under` threshold was not met
    ├── DataError           4  data (images too) missing, unreachable or invalid
    ├── CheckpointError     5  a checkpoint missing, unreadable, damaged or refused
    ├── DivergenceError     6  training produced numbers that are not finite
    └── ResourceError       7  not writable, disk full, locked, out of memory

Each says where it happened, what is wrong, and the way out; `str(error)` is
`<where>: <what>. <hint>`, one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process says to the shell. The last three are what a shell shows for signals."""

    DONE = 0
    BUG = 1
    USAGE = 2
    GATE = 3
    DATA = 4
    CHECKPOINT = 5
    DIVERGED = 6
    RESOURCE = 7
    SIGINT = 130
    SIGPIPE = 141
    SIGTERM = 143


def make_printable(line: str) -> str:
    """Write out control characters: a file's name or contents must not talk to the terminal."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def escape_name(name: str) -> str:
    r"""Return a file's name as text that JSON can hold: bytes that are no UTF-8 become `\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the place, the mistake and the way out.

    Attributes:
        where: a flag, a file, or `file:line:column`.
        what: the mistake, a phrase without a full stop.
        hint: the way out, a phrase without a full stop; may be empty.
    """

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        if self.hint:
            line = f"{line}. {self.hint[0].upper()}{self.hint[1:]}"
        return make_printable(" ".join(line.split()))


class MnistcliError(Exception):
    """Base of every failure that is the user's to mend; never raised itself."""

    code: ClassVar[ExitCode]
    kind: ClassVar[str]

    def __init__(self, where: str, what: str, hint: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(where, what, hint),)
        super().__init__(str(self.problems[0]))

    @property
    def where(self) -> str:
        """The place of the first problem."""
        return self.problems[0].where

    @property
    def what(self) -> str:
        """The first problem itself."""
        return self.problems[0].what

    @property
    def hint(self) -> str:
        """The way out of the first problem; may be empty."""
        return self.problems[0].hint


class UsageError(MnistcliError):
    """A flag, an argument, or a combination of them that cannot be carried out."""

    code = ExitCode.USAGE
    kind = "usage"


class ConfigError(UsageError):
    """One or more problems in a config; all are known before anything runs."""

    kind = "config"

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        super().__init__(first.where, first.what, first.hint)
        self.problems = tuple(problems)


class GateError(MnistcliError):
    """A result fell short of the threshold that the user set."""

    code = ExitCode.GATE
    kind = "gate"

    @classmethod
    def join(cls, problems: Sequence[Problem]) -> GateError:
        """Return one error for several results that fell short."""
        error = cls(problems[0].where, problems[0].what, problems[0].hint)
        error.problems = tuple(problems)
        return error


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
