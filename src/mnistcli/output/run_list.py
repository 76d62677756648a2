"""The table of `ls`: its columns, each declared once, as text and as CSV.

The text is plain: Rich takes a quarter of a second for 200 rows.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from rich.cells import cell_len

from mnistcli.checkpoints.record import RecordedTrialState
from mnistcli.config.suggestions import find_nearest
from mnistcli.errors import UsageError
from mnistcli.output.results import Accuracy, ListedCheckpoint, ListResult, Status, format_rows
from mnistcli.output.terminal import is_terminal

Cell = str | int | float | None
Row = Mapping[str, Cell]

_GAP = "   "
_EMPTY = "-"
_FLAG = "--sort"


def _format_epochs(row: Row) -> str:
    is_complete = row["epochs"] == row["planned_epochs"]
    text = f"{row['epochs']}" if is_complete else f"{row['epochs']}/{row['planned_epochs']}"
    return f"{text} stopped early" if row["stopped_early"] == "true" else text


def _format_saved(row: Row) -> str:
    return f"{datetime.fromisoformat(str(row['saved'])).astimezone():%Y-%m-%d %H:%M}"


def _format_seconds(row: Row) -> str:
    return f"{row['seconds.total']:.1f}"


@dataclass(frozen=True)
class Column:
    """A column that every list has, in CSV in the order of COLUMNS.

    Attributes:
        name: its title, in CSV and for `--sort`; the dotted path of its value in the JSON.
        type: of a cell in CSV; None stands for an empty one.
        position: its place in the table for people; None: it has none.
        hidden: columns of a table that is too wide are hidden from 0 on, then those without a
            number from the last on; None: as those of config keys.
        is_kept: it is never hidden.
        format: writes a cell for people, from its row; None: as any number or text.
    """

    name: str
    type: Any
    position: int | None = None
    hidden: int | None = None
    is_kept: bool = False
    format: Callable[[Row], str] | None = None


def _metric(name: str, position: int | None = None, **facts: Any) -> Column:
    def write(row: Row) -> str:
        return f"{row[name]:.4f}"

    cell = Accuracy | None if name == "test.accuracy" else float | None
    return Column(name, cell, position, format=write, **facts)


_BEFORE_KEYS = 3  # columns of the table; those of config keys follow
COLUMNS = (
    Column("checkpoint", str, 0, is_kept=True),
    Column("status", Status),
    Column("reason", str | None),
    Column("dataset", str | None, 1, hidden=3),
    Column("dataset.sha256", str | None),
    Column("model", str | None, 2, hidden=6),
    Column("parameters", int | None),
    Column("epochs", int | None, 3, hidden=8, format=_format_epochs),
    Column("planned_epochs", int | None),
    _metric("last.loss"),
    _metric("last.accuracy", 8, hidden=4),
    _metric("last.val_loss"),
    _metric("last.val_accuracy", 10, hidden=5),
    _metric("best.loss"),
    _metric("best.accuracy", 9, hidden=2),
    _metric("best.val_loss"),
    _metric("best.val_accuracy", 11, hidden=7),
    _metric("test.loss"),
    _metric("test.accuracy", 12, is_kept=True),
    Column("seconds.total", float | None, 13, hidden=1, format=_format_seconds),
    Column("seconds.per_epoch", float | None),
    Column("saved", datetime | None, 14, hidden=0, format=_format_saved),
    Column("trial.study", str | None),
    Column("trial.number", int | None),
    Column("trial.state", RecordedTrialState | None, 4),
    Column("stopped_early", bool | None),
    Column("weights_epoch", int | None, 5, hidden=10),
    _metric("metrics.loss"),
    _metric("metrics.accuracy", 6, hidden=9),
    _metric("metrics.val_loss"),
    _metric("metrics.val_accuracy", 7, hidden=11),
)
# Of the epoch whose weights early stopping has put back.
_OF_WEIGHTS = ("weights_epoch", "metrics.accuracy", "metrics.val_accuracy")
_BY_NAME = {column.name: column for column in COLUMNS}
FIXED = tuple(_BY_NAME)
_SHOWN = sorted((c for c in COLUMNS if c.position is not None), key=lambda c: c.position or 0)
_HIDDEN = sorted((c for c in COLUMNS if c.hidden is not None), key=lambda c: c.hidden or 0)
# These config keys have columns of their own: dataset, model, planned_epochs.
_ELSEWHERE = {"dataset.name", "model.type", "model.hidden", "training.epochs"}


@dataclass(frozen=True)
class RunList:
    """Checkpoints and their cells by column.

    Attributes:
        files: the checkpoints.
        rows: the cells of COLUMNS and of all config keys, one mapping a file.
        differing: the config keys in which the runs differ.
    """

    files: tuple[ListedCheckpoint, ...]
    rows: tuple[Row, ...]
    differing: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of CSV."""
        return (*FIXED, *self.differing)

    @cached_property
    def known(self) -> dict[str, None]:
        """The names of all columns, in order."""
        return dict.fromkeys((*FIXED, *(name for row in self.rows for name in row)))

    def find(self, text: str) -> str:
        """Return the name of a column, given that name or a unique end of it.

        Raises:
            UsageError: there is none, or more than one.
        """
        known = self.known
        matches = [text] if text in known else [n for n in known if n.endswith(f".{text}")]
        if len(matches) == 1:
            return matches[0]
        if matches:
            hint = f"write one of {', '.join(matches)}"
            raise UsageError(_FLAG, f"{text!r} can be more than one column", hint)
        near = find_nearest(text, known)
        guess = f"did you mean {near}? " if near else ""
        hint = f"{guess}The columns are {', '.join(self.names)}"
        raise UsageError(_FLAG, f"unknown column {text!r}", hint)

    def shorten(self, name: str) -> str:
        """Return the shortest end of a config key's name that means no other column."""
        parts = [] if name in FIXED else name.split(".")
        for start in range(len(parts) - 1, 0, -1):
            end = ".".join(parts[start:])
            if end not in FIXED and sum(other.endswith(f".{end}") for other in self.known) == 1:
                return end
        return name

    def sort(self, name: str, *, reverse: bool) -> tuple[ListedCheckpoint, ...]:
        """Return the files in the order of a column, then of their names; empty cells last."""
        cells = [row.get(name) for row in self.rows]
        names = [row["checkpoint"] for row in self.rows]
        numbers = sorted(range(len(cells)), key=lambda number: _make_key(names[number]))
        filled = [number for number in numbers if cells[number] is not None]
        filled.sort(key=lambda number: _make_key(cells[number]), reverse=reverse)
        empty = (number for number in numbers if cells[number] is None)
        return tuple(self.files[number] for number in (*filled, *empty))


