"""Follows a sweep while it runs, and says what it came to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.commands.sweep.definition import Sweep
from mnistcli.errors import ConfigError
from mnistcli.output.results import TestResult
from mnistcli.output.sweep_results import (
    DimensionResult,
    SweepPlanResult,
    SweepResult,
    TrialLine,
    TrialResult,
)
from mnistcli.output.sweeps import open_trial_display, render_best, render_sweep
from mnistcli.output.terminal import Output

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
        from mnistcli.commands.sweep.importances import compute_importances

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
            sweep.make_config(sweep.read_values(labels))
        except ConfigError:
            refused += 1
    return refused
