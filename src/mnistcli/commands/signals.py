"""Ending by a signal, so that shells and their loops see why a process ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal has come, and the program unwinds: what it holds is let go of on the way.

    No KeyboardInterrupt: Typer makes another exception of these, which forgets the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def unwind_on_signals() -> None:
    """Let the first SIGINT or SIGTERM raise `Stopped`; a second one ends at once."""
    for number in _list_heeded():
        signal.signal(number, _unwind)


def _unwind(number: int, _frame: FrameType | None) -> None:
    """End politely once."""
    _restore_defaults()
    raise Stopped(number)


def _list_heeded() -> list[int]:
    """Leave out what whoever started this process wants it to ignore, as `nohup` does."""
    return [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]


def _restore_defaults() -> None:
    """Let the next signal end the process."""
    for number in _list_heeded():
        signal.signal(number, signal.SIG_DFL)


def _keep_to_oneself(number: int) -> tuple[int, ...]:
    """A run of one process has nobody to tell."""
    return (number,)


class StopRequest:
    """While it is open, the first SIGINT or SIGTERM asks for a stop; a second one ends at once.

    Args:
        exchange: takes a number, and returns those of all workers of the run.
    """

    def __init__(self, exchange: Callable[[int], tuple[int, ...]] = _keep_to_oneself) -> None:
        self.received: int | None = None
        self._exchange = exchange
        self._agreed: int | None = None

    def __enter__(self) -> StopRequest:
        self._before = {n: signal.signal(n, self._handle) for n in _list_heeded()}
        return self

    def __exit__(self, *_: object) -> None:
        if self.received is None:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def hear(self) -> int | None:
        """Return the signal that has come to this worker or to another; the same for all.

        Each worker of a run has to ask as often as any other.
        """
        if self._agreed is None:
            self._agreed = next((n for n in self._exchange(self.received or 0) if n), None)
        return self._agreed

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """Remember the signal, and let the next one do what it does by default."""
        self.received = number
        _restore_defaults()


def end_by_signal(number: int) -> None:
    """End this process by a signal, which is what `set -e` and loops in a shell look at."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