def make_run_list(files: Sequence[ListedCheckpoint]) -> RunList:
    """Return the cells of every file, and the config keys in which the runs differ."""
    configs = [dict(_flatten(file.config.model_dump(mode="json"))) for file in files if file.config]
    left = iter(configs)
    rows = tuple({**_list_facts(file), **(next(left) if file.config else {})} for file in files)
    return RunList(tuple(files), rows, tuple(_find_differing(configs)))


def _list_facts(file: ListedCheckpoint) -> dict[str, Cell]:
    facts = dict(_flatten(file.model_dump(mode="json", exclude={"config"})))
    facts["dataset"] = facts.get("dataset.name")
    facts["reason"] = facts["reason"] or None
    return {name: facts.get(name) for name in FIXED}


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Cell]]:
    """Flatten nested values to dotted keys; numbers that are not finite become None."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flatten(item, f"{prefix}{key}.")
        elif isinstance(item, list | bool):
            yield f"{prefix}{key}", json.dumps(item, separators=(",", ":"))
        elif isinstance(item, float) and not math.isfinite(item):
            yield f"{prefix}{key}", None
        else:
            yield f"{prefix}{key}", item


def _find_differing(configs: Sequence[Row]) -> Iterator[str]:
    """Name the keys with several values, and one key of each block that only some runs have."""
    keys = list(dict.fromkeys(key for config in configs for key in config))
    varied = {key for key in keys if len({c[key] for c in configs if key in c}) > 1} - _ELSEWHERE
    for block, members in _group_keys(keys).items():
        having = sum(any(key.startswith(block) for key in config) for config in configs)
        if 0 < having < len(configs) and not any(key.startswith(block) for key in varied):
            varied.add(members[0])
        yield from (key for key in members if key in varied)


def _group_keys(keys: Sequence[str]) -> dict[str, list[str]]:
    """Return the blocks that keys lie in, and each one's keys, its name before all others."""
    blocks: dict[str, list[str]] = {}
    for key in keys:
        blocks.setdefault(key.rpartition(".")[0] + ".", []).append(key)
    return {
        block: sorted(members, key=lambda key: key != f"{block}name")
        for block, members in blocks.items()
    }


def _make_key(cell: Cell) -> tuple[bool, Any]:
    # Numbers are compared as numbers, within texts too: run-2 before run-10.
    if not isinstance(cell, str):
        return False, cell
    parts = re.split(r"(\d+)", cell.casefold())
    return True, [int(part) if index % 2 else part for index, part in enumerate(parts)]


def format_list_csv(result: ListResult) -> str:
    """Return the CSV of `ls`."""
    runs = make_run_list(result.checkpoints)
    return format_rows(runs.names, ([row.get(name) for name in runs.names] for row in runs.rows))


