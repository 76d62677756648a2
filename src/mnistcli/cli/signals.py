"""Ending by a signal, so that shells and their loops see why a process ended."""

from __future__ import annotations

import os
import signal
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While it is open, the first SIGINT or SIGTERM asks for a stop; a second one ends at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._handle) for number in _STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        if self.received is None:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """Remember the signal, and let the next one do what it does by default."""
        self.received = number
        for other in _STOPPING:
            signal.signal(other, signal.SIG_DFL)


def end_by_signal(number: int) -> None:
    """End this process by a signal, which is what `set -e` and loops in a shell look at."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
