"""Signals: which of them stop a command, save a run, or end the process, and how.

SIGINT, SIGTERM, SIGHUP (the terminal is gone) and SIGXCPU (the processor time of `ulimit -St` is
used up) stop a command: it saves its run, releases what it holds, and ends by the signal. SIGUSR1,
which batch systems send some time before a job's end, saves a run that goes on, and does nothing to
other commands. What the process was started to ignore, as under `nohup`, stays ignored.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType


class SignalReceived(BaseException):
    """A signal has come, and the program unwinds; what it holds is released on the way.

    It is no KeyboardInterrupt, which Typer turns into another exception that has no signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def end_by_signal(number: int) -> None:
    """End this process by a signal, which is what `set -e` and loops in a shell look at."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the kernel takes no such action on process 1, a container's main one


def _end_now(number: int, _frame: FrameType | None) -> None:
    end_by_signal(number)


_END: signal._HANDLER = _end_now if os.getpid() == 1 else signal.SIG_DFL  # needs no interpreter

# The signals that stop a command, and what a further one does. Whoever is impatient sends SIGINT or
# SIGTERM again; SIGHUP comes from the kernel and from the shell too, SIGXCPU with every second.
_STOPPING: dict[int, signal._HANDLER] = {
    signal.SIGINT: _END,
    signal.SIGTERM: _END,
    signal.SIGHUP: signal.SIG_IGN,
    signal.SIGXCPU: signal.SIG_IGN,
}


def end_on_signals() -> None:
    """End the process on a signal, without a traceback, while the program is being imported."""
    _save_nothing()
    for number in _list_handled():
        signal.signal(number, _END)


def install_handlers() -> None:
    """Make the first signal that stops raise `SignalReceived`."""
    _save_nothing()
    for number in _list_handled():
        signal.signal(number, _raise_received)


class StopRequest:
    """Makes signals ask for a stop or a save while it is open, in place of raising an exception.

    Outside the main thread, where Python does not allow handlers, none is installed. After a signal
    that stops, under `install_handlers`, a second SIGINT or SIGTERM ends the process; in other
    people's programs it does what it did before.

    Attributes:
        received: number of the signal that asks for a stop.
        wants_save: whether SIGUSR1 has come; whoever saves resets it.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.wants_save = False
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._stop) for n in _list_handled()}
            if not callable(signal.getsignal(signal.SIGUSR1)):  # as that of another program is
                self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._save)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in self._before:
            self._restore(number)

    def raise_if_received(self) -> None:
        """Raise SignalReceived where a signal that stops has come."""
        if self.received is not None:
            raise SignalReceived(self.received)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            self._restore(signal.SIGINT)
            self._restore(signal.SIGTERM)

    def _save(self, _number: int, _frame: FrameType | None) -> None:
        self.wants_save = True

    def _restore(self, number: int) -> None:
        handler = self._before.get(number)
        if handler is _raise_received and self.received is not None:
            handler = _STOPPING[number]
        if handler is not None:
            signal.signal(number, handler)


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Delay the signals that stop until the context ends.

    They are received and raised again. Blocking them in this thread would not do: the system
    would deliver them to TensorFlow's threads.
    """
    received: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # others are never interrupted
        for number in _list_handled():
            before[number] = signal.signal(number, lambda got, _: received.append(got))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in received:
            signal.raise_signal(late)


def _raise_received(number: int, _frame: FrameType | None) -> None:
    for handled in _list_handled():
        signal.signal(handled, _STOPPING[handled])
    raise SignalReceived(number)


def _list_handled() -> list[int]:
    """Leave out signals that this process was started to ignore, as `nohup` does."""
    return [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]


def _save_nothing() -> None:
    """Ignore SIGUSR1, which would end the process, and those that it starts, unless they save."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
