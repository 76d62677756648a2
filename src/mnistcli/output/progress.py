"""Epochs as they pass: a Rich bar, one plain line each, or nothing; downloads likewise."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from mnistcli.errors import make_printable
from mnistcli.output.terminal import Progress, make_console, write_error_line

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class EpochDisplay(Protocol):
    """What shows a run while it runs."""

    def show_piece(self, epoch: int, share: float, metrics: dict[str, float]) -> None:
        """Show how far an epoch (from 1) has come, 0 to 1, and its metrics so far."""

    def show_epoch(self, epoch: int, metrics: dict[str, float], duration_s: float) -> None:
        """Show a completed epoch (from 1)."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def format_metrics(metrics: dict[str, float]) -> str:
    """Write metrics the way people compare them: `loss 0.3832  accuracy 0.8959`."""
    digits = {"learning_rate": ".3g"}  # which may be far below 1
    return "  ".join(f"{name} {value:{digits.get(name, '.4f')}}" for name, value in metrics.items())


class SilentEpochs:
    """Shows nothing."""

    def show_piece(self, epoch: int, share: float, metrics: dict[str, float]) -> None:
        """Show nothing."""

    def show_epoch(self, epoch: int, metrics: dict[str, float], duration_s: float) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class EpochLines:
    """One line per epoch on stderr."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def show_piece(self, epoch: int, share: float, metrics: dict[str, float]) -> None:
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

    def show_piece(self, epoch: int, share: float, metrics: dict[str, float]) -> None:
        """Move the bar inside an epoch."""
        self._bar.update(self._task, completed=epoch - 1 + share, metrics=format_metrics(metrics))

    def show_epoch(self, epoch: int, metrics: dict[str, float], duration_s: float) -> None:
        """Move the bar to the end of an epoch."""
        del duration_s  # the bar shows the time left instead
        self._bar.update(self._task, completed=epoch, metrics=format_metrics(metrics))

    def close(self) -> None:
        """Stop the bar where it stands."""
        self._bar.stop()


def open_epoch_display(epochs: int, completed: int, progress: Progress) -> EpochDisplay:
    """Return a bar, lines, or what shows nothing."""
    if progress == "bar":
        return EpochBar(epochs, completed)
    return EpochLines(epochs) if progress == "lines" else SilentEpochs()


class DownloadDisplay:
    """A bar for bytes under way, of a file or a data set, one line at their start, or nothing."""

    def __init__(self, progress: Progress, verb: str = "downloading") -> None:
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
                write_error_line(f"{self._verb} {make_printable(file)}{size}")
            self._announced.add(file)
            return
        if self._bar is None:
            self._bar = _open_download_bar(self._verb)
        if file not in self._tasks:
            self._tasks[file] = self._bar.add_task(file, total=total_bytes)
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
