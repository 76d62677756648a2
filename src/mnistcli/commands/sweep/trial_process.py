"""Several workers of a sweep: processes of their own, watched by the command.

A worker of a sweep: takes one trial after the other until all have come to an end. With one job
it is the command's own process; with several, `main` runs in each of theirs.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from mnistcli import errors
from mnistcli.commands.open_dataset import keep_dataset
from mnistcli.commands.signals import StopRequest
from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.trial import Workplace, run_trial
from mnistcli.commands.train.request import Request
from mnistcli.errors import ExitCode, MnistcliError
from mnistcli.output.terminal import Output
from mnistcli.tensorflow_import import is_debugging

if TYPE_CHECKING:
    from mnistcli.commands.sweep.trial_queue import Desk


_PATIENCE_S = 1.0  # between looks at trials that others have


class Order(BaseModel):
    """What a worker needs to know.

    Attributes:
        sweep: what to try.
        study: its name.
        source: the sweep's file, for messages.
        storage: the database's URL; null for the journal in `directory`.
        directory: of the checkpoints.
        data_dir: from the command line.
        threads: for TensorFlow.
    """

    model_config = ConfigDict(frozen=True)

    sweep: Sweep
    study: str
    source: str
    storage: str | None
    directory: Path
    data_dir: Path | None
    threads: int

    @property
    def storage_name(self) -> str:
        """What the storage is called in messages, without a password."""
        from mnistcli.commands.sweep.study import name_storage

        return str(self.directory) if self.storage is None else name_storage(self.storage)


def open_desk(order: Order) -> Desk:
    """Open the storage and the study; UsageError where it is another sweep's."""
    from mnistcli.commands.sweep.study import open_database, open_journal, open_study
    from mnistcli.commands.sweep.trial_queue import Desk

    if order.storage is None:
        storage = open_journal(order.directory)
        way_out = "choose another folder with -o DIR"
    else:
        storage = open_database(order.storage)
        way_out = "choose another name with --study NAME"
    study = open_study(storage, order.study, order.sweep, order.source, way_out)
    return Desk(study, storage, order.sweep, order.directory)


def work(place: Workplace) -> None:
    """Run trials until none is left, or a signal has come.

    Raises:
        DataError, ResourceError, UsageError: no trial could go on.
    """
    with keep_dataset():
        while place.stop.received is None:
            claim = place.desk.claim()
            if claim is not None:
                with claim.lock:
                    run_trial(claim, place)
                place.on_change()
            elif place.desk.is_finished():
                return
            else:
                _wait(place)


def _wait(place: Workplace) -> None:
    """Others are at work on what is left; one of them may die."""
    end_s = time.monotonic() + _PATIENCE_S
    while place.stop.received is None and time.monotonic() < end_s:
        time.sleep(0.05)
    place.on_change()


class _Line:
    """What a worker has to tell its parent: one JSON object a line."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what libraries print is no message

    def tell(self, kind: str, *words: str) -> None:
        """Send a message; a parent that is gone needs none."""
        try:
            self._stream.write(json.dumps([kind, *words]) + "\n")
            self._stream.flush()
        except OSError:
            os._exit(ExitCode.SIGTERM)


class _WorkerOutput(Output):
    """Hands warnings to the parent, which tells each of them once."""

    def __init__(self, line: _Line) -> None:
        super().__init__(quiet=True, progress="none")
        self._line = line

    def warn(self, line: str) -> None:
        """Tell the parent."""
        self._line.tell("warning", line)


def main() -> None:
    """Work by the order on standard input, for as long as that is open."""
    line = _Line()
    order = Order.model_validate_json(sys.stdin.readline())

    def report_bug(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if is_debugging():
            sys.__excepthook__(kind, error, trace)
        line.tell("bug", " ".join(f"{kind.__name__}: {error}".split()))
        os._exit(ExitCode.BUG)

    sys.excepthook = report_bug
    with StopRequest() as stop:
        threading.Thread(target=_await_end, args=[stop], daemon=True).start()
        try:
            _serve(order, stop, _WorkerOutput(line))
        except MnistcliError as error:
            for problem in error.problems:
                line.tell("error", type(error).__name__, problem.where, problem.what, problem.hint)
            os._exit(error.code)
    os._exit(ExitCode.DONE)  # as the command itself does


def _await_end(stop: StopRequest) -> None:
    """Stop where the parent closes its end, as it does when it dies."""
    sys.stdin.read()
    stop.received = stop.received or int(ExitCode.SIGTERM) - 128


def _serve(order: Order, stop: StopRequest, console: Output) -> None:
    """Work by an order."""
    from mnistcli.commands.sweep.study import explain_storage

    request = Request(data_dir=order.data_dir, quiet=True, progress="none")
    with explain_storage(order.storage_name):
        desk = open_desk(order)
        work(Workplace(desk, request, console, order.threads, stop, lambda: None))


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
