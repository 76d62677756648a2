"""Turns what was read of checkpoints into the answer of `ls`, and prints it.

Finds the checkpoints that a command line names: files, and folders of them.

The columns of `ls`: which there are, which are shown, and the order that one of them gives.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mnistcli.checkpoints.reader import CHANGED, CheckpointMetadata, parse_metadata
from mnistcli.checkpoints.untrusted.protocol import MetricRange
from mnistcli.checkpoints.untrusted.sandbox import MetadataReader, ParsedMetadata
from mnistcli.config.schema import HiddenLayer, MlpModel, Model
from mnistcli.errors import CheckpointError, UsageError
from mnistcli.output.results import (
    DatasetResult,
    ListedCheckpoint,
    ListResult,
    ListRow,
    SecondsResult,
    TestResult,
    format_rows,
)
from mnistcli.output.tables import RunTable, find_width, render_reasons, render_runs
from mnistcli.output.terminal import Output

SUFFIXES = (".h5", ".hdf5")


def find_files(paths: Sequence[Path]) -> list[Path | CheckpointError]:
    """Return files, and the checkpoints in folders, each once; an error for what is not there."""
    found: dict[Path, Path | CheckpointError] = {}
    for path in paths:
        try:
            files = _list_folder(path) if path.is_dir() else [path]
            path.lstat()
        except FileNotFoundError:
            error = CheckpointError(str(path), "no such file or folder", "correct the path")
            found[path] = error
            continue
        except OSError as system:
            hint = "see who may, with ls -ld"
            found[path] = CheckpointError(str(path), f"cannot be read: {system.strerror}", hint)
            continue
        for file in files:
            found.setdefault(file, file)
    return list(found.values())


def _list_folder(folder: Path) -> list[Path]:
    """List the checkpoints in a folder; those that are being written are hidden files."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES)
            and not entry.name.startswith(".")
            and not entry.is_dir()
        ]
    return [folder / name for name in sorted(names)]


Cell = str | int | float | None

FIXED = ListRow.list_columns()
# These stand in columns of their own: dataset, model, planned_epochs.
_ELSEWHERE = {"dataset.name", "model.type", "model.hidden", "training.epochs"}
_FLAG = "--sort"


@dataclass(frozen=True)
class Columns:
    """Every file's cells by column.

    Attributes:
        rows: the cells of the fixed columns and of all config keys, one mapping a file.
        differing: the config keys in which the runs differ.
    """

    rows: tuple[Mapping[str, Cell], ...]
    differing: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are worth showing."""
        return (*FIXED, *self.differing)

    @cached_property
    def known(self) -> dict[str, None]:
        """Every column, in order."""
        return dict.fromkeys((*FIXED, *(name for row in self.rows for name in row)))

    def find(self, text: str) -> str:
        """Return the column that is meant by its name or by the end of it.

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
        near = difflib.get_close_matches(text, known, 1)
        guess = f"did you mean {near[0]}? " if near else ""
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

    def sort(self, name: str, *, reverse: bool) -> list[int]:
        """Return the files' numbers in the order of a column, then of their names.

        Empty cells come last.
        """
        cells = [row.get(name) for row in self.rows]
        names = [row["checkpoint"] for row in self.rows]
        numbers = sorted(range(len(cells)), key=lambda number: _make_key(names[number]))
        filled = [number for number in numbers if cells[number] is not None]
        filled.sort(key=lambda number: _make_key(cells[number]), reverse=reverse)
        return [*filled, *(number for number in numbers if cells[number] is None)]


def make_columns(files: Sequence[ListedCheckpoint]) -> Columns:
    """Return every file's cells, and which config keys tell the runs apart."""
    configs = [dict(_flatten(file.config.model_dump(mode="json"))) for file in files if file.config]
    left = iter(configs)
    rows = tuple({**_list_facts(file), **(next(left) if file.config else {})} for file in files)
    return Columns(rows, tuple(_find_differing(configs)))


