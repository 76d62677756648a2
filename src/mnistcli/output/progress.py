"""Progress on stderr, of epochs, trials and downloads: a bar, lines, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mnistcli.errors import make_displayable, pluralize
from mnistcli.output.terminal import ProgressMode, make_console, write_error_line

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from mnistcli.output.results import TrialResult


_SHOWN_TRIALS = 10  # rows of the live table
_ENDED = ("complete", "pruned", "failed")


class EpochDisplay(Protocol):
    """Shows a run while it runs."""

    def show_batch(self, epoch: int, share: float, metrics: dict[str, float]) -> None:
        """Show how far an epoch (from 1) has come, 0 to 1, and its metrics so far."""

    def show_epoch(self, epoch: int, metrics: dict[str, float], duration_s: float) -> None:
        """Show a completed epoch (from 1)."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def format_metrics(metrics: dict[str, float]) -> str:
    """Format metrics for people: `loss 0.3832  accuracy 0.8959`."""
    digits = {"learning_rate": ".3g"}  # which may be far below 1
    return "  ".join(f"{name} {value:{digits.get(name, '.4f')}}" for name, value in metrics.items())


class SilentEpochs:
    """Shows nothing."""

    def show_batch(self, epoch: int, share: float, metrics: dict[str, float]) -> None:
        """Show nothing."""

    def show_epoch(self, epoch: int, metrics: dict[str, float], duration_s: float) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class EpochLines:
    """One line per epoch on stderr."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def show_batch(self, epoch: int, share: float, metrics: dict[str, float]) -> None:
        """Show nothing inside an epoch."""

    def show_epoch(self, epoch: int, metrics: dict[str, float], duration_s: float) -> None:
        """Write the epoch's line."""
        write_error_line(
            f"epoch {epoch}/{self._epochs}  {format_metrics(metrics)}  {duration_s:.2f} s"
        )

    def close(self) -> None:
        """Do nothing."""


class EpochBar:
    """A bar over all epochs with loss, accuracy and the time left, on stderr."""

    def __init__(self, epochs: int, completed: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar: Bar = RichProgress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=make_console(sys.stderr, terminal=True),
            refresh_per_second=5,
        )
        self._task: TaskID = self._bar.add_task("", total=epochs, completed=completed, metrics="")
        self._bar.start()

    def show_batch(self, epoch: int, share: float, metrics: dict[str, float]) -> None:
        """Move the bar inside an epoch."""
        self._bar.update(self._task, completed=epoch - 1 + share, metrics=format_metrics(metrics))

    def show_epoch(self, epoch: int, metrics: dict[str, float], duration_s: float) -> None:
        """Move the bar to the end of an epoch."""
        del duration_s  # the bar shows the time left instead
        self._bar.update(self._task, completed=epoch, metrics=format_metrics(metrics))

    def close(self) -> None:
        """Stop the bar where it stands."""
        self._bar.stop()


def open_epoch_display(epochs: int, completed: int, progress: ProgressMode) -> EpochDisplay:
    """Return the display of a run, in the chosen form."""
    if progress == "bar":
        return EpochBar(epochs, completed)
    return EpochLines(epochs) if progress == "lines" else SilentEpochs()


class TrialDisplay(Protocol):
    """Shows a sweep while it runs."""

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
        from mnistcli.output.tables import describe_parameters, describe_trial_end, shorten_keys

        names = shorten_keys(key for trial in trials for key in trial.parameters)
        done = sum(trial.state in _ENDED for trial in trials) - len(ended)
        for number, trial in enumerate(ended, done + 1):
            values = describe_parameters(trial.parameters, names)
            outcome = describe_trial_end(trial, self._objective)
            write_error_line(f"{number}/{len(trials)}  trial {trial.trial}  {outcome}  {values}")

    def close(self) -> None:
        """Do nothing."""


class TrialTable:
    """A live table on stderr of the best trials and of those that run."""

    def __init__(self, objective: str) -> None:
        from rich.live import Live

        self._objective = objective
        self._live: Live = Live(
            console=make_console(sys.stderr, terminal=True), refresh_per_second=4, transient=True
        )
        self._live.start()

    def show(self, trials: Sequence[TrialResult], ended: Sequence[TrialResult]) -> None:
        """Draw the table again."""
        from rich.console import Group
        from rich.text import Text

        from mnistcli.output.tables import make_trial_table

        del ended  # they are in it
        counts = {state: sum(t.state == state for t in trials) for state in (*_ENDED, "running")}
        done = sum(counts[state] for state in _ENDED)
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        running = [trial for trial in trials if trial.state == "running"]
        shown = [*[t for t in trials if t.state in _ENDED][:_SHOWN_TRIALS], *running]
        printable = [trial.make_displayable() for trial in shown]
        count = f"{done} of {pluralize(len(trials), 'trial')}"
        head = Text(f"{count}: {told}" if told else count, style="bold")
        self._live.update(Group(head, make_trial_table(printable, self._objective)))

    def close(self) -> None:
        """Remove the table: the ranking takes its place."""
        self._live.stop()


def open_trial_display(objective: str, progress: ProgressMode) -> TrialDisplay:
    """Return the display of a sweep, in the chosen form; `bar` is a live table."""
    if progress == "bar":
        return TrialTable(objective)
    return TrialLines(objective) if progress == "lines" else SilentTrials()


class DownloadDisplay:
    """A bar for bytes under way, of a file or a data set, one line at their start, or nothing."""

    def __init__(self, progress: ProgressMode, verb: str = "downloading") -> None:
        self._progress, self._verb = progress, verb
        self._bar: Bar | None = None
        self._tasks: dict[str, TaskID] = {}
        self._announced: set[str] = set()

    def show(self, file: str, received_bytes: int, total_bytes: int | None) -> None:
        """Show how much of a file has come."""
        if self._progress == "none":
            return
        if self._progress == "lines":
            if file not in self._announced:
                size = f" ({total_bytes / 1e6:.0f} MB)" if total_bytes and total_bytes > 1e6 else ""
                write_error_line(f"{self._verb} {file}{size}")
            self._announced.add(file)
            return
        if self._bar is None:
            self._bar = _open_download_bar(self._verb)
        if file not in self._tasks:
            self._tasks[file] = self._bar.add_task(make_displayable(file), total=total_bytes)
        self._bar.update(self._tasks[file], completed=received_bytes, total=total_bytes)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


def _open_download_bar(verb: str) -> Bar:
    """Start a bar that counts bytes."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn(f"{verb} {{task.description}}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=make_console(sys.stderr, terminal=True),
    )
    bar.start()
    return bar
