"""Runs side by side, for people and as CSV: comparisons, repetitions, recipes run again."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import JsonValue
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mnistcli.output.comparison_results import (
    ComparedResult,
    CompareResult,
    FigureResult,
    PairResult,
    RecipeReproduction,
    RepeatResult,
    ReproduceRecipesResult,
)
from mnistcli.output.csv_rows import PairRow
from mnistcli.output.csv_text import format_csv


def _letter(place: int) -> str:
    """Call the checkpoints A to Z, then AA, AB, …"""
    before = _letter(place // 26 - 1) if place >= 26 else ""
    return f"{before}{chr(ord('A') + place % 26)}"


def _make_table(*columns: str, left: int) -> Table:
    """Return an empty table whose first `left` columns hold text and the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    return table


def render_comparison(answer: CompareResult) -> Iterator[RenderableType]:
    """Show each checkpoint, what differs in the configs, and each pair's verdict."""
    interval = f"{100 * answer.confidence:g} % interval"
    columns = ("", "checkpoint", "data", "epochs", "images", "accuracy", interval, "loss")
    has_baselines = any(row.kind == "baseline" for row in answer.results)
    table = _make_table(*columns, *(["time"] if has_baselines else []), left=3)
    for place, row in enumerate(answer.results):
        time = "-" if row.fit_seconds is None else f"{row.fit_seconds:.1f} s"
        bounds = f"{row.interval.low:.4f}-{row.interval.high:.4f}"
        epochs = "-" if row.epochs is None else f"{row.epochs}"
        data = f"{row.dataset} {answer.split}"
        score = (f"{row.count:,}", f"{row.accuracy:.4f}", bounds, f"{row.loss:.4f}")
        cells = (*score, *([time] if has_baselines else []))
        table.add_row(_letter(place), row.checkpoint, data, epochs, *cells)
    yield table
    yield from _render_differences(answer)
    yield Text("\n".join(list_verdicts(answer)))


def _render_differences(answer: CompareResult) -> Iterator[RenderableType]:
    """Show the keys that are not the same everywhere, and which files have none."""
    count, files = len(answer.results), [r for r in answer.results if r.kind == "checkpoint"]
    if answer.differences:
        letters = map(_letter, range(count))
        table = _make_table("what differs", *letters, left=1)
        for row in answer.differences:
            table.add_row(row.key, *map(_format_value, row.values))
        yield table
    elif len(files) > 1 and all(row.trained_on is not None for row in files):
        yield Text("the configs are the same\n")
    unknown = [_letter(i) for i, row in enumerate(answer.results) if row.trained_on is None]
    if unknown:
        yield Text(f"{', '.join(unknown)}: no config in the file\n")


def _format_value(value: JsonValue) -> str:
    """Write a config's value in a cell; hashes are long, and their beginning tells enough."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return f"{value[:12]}…" if len(value) == 64 else value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value)


def list_verdicts(answer: CompareResult) -> Iterator[str]:
    """Say of each pair, in a line, how far apart it is and whether that is more than chance."""
    count = len(answer.pairs)
    allowing = f" allowing for {count} pairs" if count > 1 else ""
    for pair in answer.pairs:
        first, second = _letter(pair.first), _letter(pair.second)
        better = second if pair.difference > 0 else first
        verdict = f"{better} is better" if pair.distinguishable else "not distinguishable"
        yield (
            f"{second} - {first} = {100 * pair.difference:+.2f} points,"
            f" {_format_p(pair.adjusted_p_value)}{allowing}: {verdict}"
            f" ({pair.only_second:,} images only {second} got right, {pair.only_first:,} only"
            f" {first})"
        )
    for unpaired in answer.unpaired:
        first, second = _letter(unpaired.first), _letter(unpaired.second)
        yield f"{second} and {first}: not compared, {unpaired.reason}"


def _format_p(p: float) -> str:
    """Write a p-value with two digits; far below any level its size tells nothing."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def format_pairs(answer: CompareResult) -> str:
    """Write a CSV line for each pair; those on other images have no test."""
    rows = [_list_cells(answer, pair.first, pair.second, pair) for pair in answer.pairs]
    rows += [_list_cells(answer, one.first, one.second, None) for one in answer.unpaired]
    return format_csv(PairRow.list_columns(), rows)


def _list_cells(
    answer: CompareResult, first: int, second: int, pair: PairResult | None
) -> list[object]:
    """Return a pair's cells, in the order of the columns."""
    one, other = answer.results[first], answer.results[second]
    test: list[object] = [None] * 6
    if pair is not None:
        test = [
            pair.difference,
            pair.only_first,
            pair.only_second,
            pair.p_value,
            pair.adjusted_p_value,
            str(pair.distinguishable).lower(),
        ]
    scores = (*_list_score(one), *_list_score(other))
    return [one.checkpoint, other.checkpoint, answer.split, *scores, *test]


def _list_score(row: ComparedResult) -> tuple[float, ...]:
    """Return an accuracy with its number of images and its bounds."""
    return row.count, row.accuracy, row.interval.low, row.interval.high


def render_repetition(answer: RepeatResult) -> str:
    """Say in one line what runs that differ in their seeds came to."""
    mean, deviation = answer.test, answer.deviation
    return (
        f"test accuracy {mean.accuracy:.4f} ± {deviation.accuracy:.4f},"
        f" loss {mean.loss:.4f} ± {deviation.loss:.4f}"
        f" ({len(answer.seeds)} runs, seeds {answer.seeds[0]} to {answer.seeds[-1]})"
    )


def render_figures(answer: ReproduceRecipesResult) -> Iterator[RenderableType]:
    """Show each figure as it was published, as it was measured, and now."""
    columns = ("recipe", "figure", "published", "measured before", "now", "verdict")
    table = _make_table(*columns, left=2)
    table.columns[-1].justify = "left"
    for again in answer.recipes:
        for number, row in enumerate(again.figures):
            name = again.recipe if number == 0 else ""
            style = "bold" if row.verdict == "differs" else None
            table.add_row(name, *_list_figure_cells(row), style=style)
    yield table
    yield Text("\n".join(_explain_verdicts(answer.recipes)))


def _list_figure_cells(row: FigureResult) -> tuple[str, ...]:
    """Write a figure with as many digits as it was printed with."""
    numbers = (min(row.measured), max(row.measured), row.now)
    low, high, now = (f"{number:.{row.digits}f}" for number in numbers)
    published = "-" if row.published is None else f"{row.published:.{row.digits}f}"
    before = low if low == high else f"{low}-{high}"
    return row.name, published, before, now, row.verdict


def _explain_verdicts(recipes: tuple[RecipeReproduction, ...]) -> Iterator[str]:
    """Count the verdicts, and say what they mean."""
    verdicts = [row.verdict for again in recipes for row in again.figures]
    counts = {name: verdicts.count(name) for name in dict.fromkeys(verdicts)}
    yield f"{len(verdicts)} figures: {', '.join(f'{n} {name}' for name, n in counts.items())}"
    seeds = recipes[0].seeds
    yield (
        f"measured before: the range over seeds {seeds[0]} to {seeds[-1]}; a figure holds within"
        " that range widened by its width at both ends, and is as published where the published"
        " one lies there too"
    )
    for again in recipes:
        if again.measured_on is not None:
            yield f"{again.recipe} was measured on {again.measured_on}"