def _list_facts(file: ListedCheckpoint) -> dict[str, Cell]:
    """Return the cells of the fixed columns."""
    facts = dict(_flatten(file.model_dump(mode="json", exclude={"config"})))
    facts["dataset"] = facts.get("dataset.name")
    facts["reason"] = facts["reason"] or None
    return {name: facts.get(name) for name in FIXED}


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Cell]]:
    """Name the values within values by dotted keys; what is no finite number is null."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flatten(item, f"{prefix}{key}.")
        elif isinstance(item, list | bool):
            yield f"{prefix}{key}", json.dumps(item, separators=(",", ":"))
        elif isinstance(item, float) and not math.isfinite(item):
            yield f"{prefix}{key}", None
        else:
            yield f"{prefix}{key}", item


def _find_differing(configs: Sequence[Mapping[str, Cell]]) -> Iterator[str]:
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
    """Compare numbers as numbers, within texts too (run-2 before run-10)."""
    if not isinstance(cell, str):
        return False, cell
    parts = re.split(r"(\d+)", cell.casefold())
    return True, [int(part) if index % 2 else part for index, part in enumerate(parts)]


_LAST_SHOWN = (
    "epochs", "trial.state", "last.accuracy", "best.accuracy", "last.val_accuracy",
    "best.val_accuracy", "test.accuracy", "seconds.total", "saved",
)  # fmt: skip
_MADE_BETTER = {"loss": "lowest", "accuracy": "highest"}  # by the end of a metric's name


def list_checkpoints(
    found: Sequence[Path | CheckpointError],
    reader: MetadataReader,
    sort: str,
    *,
    reverse: bool,
    json: bool,
    csv: bool,
) -> None:
    """Print what was read of files, those that were not found included.

    Raises:
        UsageError: there is no column of the name to sort by.
    """
    paths = [file for file in found if isinstance(file, Path)]
    answers = dict(zip(paths, reader.results(), strict=True))
    files = [
        refuse_file(file)
        if isinstance(file, CheckpointError)
        else describe_file(file, answers[file])
        for file in found
    ]
    columns = make_columns(files)
    chosen = columns.find(sort)
    order = columns.sort(chosen, reverse=reverse)
    console = Output(quiet=json or csv)
    if json:
        checkpoints = tuple(files[number] for number in order)
        console.print_json(ListResult(checkpoints=checkpoints, differing=columns.differing))
    elif csv:
        rows = [columns.rows[number] for number in order]
        cells = [[row.get(name) for name in columns.names] for row in rows]
        console.print_line(format_rows(columns.names, cells))
    elif files:
        _show(columns, order, chosen, console)
    else:
        console.note("no checkpoints here")


def _show(columns: Columns, order: Sequence[int], chosen: str, console: Output) -> None:
    """Print the runs as a table, and below it what is no run."""
    rows = [columns.rows[number] for number in order]
    runs = [row for row in rows if row["status"] == "run"]
    names = list(dict.fromkeys(_name_shown(columns, chosen)))
    table = RunTable(
        columns=tuple(name for name in names if any(run.get(name) is not None for run in runs)),
        titles={name: columns.shorten(name) for name in names},
        kept=("checkpoint", chosen, "test.accuracy"),
    )
    text, hidden = render_runs(table, runs, find_width())
    others = [(str(row["checkpoint"]), str(row["reason"])) for row in rows if row not in runs]
    console.print_line("\n\n".join(filter(None, (text, render_reasons(others)))))
    if hidden:
        shown = ", ".join(table.titles[name] for name in hidden)
        console.note(f"no room for {shown}: widen the terminal, or see --csv")


def _name_shown(columns: Columns, chosen: str) -> Iterator[str]:
    """Name the columns of the table; the one that gives the order is always there."""
    yield from ("checkpoint", "dataset", "model", *columns.differing)
    if chosen not in _LAST_SHOWN:
        yield chosen
    yield from _LAST_SHOWN


def describe_file(path: Path, answer: ParsedMetadata) -> ListedCheckpoint:
    """Return what is known of a file, from what was read of it."""
    if isinstance(answer, CheckpointError):
        return refuse_file(answer, _find_time(path))
    try:
        return _describe_readable(path, parse_metadata(path, answer))
    except CheckpointError as error:
        return refuse_file(error, _find_time(path))


def refuse_file(error: CheckpointError, saved: datetime | None = None) -> ListedCheckpoint:
    """Return the row of a file that could not be read."""
    return ListedCheckpoint(
        checkpoint=error.where, status="refused", reason=error.what, last={}, best={}, saved=saved
    )


def _find_time(path: Path) -> datetime | None:
    """Return when a file was last written; None where it is gone."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(microsecond=0)
    except OSError:
        return None


def _describe_readable(path: Path, file: CheckpointMetadata) -> ListedCheckpoint:
    """Return the row of a file that could be read."""
    record, saved = file.record, _find_time(path)
    if record is None:
        by = f"saved by Keras {file.keras_version}" if file.keras_version else "saved by others"
        return ListedCheckpoint(
            checkpoint=str(path),
            status="changed" if file.is_changed else "foreign",
            reason=CHANGED if file.is_changed else f"foreign: {by}, without a run of mnistcli's",
            parameters=file.parameters,
            last={},
            best={},
            saved=saved,
        )
    config, progress, test = record.config, record.progress, record.test
    return ListedCheckpoint(
        checkpoint=str(path),
        status="run",
        reason="",
        dataset=DatasetResult(name=record.dataset.name, sha256=record.dataset.sha256),
        model=describe_model(config.model),
        parameters=file.parameters,
        epochs=progress.epoch,
        planned_epochs=config.training.epochs,
        last={name: metric.last for name, metric in file.history.items()},
        best=dict(_find_best(file.history)),
        test=test and TestResult(loss=test.loss, accuracy=test.accuracy),
        seconds=SecondsResult(total=progress.elapsed_s, per_epoch=file.warm_epoch_s),
        saved=saved,
        config=config,
        trial=record.trial,
    )


def _find_best(history: Mapping[str, MetricRange]) -> Iterator[tuple[str, float | None]]:
    """Return the highest accuracies and the lowest losses."""
    for name, metric in history.items():
        for ending, side in _MADE_BETTER.items():
            if name.endswith(ending):
                yield name, getattr(metric, side)


def describe_model(model: Model) -> str:
    """Write a network as `softmax` or `mlp 256-128`."""
    if not isinstance(model, MlpModel):
        return model.type
    return f"{model.type} {'-'.join(map(_describe_hidden, model.hidden))}"


def _describe_hidden(layer: HiddenLayer) -> str:
    """Write a layer's units, and what it has of its own."""
    own: list[Any] = [value for value in (layer.activation, layer.dropout) if value is not None]
    return f"{layer.units}({','.join(map(str, own))})" if own else str(layer.units)
