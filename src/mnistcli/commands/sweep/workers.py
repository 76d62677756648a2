"""Run a sweep's workers: in the command's own process, or in several processes of a pool."""

from __future__ import annotations

import contextlib
import logging
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
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mnistcli import errors
from mnistcli.commands.open_dataset import cache_dataset
from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.study import (
    format_url,
    open_database,
    open_journal,
    open_study,
    translate_storage_errors,
)
from mnistcli.commands.sweep.trial import WorkerContext, run_trial
from mnistcli.commands.sweep.trial_queue import TrialQueue
from mnistcli.commands.train.request import TrainArguments
from mnistcli.errors import ExitCode, MnistcliError
from mnistcli.output.logs import announce, note, warn
from mnistcli.output.terminal import PROGRAM
from mnistcli.process_limits import translate_shortages
from mnistcli.signals import StopRequest, end_by_signal, install_handlers
from mnistcli.tensorflow_import import is_debugging

_IDLE_S = 1.0  # before an idle worker looks for a trial again
_POLL_S = 0.5  # between updates of the pool's display
_STOP_TIMEOUT_S = 20.0  # for a worker to save its trial
_MAIN = (
    "import sys; sys.path.append(sys.argv[1]);"
    " from mnistcli.signals import end_on_signals; end_on_signals();"
    " from mnistcli.commands.sweep.workers import main; main()"
)


class WorkerSpec(BaseModel):
    """What a worker process needs to know of its sweep.

    Attributes:
        sweep: its definition.
        study: its name.
        source: path of its YAML file, for errors.
        storage: the database's URL; None for the journal in `directory`.
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
        """Return the storage's name in errors, without a password."""
        return str(self.directory) if self.storage is None else format_url(self.storage)


def open_queue(spec: WorkerSpec) -> TrialQueue:
    """Open a sweep's storage and study.

    Raises:
        UsageError: the study is another sweep's.
        ResourceError: the storage cannot be opened.
    """
    if spec.storage is None:
        storage = open_journal(spec.directory)
        hint = "choose another folder with -o DIR"
    else:
        storage = open_database(spec.storage)
        hint = "choose another name with --study NAME"
    study = open_study(storage, spec.study, spec.sweep, spec.source, hint)
    return TrialQueue(study, storage, spec.sweep, spec.directory)


def run_worker(context: WorkerContext) -> None:
    """Run trials until all have ended or a signal has come.

    Raises:
        DataError, ResourceError, UsageError: every other trial would fail too.
    """
    with cache_dataset():
        while context.stop.received is None:
            lease = context.queue.acquire()
            if lease is not None:
                with lease.lock:
                    run_trial(lease, context)
                context.on_change()
            elif context.queue.is_finished():
                return
            else:
                _wait_for_trial(context)


def _wait_for_trial(context: WorkerContext) -> None:
    """Wait while other workers run the last trials: one of them may die."""
    end_s = time.monotonic() + _IDLE_S
    while context.stop.received is None and time.monotonic() < end_s:
        time.sleep(0.05)
    context.on_change()


class WorkerPool:
    """Keep several worker processes running.

    Args:
        spec: of each worker.
        count: the number of workers.
    """

    def __init__(self, spec: WorkerSpec, count: int) -> None:
        self._spec, self._count = spec, count
        self._messages: queue.SimpleQueue[_Message | _Exit] = queue.SimpleQueue()
        self._workers: list[_WorkerProcess] = []

    def run(
        self, stop: StopRequest, on_poll: Callable[[], None], is_finished: Callable[[], bool]
    ) -> None:
        """Run the workers until all trials have ended or a signal has come.

        Args:
            stop: receives signals.
            on_poll: is called about twice a second.
            is_finished: returns whether all trials have ended.

        Raises:
            MnistcliError: a worker could not continue; the others have been stopped.
            RuntimeError: a worker has failed by a bug.
        """
        try:
            self._workers = [_WorkerProcess(self._spec, self._messages) for _ in range(self._count)]
            while self._workers and stop.received is None:
                if stop.wants_save:
                    self._request_save(stop)
                self._handle_message(is_finished)
                on_poll()
        finally:
            self._stop()
        on_poll()

    def _handle_message(self, is_finished: Callable[[], bool]) -> None:
        try:
            message = self._messages.get(timeout=_POLL_S)
        except queue.Empty:
            return
        if isinstance(message, _Exit):
            self._replace_dead_worker(message.worker, is_finished)
        elif message.kind == "warning":
            warn(message.what)
        elif message.kind == "bug":
            raise RuntimeError(f"in a worker: {message.what}")
        else:
            raise message.make_error()

    def _replace_dead_worker(self, worker: _WorkerProcess, is_finished: Callable[[], bool]) -> None:
        """Start another worker if one was killed; the next free one continues its trial."""
        self._workers.remove(worker)
        code = worker.exit_code
        if code == 0 or is_finished():
            return
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        note(f"a worker was ended {how}: another one goes on with its trial")
        self._workers.append(_WorkerProcess(self._spec, self._messages))

    def _request_save(self, stop: StopRequest) -> None:
        """Let all workers save their trials and go on."""
        stop.wants_save = False
        for worker in self._workers:
            worker.request_save()
        announce("the trials that run are saved, as SIGUSR1 asks; the sweep goes on")

    def _stop(self) -> None:
        """Let all workers save their trials, then kill those that have not ended."""
        for worker in self._workers:
            worker.request_stop()
        for worker in self._workers:
            worker.join(_STOP_TIMEOUT_S)
        self._workers.clear()


