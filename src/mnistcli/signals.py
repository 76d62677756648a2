"""SIGINT and SIGTERM: they stop a run, and end the process so that shells see why it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class SignalReceived(BaseException):
    """A signal has come, and the program unwinds; what it holds is released on the way.

    It is no KeyboardInterrupt, which Typer turns into another exception that has no signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def install_handlers() -> None:
    """Make the first SIGINT or SIGTERM raise `SignalReceived`, and a second one end the process."""
    for number in _list_handled():
        signal.signal(number, _raise_received)


class StopRequest:
    """Makes a signal ask for a stop while it is open, in place of raising an exception.

    SIGINT and SIGTERM are handled, except where they are ignored. After the first one their
    handlers are those of before; under `install_handlers` a second one then ends the process.
    Outside the main thread, where Python does not allow handlers, none is installed.

    Attributes:
        received: number of the signal that has come.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._handle) for n in _list_handled()}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.received is None:
            self._restore()

    def raise_if_received(self) -> None:
        """Raise SignalReceived where a signal has come."""
        if self.received is not None:
            raise SignalReceived(self.received)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        self._restore()
        for other, handler in self._before.items():
            if handler is _raise_received:
                signal.signal(other, signal.SIG_DFL)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the context ends.

    They are received and raised again. Blocking them in this thread would not do: the system
    would deliver them to TensorFlow's threads.
    """
    received: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # others are never interrupted
        for number in _HANDLED:
            before[number] = signal.signal(number, lambda got, _: received.append(got))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in received:
            signal.raise_signal(late)


def end_by_signal(number: int) -> None:
    """End this process by a signal, which is what `set -e` and loops in a shell look at."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _raise_received(number: int, _frame: FrameType | None) -> None:
    for handled in _list_handled():
        signal.signal(handled, signal.SIG_DFL)
    raise SignalReceived(number)


def _list_handled() -> list[int]:
    """Leave out signals that this process was started to ignore, as `nohup` does."""
    return [number for number in _HANDLED if signal.getsignal(number) is not signal.SIG_IGN]