@dataclass(frozen=True)
class RunTable:
    """The table for people.

    Attributes:
        columns: names of those that are shown, in order.
        hidden: titles of those for which the terminal is too narrow.
        lines: of text; none without runs.
        reasons: a line for each file that is not a run.
    """

    columns: tuple[str, ...]
    hidden: tuple[str, ...]
    lines: tuple[str, ...]
    reasons: tuple[str, ...]


def make_run_table(result: ListResult) -> RunTable:
    """Return the table of a list, as wide as the terminal where stdout is one."""
    listed = make_run_list(result.checkpoints)
    runs = [row for row in listed.rows if row["status"] == "run"]
    reasons = [(str(r["checkpoint"]), str(r["reason"])) for r in listed.rows if r not in runs]
    names = [n for n in _list_shown(listed, result.sorted_by) if _has_cells(n, runs)]
    if all(run["weights_epoch"] == run["epochs"] for run in runs):  # then they are the last ones
        names = [n for n in names if n not in _OF_WEIGHTS or n == result.sorted_by]
    texts = {
        name: [listed.shorten(name), *(_format_cell(name, run) for run in runs)] for name in names
    }
    widths = {name: max(map(cell_len, column)) for name, column in texts.items()}
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    hidden = _choose_hidden(names, result.sorted_by, widths, width)
    shown = [name for name in names if name not in hidden]
    padded = [
        [_pad(text, widths[name], left=_is_text(name, runs)) for text in texts[name]]
        for name in shown
    ]
    return RunTable(
        columns=tuple(shown),
        hidden=tuple(listed.shorten(name) for name in hidden),
        lines=tuple(_join_cells(padded)) if runs else (),
        reasons=tuple(_list_reasons(reasons)),
    )


def render_list(result: ListResult) -> list[str]:
    """Return the table, and below it the files that are not runs."""
    table = make_run_table(result)
    blocks = ("\n".join(table.lines), "\n".join(table.reasons))
    return ["\n\n".join(filter(None, blocks))] if result.checkpoints else []


def _list_shown(listed: RunList, sorted_by: str) -> dict[str, None]:
    shown = [column.name for column in _SHOWN]
    chosen = [] if sorted_by in shown else [sorted_by]
    return dict.fromkeys([*shown[:_BEFORE_KEYS], *listed.differing, *chosen, *shown[_BEFORE_KEYS:]])


def _has_cells(name: str, runs: Sequence[Row]) -> bool:
    return any(run.get(name) is not None for run in runs)


def _is_text(name: str, runs: Sequence[Row]) -> bool:
    return any(isinstance(run.get(name), str) for run in runs)


def _join_cells(columns: Sequence[Sequence[str]]) -> Iterator[str]:
    """Return the lines of a table, given its padded columns: titles, a rule, the rows."""
    titles, *rows = (_GAP.join(cells) for cells in zip(*columns, strict=True))
    head = f" {titles}".rstrip()
    yield f"\x1b[1m{head}\x1b[0m" if is_terminal(sys.stdout) else head
    yield f" {'─' * cell_len(titles)}"
    yield from (f" {row}".rstrip() for row in rows)


def _list_reasons(files: Sequence[tuple[str, str]]) -> Iterator[str]:
    names = [name for name, _ in files]
    width = max(map(cell_len, names), default=0)
    for name, (_, reason) in zip(names, files, strict=True):
        yield f" {_pad(name, width, left=True)}{_GAP}{reason}"


def _choose_hidden(
    names: Sequence[str], sorted_by: str, widths: Mapping[str, int], width: int | None
) -> list[str]:
    """Return the columns to leave out until the rest fits."""
    kept = {sorted_by, *(column.name for column in COLUMNS if column.is_kept)}
    first = [column.name for column in _HIDDEN]
    others = [name for name in names[::-1] if name not in first]
    candidates = [name for name in (*first, *others) if name in widths and name not in kept]
    needed = 1 - len(_GAP) + sum(size + len(_GAP) for size in widths.values())
    hidden: list[str] = []
    while width is not None and needed > width and len(hidden) < len(candidates):
        hidden.append(candidates[len(hidden)])
        needed -= widths[hidden[-1]] + len(_GAP)
    return hidden


def _pad(text: str, width: int, *, left: bool) -> str:
    blank = " " * (width - cell_len(text))  # some characters are two columns wide
    return text + blank if left else blank + text


def _format_cell(name: str, run: Row) -> str:
    value, column = run.get(name), _BY_NAME.get(name)
    if value is None:
        return _EMPTY
    if column is not None and column.format is not None:
        return column.format(run)
    return f"{value:g}" if isinstance(value, float) else str(value)