class _Message(BaseModel):
    """What a worker process reports to the pool, one JSON object a line.

    Attributes:
        kind: `bug` and `error` end the sweep.
        what: the text; of an error what is wrong.
        error_type, where, hint: of an error.
    """

    kind: Literal["warning", "bug", "error"]
    what: str
    error_type: str = ""
    where: str = ""
    hint: str = ""

    def make_error(self) -> MnistcliError:
        """Return the worker's error as one of the command; RuntimeError if it is none of ours."""
        error_type = getattr(errors, self.error_type, None)
        if isinstance(error_type, type) and issubclass(error_type, MnistcliError):
            if error_type is errors.ConfigError:
                error_type = errors.UsageError
            return error_type(self.where, self.what, self.hint)
        raise RuntimeError(f"in a worker: {self.error_type}: {self.what}")


@dataclass(frozen=True)
class _Exit:
    """The last message of a worker process: it has ended."""

    worker: _WorkerProcess


class _WorkerProcess:
    """One worker process; its messages are put into a queue."""

    def __init__(self, spec: WorkerSpec, messages: queue.SimpleQueue[_Message | _Exit]) -> None:
        root = str(Path(__file__).parents[3])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C goes to the parent, which closes stdin
            text=True,
        )
        self._messages = messages
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(spec.model_dump_json() + "\n")
            self._process.stdin.flush()
        threading.Thread(target=self._read_messages, daemon=True).start()

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    self._messages.put(_Message.model_validate_json(line))
        self._process.wait()
        self._messages.put(_Exit(self))

    @property
    def exit_code(self) -> int:
        """Wait for the end, and return the exit code; -N after signal N."""
        return self._process.wait()

    def request_stop(self) -> None:
        """Ask the worker to save its trial and end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def request_save(self) -> None:
        """Ask the worker to save its trial; one that has not begun has the signal ignored."""
        self._process.send_signal(signal.SIGUSR1)

    def join(self, timeout_s: float) -> None:
        """Wait for the end, and kill the process after a timeout."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()


def main() -> None:
    """Run a worker process: the spec is the first line of stdin, whose end asks it to stop."""
    pipe = _ParentPipe()
    spec = WorkerSpec.model_validate_json(sys.stdin.readline())

    def report_bug(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if is_debugging():
            sys.__excepthook__(kind, error, trace)
        pipe.send(_Message(kind="bug", what=" ".join(f"{kind.__name__}: {error}".split())))
        os._exit(ExitCode.INTERNAL_ERROR)

    sys.excepthook = report_bug
    logging.getLogger(PROGRAM).addHandler(_WarningForwarder(pipe))
    install_handlers()  # so that a second signal ends the process
    with StopRequest() as stop:
        threading.Thread(target=_await_stop, args=[stop], daemon=True).start()
        try:
            with translate_shortages():
                _run_worker_process(spec, stop)
        except MnistcliError as error:
            kind = type(error).__name__
            for problem in error.problems:
                where, what, hint = problem.where, problem.what, problem.hint
                pipe.send(
                    _Message(kind="error", error_type=kind, where=where, what=what, hint=hint)
                )
            os._exit(error.code)
    if stop.received is not None:  # perhaps by this worker alone: another one takes its place
        end_by_signal(stop.received)
    os._exit(ExitCode.SUCCESS)  # taking TensorFlow down takes most of a second


def _run_worker_process(spec: WorkerSpec, stop: StopRequest) -> None:
    arguments = TrainArguments(data_dir=spec.data_dir)
    with translate_storage_errors(spec.storage_name):
        trials = open_queue(spec)
        run_worker(WorkerContext(trials, arguments, "none", spec.threads, stop, lambda: None))


def _await_stop(stop: StopRequest) -> None:
    """Stop once the parent closes stdin, as it does when it dies."""
    sys.stdin.read()
    stop.received = stop.received or int(ExitCode.SIGTERM) - 128


class _ParentPipe:
    """Send messages to the parent over what was stdout."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what libraries print must not get between the messages

    def send(self, message: _Message) -> None:
        """Send a message, or end this process if the parent is gone."""
        try:
            self._stream.write(message.model_dump_json() + "\n")
            self._stream.flush()
        except OSError:
            os._exit(ExitCode.SIGTERM)


class _WarningForwarder(logging.Handler):
    """Send warnings to the parent, which shows each of them once."""

    def __init__(self, pipe: _ParentPipe) -> None:
        super().__init__(logging.WARNING)
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        """Send a warning."""
        self._pipe.send(_Message(kind="warning", what=record.getMessage()))
