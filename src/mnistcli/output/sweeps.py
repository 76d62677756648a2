"""Sweeps for people: trials as they end, a live table of them, and what they came to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pydantic import JsonValue
from rich import box
from rich.table import Table
from rich.text import Text

from mnistcli.errors import make_printable
from mnistcli.output.sweep_results import SweepPlanResult, SweepResult, TrialResult
from mnistcli.output.terminal import Progress, make_console, write_error_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_SHOWN = 10  # rows of the live table
_ENDED = ("complete", "pruned", "failed")


class TrialDisplay(Protocol):
    """What shows a sweep while it runs."""

    def show(self, trials: Sequence[TrialResult], ended: Sequence[TrialResult]) -> None:
        """Show where all trials stand, the best first, and those that have ended just now."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class SilentTrials:
    """Shows nothing."""

    def show(self, trials: Sequence[TrialResult], ended: Sequence[TrialResult]) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class TrialLines:
    """A line on stderr for each trial that has ended."""

    def __init__(self, objective: str) -> None:
        self._objective = objective

    def show(self, trials: Sequence[TrialResult], ended: Sequence[TrialResult]) -> None:
        """Write the lines of trials that have ended."""
        shorten = _shorten(key for trial in trials for key in trial.parameters)
        done = sum(trial.state in _ENDED for trial in trials) - len(ended)
        for number, trial in enumerate(ended, done + 1):
            values = _describe(trial.parameters, shorten)
            came_to = _describe_end(trial, self._objective)
            write_error_line(f"{number}/{len(trials)}  trial {trial.trial}  {came_to}  {values}")

    def close(self) -> None:
        """Do nothing."""


class TrialTable:
    """The best trials and those that run, on stderr, again and again in one place."""

    def __init__(self, objective: str) -> None:
        from rich.live import Live

        self._objective = objective
        self._live: Live = Live(
            console=make_console(sys.stderr, terminal=True), refresh_per_second=4, transient=True
        )
        self._live.start()

    def show(self, trials: Sequence[TrialResult], ended: Sequence[TrialResult]) -> None:
        """Draw the table anew."""
        del ended  # they are in it
        counts = {state: sum(t.state == state for t in trials) for state in (*_ENDED, "running")}
        done = sum(counts[state] for state in _ENDED)
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        running = [trial for trial in trials if trial.state == "running"]
        shown = [*[t for t in trials if t.state in _ENDED][:_SHOWN], *running]
        head = Text(f"{done} of {len(trials)} trials{f': {told}' if told else ''}", style="bold")
        self._live.update(_stack(head, make_table(shown, self._objective)))

    def close(self) -> None:
        """Remove the table: the ranking takes its place."""
        self._live.stop()


def open_trial_display(objective: str, progress: Progress) -> TrialDisplay:
    """Return a live table, lines, or what shows nothing."""
    if progress == "bar":
        return TrialTable(objective)
    return TrialLines(objective) if progress == "lines" else SilentTrials()


def _stack(*parts: RenderableType) -> RenderableType:
    """One below the other."""
    from rich.console import Group

    return Group(*parts)


def make_table(trials: Sequence[TrialResult], objective: str) -> Table:
    """Return trials as a table, a column for each searched key."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.parameters))
    shorten = _shorten(keys)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in ("trial", objective, "epochs", "state", *(shorten[key] for key in keys)):
        is_left = title == "state"
        table.add_column(title, justify="left" if is_left else "right", no_wrap=True)
    for trial in trials:
        table.add_row(
            str(trial.trial),
            "-" if trial.value is None else f"{trial.value:.4f}",
            str(trial.epochs),
            trial.state,
            *(_format(trial.parameters[k]) if k in trial.parameters else "-" for k in keys),
            style=None if trial.state == "complete" else "dim",
        )
    return table


def render_sweep(answer: SweepResult) -> Iterator[RenderableType]:
    """Show the ranking, why trials failed, and which keys made the difference."""
    yield make_table(answer.ranking, answer.objective)
    reasons = [trial for trial in answer.ranking if trial.reason]
    if reasons:
        lines = [make_printable(f"trial {one.trial} failed: {one.reason}") for one in reasons]
        yield Text("\n".join(lines))
    if answer.importances:
        shorten = _shorten(answer.importances)
        shares = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        shares.add_column("key")
        shares.add_column("importance", justify="right")
        for key, share in answer.importances.items():
            shares.add_row(shorten[key], f"{share:.2f}")
        yield shares
    counts = f"{answer.complete} complete, {answer.pruned} pruned, {answer.failed} failed"
    yield Text(f"{answer.trials} trials: {counts}")


def render_best(answer: SweepResult) -> str:
    """Say which trial is the best, and how good it is on data that chose nothing."""
    if answer.best is None or answer.best.value is None:
        return "no trial is complete"
    test = answer.test
    beside = "" if test is None else f", test accuracy {test.accuracy:.4f}, loss {test.loss:.4f}"
    best = answer.best
    return f"best trial {best.trial}: {answer.objective} {best.value:.4f}{beside}"


def render_plan(answer: SweepPlanResult) -> Iterator[RenderableType]:
    """Show what would be searched."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("key")
    table.add_column("values")
    table.add_column("points", justify="right")
    for row in answer.search:
        table.add_row(row.key, row.values, "-" if row.points is None else str(row.points))
    yield table
    points = "" if answer.points is None else f" of {answer.points} combinations"
    yield Text(
        f"{answer.trials} trials{points}, sampler {answer.sampler}, pruner {answer.pruner},"
        f" objective {answer.objective}"
    )
    if answer.refused:
        yield Text(f"{answer.refused} of them are refused by the config's rules, and would fail")


def _describe_end(trial: TrialResult, objective: str) -> str:
    """Say what became of a trial."""
    if trial.state == "failed":
        return f"failed: {make_printable(trial.reason or '')}"
    value = "-" if trial.value is None else f"{trial.value:.4f}"
    after = f"  pruned after epoch {trial.epochs}" if trial.state == "pruned" else ""
    return f"{objective} {value}{after}"


def _describe(values: Mapping[str, JsonValue], names: Mapping[str, str]) -> str:
    """Write the searched keys' values in a row."""
    return "  ".join(f"{names[key]} {_format(value)}" for key, value in values.items())


def _format(value: JsonValue) -> str:
    """Write a value as YAML has it, numbers as people compare them."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return make_printable(value) if isinstance(value, str) else json.dumps(value)


def _shorten(keys: Iterable[str]) -> dict[str, str]:
    """Return the last word of each key, or all of it where two would be the same."""
    keys = list(dict.fromkeys(keys))
    ends = [key.rpartition(".")[2] for key in keys]
    pairs = zip(keys, ends, strict=True)
    return {key: key if ends.count(end) > 1 or end.isdecimal() else end for key, end in pairs}
