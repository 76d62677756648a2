"""Run a sweep: `plan_sweep` describes it, `run_sweep` runs its workers and ranks the trials.

Optuna is imported inside functions: after the sweep's file has been validated, and not at all
for `--dry-run`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.atomic_files import check_directory
from mnistcli.checkpoints.record import count_processors
from mnistcli.commands.sweep.definition import Sweep
from mnistcli.commands.sweep.sweep_yaml import load_sweep
from mnistcli.commands.train.request import TrainArguments
from mnistcli.errors import ConfigError, DivergenceError, UsageError, pluralize
from mnistcli.optional_imports import require
from mnistcli.output.logs import note
from mnistcli.output.progress import open_trial_display
from mnistcli.output.results import DimensionResult, SweepPlanResult, SweepResult, TrialResult
from mnistcli.output.terminal import ProgressMode
from mnistcli.signals import SignalReceived, StopRequest

if TYPE_CHECKING:
    from mnistcli.commands.sweep.trial_queue import TrialQueue
    from mnistcli.commands.sweep.workers import WorkerSpec


_INSTALL_HINT = "install it: python -m pip install 'mnistcli[sweep]'"


class SweepInterrupted(SignalReceived):
    """A signal has stopped a sweep; its running trials have been saved.

    Attributes:
        ended: the number of trials that have ended.
        trials: the total number.
    """

    def __init__(self, number: int, ended: int, trials: int) -> None:
        super().__init__(number)
        self.ended, self.trials = ended, trials

    def __str__(self) -> str:
        trials = pluralize(self.trials, "trial")
        return f"interrupted after {self.ended} of {trials}; none of them is lost"


def plan_sweep(source: str) -> SweepPlanResult:
    """Describe what a sweep would search, without Optuna.

    Args:
        source: path of the sweep's YAML file.

    Raises:
        ConfigError: the file is invalid.
    """
    sweep = load_sweep(source)
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
        refused=_count_invalid(sweep) if sweep.sampler == "grid" else None,
    )


def _count_invalid(sweep: Sweep) -> int:
    """Count the combinations of a grid that the config's rules refuse."""
    invalid = 0
    for params in sweep.list_points():
        try:
            sweep.make_config(sweep.decode_params(params))
        except ConfigError:
            invalid += 1
    return invalid


