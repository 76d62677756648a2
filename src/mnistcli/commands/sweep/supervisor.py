"""Carries `mnistcli sweep` out: what is asked for, the workers, and what they come to."""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.checkpoints.environment import count_processors
from mnistcli.commands.signals import StopRequest, end_by_signal
from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.sweep_pool import Pool
from mnistcli.commands.sweep.sweep_report import Report, describe_plan
from mnistcli.commands.sweep.sweep_watcher import Workplace
from mnistcli.commands.sweep.sweep_yaml import load_sweep
from mnistcli.commands.sweep.trial_process import Order, open_desk, work
from mnistcli.commands.train.next_command import write_command
from mnistcli.commands.train.request import check_directory
from mnistcli.commands.train.run_plan import Request
from mnistcli.errors import DivergenceError, ResourceError, UsageError
from mnistcli.output.sweeps import render_plan
from mnistcli.output.terminal import Output, Progress, choose_progress

if TYPE_CHECKING:
    from mnistcli.commands.sweep.trial_queue import Desk

_INSTALL_HINT = "install it: python -m pip install 'mnistcli[sweep]'"


@dataclass(frozen=True)
class SweepRequest:
    """What the command line of `sweep` asked for, not yet checked.

    Attributes:
        source: the sweep's YAML file.
        output: folder of the checkpoints; null for one named after the file.
        storage: a database's URL; null for a journal in the folder.
        study: null for the file's own name.
        jobs: worker processes.
    """

    source: str
    output: Path | None
    storage: str | None
    study: str | None
    jobs: int
    dry_run: bool
    data_dir: Path | None
    json: bool
    jsonl: bool
    quiet: bool
    progress: Progress

    @property
    def directory(self) -> Path:
        """Where the checkpoints go."""
        return self.output or Path(f"{Path(self.source).stem}-sweep")

    @property
    def run(self) -> Request:
        """What the trials share with `train`."""
        return Request(data_dir=self.data_dir, quiet=True, progress="none")


def run_sweep(request: SweepRequest) -> None:
    """Carry out `mnistcli sweep`; every way in which it can fail is a MnistcliError."""
    console = _open_output(request)
    sweep = load_sweep(request.source)
    if request.dry_run:
        plan = describe_plan(sweep)
        if request.json or request.jsonl:
            console.print_json(plan)
        else:
            console.print_table(*render_plan(plan))
        return
    _check_optuna()
    order = _make_order(request, sweep)
    from mnistcli.commands.sweep.study import explain_storage

    with explain_storage(order.storage_name):
        received = _run(request, order, console)
    if received is not None:
        end_by_signal(received)


def _open_output(request: SweepRequest) -> Output:
    """Return where a sweep's words go."""
    silent = request.quiet or request.jsonl or request.json
    progress = choose_progress(request.progress, silent=silent)
    return Output(quiet=silent, outlives_reader=True, progress=progress)


def _check_optuna() -> None:
    """Find out before any work whether the engine is there; ResourceError where not."""
    try:
        found = importlib.util.find_spec("optuna")
    except ValueError:  # something else has taken its name
        found = None
    if found is None:
        raise ResourceError("optuna", "not installed", _INSTALL_HINT)


def _make_order(request: SweepRequest, sweep: Sweep) -> Order:
    """Make the folder, and say what every worker has to know."""
    directory = request.directory
    check_directory(directory.parent)
    with contextlib.suppress(FileExistsError):  # where it is a file, what follows says so
        directory.mkdir(exist_ok=True)
    check_directory(directory)
    return Order(
        sweep=sweep,
        study=request.study or Path(request.source).stem,
        source=request.source,
        storage=request.storage,
        directory=directory,
        data_dir=request.data_dir,
        threads=max(1, count_processors() // request.jobs),
    )


def _run(request: SweepRequest, order: Order, console: Output) -> int | None:
    """Try what is left to try, show what came of it; return the signal that ended it early."""
    with contextlib.closing(_open_desk(order)) as desk:
        report = Report(desk, request.directory, console, streams=request.jsonl)
        with StopRequest() as stop, contextlib.closing(report):
            report.update()
            if request.jobs == 1:
                work(Workplace(desk, request.run, console, order.threads, stop, report.update))
            else:
                Pool(order, request.jobs, console).run(stop, report.update, desk.is_finished)
            report.update()
        if stop.received is not None:
            Output().note(
                f"interrupted after {report.count_ended()} of {order.sweep.trials} trials;"
                f" none of them is lost\nnext  {_write_again(request)}"
            )
            return stop.received
        _conclude(request, order, report, console)
    return None


def _conclude(request: SweepRequest, order: Order, report: Report, console: Output) -> None:
    """Print the answer, and on stderr what to do with it; DivergenceError where there is none."""
    answer = report.conclude()
    if answer.complete == 0 and answer.pruned == 0:
        reason = next((trial.reason for trial in answer.ranking if trial.reason), "")
        what = f"all {answer.failed} trials failed, the first at: {reason}"
        hint = "search other values, lower learning rates for example"
        raise DivergenceError(order.source, what, hint)
    report.show(answer, as_json=request.json or request.jsonl, quiet=request.quiet)
    best = answer.best
    if best is not None and best.host is None and best.checkpoint:
        console.note(f"next  {write_command(request.run, 'evaluate', best.checkpoint)}")
    if console.is_closed:
        raise BrokenPipeError


def _open_desk(order: Order) -> Desk:
    """Open the study; a new one never takes another one's checkpoints for its own.

    Raises:
        UsageError: the folder holds those of another sweep.
    """
    from mnistcli.commands.sweep.study import JOURNAL

    is_journal = order.storage is None
    is_new = is_journal and not (order.directory / JOURNAL).exists()
    if is_new and next(order.directory.glob("trial-*.h5"), None) is not None:
        what = f"{order.directory} holds trials of another sweep"
        raise UsageError("--output", what, "choose another folder")
    return open_desk(order)


def _write_again(request: SweepRequest) -> str:
    """Write the command that goes on; a database's password is not for the screen."""
    words = ["sweep", request.source]
    words += [] if request.output is None else ["-o", str(request.output)]
    words += [] if request.study is None else ["--study", request.study]
    words += [] if request.jobs == 1 else ["--jobs", str(request.jobs)]
    if request.storage is not None:
        from mnistcli.commands.sweep.study import name_storage

        words += ["--storage", name_storage(request.storage)]
    return write_command(request.run, *words).replace(shlex.quote("***"), "***")
