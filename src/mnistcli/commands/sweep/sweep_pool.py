"""Several workers of a sweep: processes of their own, watched by the command."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mnistcli import errors
from mnistcli.commands.signals import StopRequest
from mnistcli.commands.sweep.trial_process import Order
from mnistcli.errors import MnistcliError
from mnistcli.output.terminal import Output

_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]);"
    " from mnistcli.commands.sweep.trial_process import main; main()"
)
_LOOK_S = 0.5  # between looks at how far the trials are
_FAREWELL_S = 20.0  # that a worker has for saving its trial


@dataclass(frozen=True)
class _Ended:
    """A worker's end."""

    worker: _Worker


class _Worker:
    """One process; what it tells comes in over a queue."""

    def __init__(self, order: Order, told: queue.SimpleQueue[list[str] | _Ended]) -> None:
        root = str(Path(__file__).parents[3])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the parent's, which closes the line
            text=True,
        )
        self._told = told
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(order.model_dump_json() + "\n")
            self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Pass messages on, and that there will be no more."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self._told.put(json.loads(line))
        self._process.wait()
        self._told.put(_Ended(self))

    @property
    def code(self) -> int:
        """How it ended."""
        return self._process.wait()

    def close_line(self) -> None:
        """Let it stop where it is."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def end(self, timeout_s: float) -> None:
        """Wait for its end, and bring it about where it does not come."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()


class Pool:
    """Workers of this machine.

    Args:
        order: of each of them.
        count: how many there are.
        console: hears warnings, each once.
    """

    def __init__(self, order: Order, count: int, console: Output) -> None:
        self._order, self._count, self._console = order, count, console
        self._told: queue.SimpleQueue[list[str] | _Ended] = queue.SimpleQueue()
        self._workers: list[_Worker] = []

    def run(
        self, stop: StopRequest, on_look: Callable[[], None], is_finished: Callable[[], bool]
    ) -> None:
        """Keep the workers at work until all trials have ended or a signal has come.

        A worker that dies is replaced; its trial is taken up by the next one that is free.

        Raises:
            MnistcliError: a worker could not go on; the others have been stopped.
            RuntimeError: it met a bug.
        """
        try:
            self._workers = [_Worker(self._order, self._told) for _ in range(self._count)]
            while self._workers and stop.received is None:
                self._hear(is_finished)
                on_look()
        finally:
            self._stop()
        on_look()

    def _hear(self, is_finished: Callable[[], bool]) -> None:
        """Wait for what workers tell, but not for long."""
        try:
            message = self._told.get(timeout=_LOOK_S)
        except queue.Empty:
            return
        if isinstance(message, _Ended):
            self._bury(message.worker, is_finished)
        elif message[0] == "warning":
            self._console.warn(message[1])
        elif message[0] == "bug":
            raise RuntimeError(f"in a worker: {message[1]}")
        else:
            _, kind, where, what, hint = message
            raise _make_error(kind, where, what, hint)

    def _bury(self, worker: _Worker, is_finished: Callable[[], bool]) -> None:
        """Put another worker in the place of one that was killed."""
        self._workers.remove(worker)
        code = worker.code
        if code == 0 or is_finished():
            return
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        self._console.note(f"a worker was ended {how}: another one goes on with its trial")
        self._workers.append(_Worker(self._order, self._told))

    def _stop(self) -> None:
        """Let all workers save what they have, and see that they end."""
        for worker in self._workers:
            worker.close_line()
        for worker in self._workers:
            worker.end(_FAREWELL_S)
        self._workers.clear()


def _make_error(kind: str, where: str, what: str, hint: str) -> MnistcliError:
    """Make a worker's failure the command's."""
    error_type = getattr(errors, kind, None)
    if isinstance(error_type, type) and issubclass(error_type, MnistcliError):
        if error_type is errors.ConfigError:
            return errors.UsageError(where, what, hint)
        return error_type(where, what, hint)
    raise RuntimeError(f"in a worker: {kind}: {what}")
