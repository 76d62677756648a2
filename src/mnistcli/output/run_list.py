"""Many runs as a table: plain text of its own, as Rich takes a quarter of a second for 200 rows."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len

from mnistcli.errors import make_printable
from mnistcli.output.terminal import is_terminal

Row = Mapping[str, str | int | float | None]

_GAP = "   "
_EMPTY = "-"
_TEXTS = ("checkpoint", "dataset", "model", "saved")  # stand on the left, numbers on the right
# What tells least, first.
_DISPENSABLE = ("saved", "seconds.total", "best.accuracy", "dataset", "last.accuracy",
                "last.val_accuracy", "model", "best.val_accuracy", "epochs")  # fmt: skip


@dataclass(frozen=True)
class RunTable:
    """What the table shows.

    Attributes:
        columns: in order.
        titles: of the columns.
        kept: the columns that are shown however narrow the terminal is.
    """

    columns: tuple[str, ...]
    titles: Mapping[str, str]
    kept: tuple[str, ...]


def find_width() -> int | None:
    """Return how many columns of characters there are; None off a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def render_runs(table: RunTable, runs: Sequence[Row], width: int | None) -> tuple[str, list[str]]:
    """Return the table, and the columns for which there was no room; nothing without runs."""
    if not runs:
        return "", []
    texts = {
        name: [table.titles[name], *(_format_cell(name, run) for run in runs)]
        for name in table.columns
    }
    widths = {name: max(map(cell_len, column)) for name, column in texts.items()}
    hidden = _choose_hidden(table, widths, width)
    shown = [name for name in table.columns if name not in hidden]
    on_left = {name: _is_text(name, runs) for name in shown}
    padded = [
        [_pad(text, widths[name], left=on_left[name]) for text in texts[name]] for name in shown
    ]
    lines = [_GAP.join(cells) for cells in zip(*padded, strict=True)]
    rule = "─" * (sum(widths[name] for name in shown) + len(_GAP) * (len(shown) - 1))
    head = f" {lines[0]}".rstrip()
    if is_terminal(sys.stdout):
        head = f"\x1b[1m{head}\x1b[0m"
    return "\n".join((head, f" {rule}", *(f" {line}".rstrip() for line in lines[1:]))), hidden


def render_reasons(files: Sequence[tuple[str, str]]) -> str:
    """Return a line for each file that is no run, with the reason."""
    names = [make_printable(name) for name, _ in files]
    width = max(map(cell_len, names), default=0)
    return "\n".join(
        f" {_pad(name, width, left=True)}{_GAP}{make_printable(reason)}"
        for name, (_, reason) in zip(names, files, strict=True)
    )


def _choose_hidden(table: RunTable, widths: Mapping[str, int], width: int | None) -> list[str]:
    """Leave out what tells least until the rest fits, the config's keys last."""
    keys = [name for name in table.columns[::-1] if name not in (*_DISPENSABLE, *table.kept)]
    candidates = [
        name for name in (*_DISPENSABLE, *keys) if name in widths and name not in table.kept
    ]
    needed = 1 - len(_GAP) + sum(size + len(_GAP) for size in widths.values())
    hidden: list[str] = []
    while width is not None and needed > width and len(hidden) < len(candidates):
        hidden.append(candidates[len(hidden)])
        needed -= widths[hidden[-1]] + len(_GAP)
    return hidden


def _is_text(name: str, runs: Sequence[Row]) -> bool:
    """Tell whether a column holds words."""
    return name in _TEXTS or any(isinstance(run.get(name), str) for run in runs)


def _pad(text: str, width: int, *, left: bool) -> str:
    """Fill a cell up to its column's width; some characters are two columns wide."""
    blank = " " * (width - cell_len(text))
    return text + blank if left else blank + text


def _format_cell(name: str, run: Row) -> str:
    """Write a cell as people compare it."""
    value = run.get(name)
    if value is None:
        return _EMPTY
    if name == "epochs" and value != run["planned_epochs"]:
        return f"{value}/{run['planned_epochs']}"
    if name == "saved":
        return f"{datetime.fromisoformat(str(value)).astimezone():%Y-%m-%d %H:%M}"
    if name == "seconds.total":
        return f"{value:.1f}"
    if name.startswith(("last.", "best.", "test.")):
        return f"{value:.4f}"
    return f"{value:g}" if isinstance(value, float) else make_printable(str(value))
