"""Carries `mnistcli sweep` out: what is asked for, the workers, and what they come to.

Follows a sweep while it runs, and says what it came to.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.checkpoints.record import count_processors
from mnistcli.commands.signals import StopRequest, end_by_signal
from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.sweep_yaml import load_sweep
from mnistcli.commands.sweep.trial import Workplace
from mnistcli.commands.sweep.trial_process import Order, Pool, open_desk, work
from mnistcli.commands.train.request import Request, check_directory
from mnistcli.commands.train.run import write_command
from mnistcli.errors import ConfigError, DivergenceError, ResourceError, UsageError
from mnistcli.output.results import (
    DimensionResult,
    SweepPlanResult,
    SweepResult,
    TestResult,
    TrialLine,
    TrialResult,
)
from mnistcli.output.tables import open_trial_display, render_best, render_plan, render_sweep
from mnistcli.output.terminal import Output, Progress, choose_progress

if TYPE_CHECKING:
    from mnistcli.commands.sweep.ranking import Standing
    from mnistcli.commands.sweep.trial_queue import Desk


_ENDED = ("complete", "pruned", "failed")


class Report:
    """Shows trials as they end.

    Args:
        desk: where they are.
        directory: of this machine's checkpoints, as the user gave it.
        console: where words go.
        streams: whether each trial that ends is a line of JSON on stdout.
    """

    def __init__(self, desk: Desk, directory: Path, console: Output, *, streams: bool) -> None:
        self._desk, self._directory = desk, directory
        self._console, self._streams = console, streams
        self._told = {trial.trial for trial in self._list_trials() if trial.state in _ENDED}
        self._display = open_trial_display(desk.sweep.objective, console.progress)
        if self._told:
            count = f"{len(self._told)} of {desk.sweep.trials} trials"
            console.note(f"goes on with {desk.study.study_name}: {count} have ended before")

    def update(self) -> None:
        """Show what is new."""
        trials = self._list_trials()
        ended = [t for t in trials if t.state in _ENDED and t.trial not in self._told]
        ended.sort(key=lambda trial: trial.trial)
        self._display.show(trials, ended)
        for trial in ended:
            self._told.add(trial.trial)
            if self._streams:
                self._console.print_json(TrialLine(**trial.model_dump()))

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._display.close()

    def count_ended(self) -> int:
        """Return how many trials have come to an end."""
        return sum(trial.state in _ENDED for trial in self._list_trials())

    def conclude(self) -> SweepResult:
        """Return what the sweep has come to so far."""
        from mnistcli.commands.sweep.ranking import compute_importances

        sweep = self._desk.sweep
        ranking = tuple(trial for trial in self._list_trials() if trial.state in _ENDED)
        counts = {state: sum(t.state == state for t in ranking) for state in _ENDED}
        best = ranking[0] if counts["complete"] else None
        return SweepResult(
            study=self._desk.study.study_name,
            objective=sweep.objective,
            direction=sweep.direction,
            trials=sweep.trials,
            **counts,
            best=best,
            test=None if best is None else self._find_test(best.trial),
            importances=compute_importances(self._desk.study),
            ranking=ranking,
        )

    def show(self, answer: SweepResult, *, as_json: bool, quiet: bool) -> None:
        """Print the answer."""
        if as_json:
            self._console.print_json(answer)
        elif quiet:
            self._console.print_line((answer.best and answer.best.checkpoint) or "")
        else:
            self._console.print_table(*render_sweep(answer))
            self._console.print_line(render_best(answer))
        if answer.best is not None:
            where = f" on {answer.best.host}" if answer.best.host else ""
            self._console.note(f"best  {answer.best.checkpoint}{where}")

    def _list_trials(self) -> list[TrialResult]:
        """Return all trials, finished ones first and from the best on."""
        from mnistcli.commands.sweep.ranking import list_standings, rank

        standings = list_standings(self._desk.study, self._desk.sweep, self._directory)
        ranked = rank(standings, self._desk.sweep)
        others = [standing for standing in standings if standing not in ranked]
        return [self._describe(standing) for standing in (*ranked, *others)]

    def _describe(self, standing: Standing) -> TrialResult:
        """Return a trial as scripts see it; this machine's paths are as the user wrote them."""
        path = standing.path
        is_here = self._desk.is_here(standing.host, path.parent)
        if is_here:
            path = self._directory / path.name
        return TrialResult(
            trial=standing.number,
            state=standing.state,
            value=standing.value,
            parameters=standing.values,
            epochs=standing.epochs,
            checkpoint=str(path) if standing.host else None,
            host=None if is_here or not standing.host else standing.host,
            reason=standing.reason or None,
            seconds=standing.seconds,
        )

    def _find_test(self, number: int) -> TestResult | None:
        """Return a trial's score on the test set."""
        from mnistcli.commands.sweep.ranking import list_standings

        standings = list_standings(self._desk.study, self._desk.sweep, self._directory)
        test = standings[number].test
        return None if test is None else TestResult(loss=test[0], accuracy=test[1])


def describe_plan(sweep: Sweep) -> SweepPlanResult:
    """Return what a sweep would try."""
    rows = tuple(
        DimensionResult(
            key=dimension.key,
            values=dimension.describe(),
            points=None if (points := dimension.list_points()) is None else len(points),
        )
        for dimension in sweep.search
    )
    return SweepPlanResult(
        search=rows,
        points=sweep.count_points(),
        sampler=sweep.sampler,
        pruner=sweep.pruner,
        objective=sweep.objective,
        trials=sweep.trials,
        refused=_count_refused(sweep) if sweep.sampler == "grid" else None,
    )


def _count_refused(sweep: Sweep) -> int:
    """Try every combination of a grid on the config."""
    refused = 0
    for labels in sweep.list_points():
        try:
            sweep.make_config(sweep.decode_params(labels))
        except ConfigError:
            refused += 1
    return refused


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
