"""What `data` finds out, for people."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mnistcli.output.plot_results import DataResult, ExampleResult


def render_dataset(result: DataResult) -> Iterator[RenderableType]:
    """Show a data set's identity, its arrays, and how many examples each class has."""
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    digest = f", sha256 {result.sha256[:12]}…" if result.sha256 else ""
    facts.add_row("data", f"{result.known_as or 'unknown contents'}{digest}")
    facts.add_row("location", result.location)
    counts = ", ".join(f"{count:,} {name}" for name, count in result.counts.items())
    facts.add_row("examples", counts)
    yield facts
    arrays = _make_table("array", "shape", "dtype", "values", left=4)
    for array in result.arrays:
        values = f"{array.minimum} to {array.maximum}"
        arrays.add_row(array.name, str(array.shape), array.dtype, values)
    yield arrays
    yield _render_balance(result)


def _render_balance(result: DataResult) -> Table:
    """Show each class's examples and their share of the split."""
    columns = [column for name in result.balance for column in (name, "share")]
    table = _make_table("class", "label", *columns, left=2)
    for index, label in enumerate(result.class_names):
        cells = []
        for name, counts in result.balance.items():
            share = counts[index] / result.counts[name]
            cells += [f"{counts[index]:,}", f"{share:.4f}"]
        table.add_row(str(index), label, *cells)
    return table


def render_example(example: ExampleResult) -> Iterator[RenderableType]:
    """Show an image's label, its one-hot vector and its numbers."""
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_row("row", f"{example.row} of {example.split}")
    facts.add_row("class", f"{example.class_index}")
    facts.add_row("label", example.label)
    facts.add_row("one-hot", f"[{' '.join(map(str, example.one_hot))}]")
    facts.add_row("minimum", f"{example.minimum:.6g}")
    facts.add_row("maximum", f"{example.maximum:.6g}")
    yield facts
    if example.matrix is not None:
        yield from _render_matrix(np.array(example.matrix))


def _render_matrix(values: np.ndarray) -> Iterator[Text]:
    """Show the numbers row by row, one matrix a colour channel."""
    values = values[None] if values.ndim == 1 else values
    channels = {"": values} if values.ndim == 2 else dict(
        zip(("red", "green", "blue"), np.moveaxis(values, -1, 0), strict=True)
    )  # fmt: skip
    pattern = "{:>3d}" if values.dtype.kind == "i" else "{:>5.2f}"
    for name, matrix in channels.items():
        lines = [" ".join(pattern.format(value) for value in row) for row in matrix.tolist()]
        yield Text("\n".join(["", *([name] if name else []), *lines]))


def _make_table(*columns: str, left: int) -> Table:
    """Return an empty table whose first `left` columns hold text and the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    return table
