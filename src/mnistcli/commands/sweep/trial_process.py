"""A worker of a sweep: takes one trial after the other until all have come to an end.

With one job it is the command's own process; with several, `main` runs in each of theirs.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from mnistcli.commands.open_dataset import keep_dataset
from mnistcli.commands.signals import StopRequest
from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.sweep_watcher import Workplace
from mnistcli.commands.sweep.trial import run_trial
from mnistcli.commands.train.run_plan import Request
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
    from mnistcli.commands.sweep.studies import open_study
    from mnistcli.commands.sweep.study import open_database, open_journal
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