def run_sweep(
    source: str,
    *,
    output: Path | None = None,
    storage: str | None = None,
    study: str | None = None,
    jobs: int = 1,
    data_dir: Path | None = None,
    progress: ProgressMode = "none",
    on_trial_end: Callable[[TrialResult], None] | None = None,
) -> SweepResult:
    """Run the trials of a sweep that have not ended yet, and rank all of them.

    Args:
        source: path of the sweep's YAML file.
        output: folder of the checkpoints and their journal; None for `<source>-sweep`.
        storage: URL of a database that other machines share; None for the journal.
        study: the sweep's name in the storage; None for the file's name.
        jobs: the number of worker processes; one worker runs in this process.
        data_dir: where to look for data sets first.
        progress: what is shown on stderr while trials run.
        on_trial_end: is called with each trial that has ended since.

    Raises:
        ConfigError: the file is invalid.
        UsageError: the folder or the study is another sweep's.
        DataError, ResourceError: trials cannot be run.
        DivergenceError: all trials have failed.
        SweepInterrupted: a signal has come; running trials have been saved.
    """
    sweep = load_sweep(source)
    require("optuna", extra="sweep", hint=_INSTALL_HINT)
    from mnistcli.commands.sweep.study import translate_storage_errors
    from mnistcli.commands.sweep.trial_queue import summarize_sweep
    from mnistcli.commands.sweep.workers import WorkerSpec

    directory = output or Path(f"{Path(source).stem}-sweep")
    _make_directory(directory)
    spec = WorkerSpec(
        sweep=sweep,
        study=study or Path(source).stem,
        source=source,
        storage=storage,
        directory=directory,
        data_dir=data_dir,
        threads=max(1, count_processors() // jobs),
    )
    with (
        translate_storage_errors(spec.storage_name),
        contextlib.closing(_open_queue(spec)) as queue,
    ):
        with (
            StopRequest() as stop,
            contextlib.closing(_TrialMonitor(queue, progress, on_trial_end)) as monitor,
        ):
            monitor.update()
            _run_workers(spec, jobs, queue, stop, monitor, progress)
            monitor.update()
        if stop.received is not None:
            raise SweepInterrupted(stop.received, monitor.count_ended(), sweep.trials)
        result = summarize_sweep(queue)
    _check_result(result, source)
    return result


def _make_directory(directory: Path) -> None:
    check_directory(directory.parent)
    with contextlib.suppress(FileExistsError):  # if it is a file, the next line raises
        directory.mkdir(exist_ok=True)
    check_directory(directory)


def _open_queue(spec: WorkerSpec) -> TrialQueue:
    """Open the study; one without trials must not train over the checkpoints of others.

    Raises:
        UsageError: the folder holds trials that the storage knows nothing of.
    """
    from mnistcli.commands.sweep.study import JOURNAL
    from mnistcli.commands.sweep.workers import open_queue

    has_files = next(spec.directory.glob("trial-*.h5"), None) is not None
    journal = spec.directory / JOURNAL
    if has_files and spec.storage is None and not journal.exists():
        what = f"{spec.directory} holds trials of another sweep"
        raise UsageError("--output", what, "choose another folder")
    queue = open_queue(spec)
    if has_files and not queue.has_trials():
        queue.close()
        where = str(journal) if spec.storage is None else spec.storage_name
        what = f"no trial is recorded, but {spec.directory} holds some, which would be overwritten"
        raise UsageError(where, what, "restore it from a copy, or choose another folder with -o")
    return queue


def _run_workers(
    spec: WorkerSpec,
    jobs: int,
    queue: TrialQueue,
    stop: StopRequest,
    monitor: _TrialMonitor,
    progress: ProgressMode,
) -> None:
    """Run one worker in this process, or several processes."""
    from mnistcli.commands.sweep.trial import WorkerContext
    from mnistcli.commands.sweep.workers import WorkerPool, run_worker

    if jobs > 1:
        WorkerPool(spec, jobs).run(stop, monitor.update, queue.is_finished)
        return
    arguments = TrainArguments(data_dir=spec.data_dir)
    run_worker(WorkerContext(queue, arguments, progress, spec.threads, stop, monitor.update))


def _check_result(result: SweepResult, source: str) -> None:
    if result.complete == 0 and result.pruned == 0:
        reason = next((trial.reason for trial in result.ranking if trial.reason), "")
        failed = pluralize(result.failed, "trial")
        what = f"{failed} failed, and none is complete; the first at: {reason}"
        hint = "search other values, lower learning rates for example"
        raise DivergenceError(source, what, hint)


class _TrialMonitor:
    """Follow a sweep's trials: show them, and pass on those that end.

    Args:
        queue: the sweep's.
        progress: what is shown on stderr.
        on_trial_end: is called with each trial that ends.
    """

    def __init__(
        self,
        queue: TrialQueue,
        progress: ProgressMode,
        on_trial_end: Callable[[TrialResult], None] | None,
    ) -> None:
        self._queue, self._on_trial_end = queue, on_trial_end
        self._ended = {trial.trial for trial in self._list_trials() if trial.has_ended}
        self._display = open_trial_display(queue.sweep.objective, progress)
        if self._ended:
            count = f"{len(self._ended)} of {pluralize(queue.sweep.trials, 'trial')}"
            note(f"goes on with {queue.study.study_name}: {count} have ended before")

    def update(self) -> None:
        """Show what has changed."""
        trials = self._list_trials()
        ended = [one for one in trials if one.has_ended and one.trial not in self._ended]
        ended.sort(key=lambda trial: trial.trial)
        self._display.show(trials, ended)
        for trial in ended:
            self._ended.add(trial.trial)
            if self._on_trial_end is not None:
                self._on_trial_end(trial)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._display.close()

    def count_ended(self) -> int:
        """Return the number of trials that have ended."""
        return sum(trial.has_ended for trial in self._list_trials())

    def _list_trials(self) -> list[TrialResult]:
        """Return all trials, the ended ones first and from the best on."""
        from mnistcli.commands.sweep.trial_queue import list_trials, rank_trials

        trials = list_trials(self._queue)
        ranked = rank_trials(trials, self._queue.sweep)
        return [*ranked, *(trial for trial in trials if not trial.has_ended)]
