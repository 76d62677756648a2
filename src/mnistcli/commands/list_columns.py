"""The columns of `ls`: which there are, which are shown, and the order that one of them gives."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mnistcli.errors import UsageError
from mnistcli.output.csv_rows import ListRow
from mnistcli.output.list_results import ListedCheckpoint

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
