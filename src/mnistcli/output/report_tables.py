"""Tables of a report: facts, layers, classes, and what was taken for what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mnistcli.config.schema import Config
from mnistcli.config.serialization import list_value_paths
from mnistcli.config.validation_errors import format_path
from mnistcli.metrics.calibration import ConfidenceBin
from mnistcli.metrics.scores import ClassScore, Score
from mnistcli.output.markup import Markup, join, tag
from mnistcli.output.results import LayerResult

MAX_MATRIX_CLASSES = 20  # more columns are not readable on any screen
MAX_PAIRS = 10
_SHADES = 10
_SHORT_LABEL, _MAX_LABEL = 3, 20  # characters


def make_table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> Markup:
    """Return a table whose rows begin with what they are about."""
    header = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = [
        tag("tr", tag("th", name, scope="row"), *(tag("td", cell) for cell in cells))
        for name, *cells in rows
    ]
    return tag("table", tag("thead", header), tag("tbody", *body), class_=kind or None)


def make_facts(facts: Iterable[tuple[str, str]]) -> Markup:
    """Return names and what they stand for, side by side where there is room."""
    return tag(
        "dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts if value)
    )


def make_config(config: Config) -> Markup:
    """Return a config's keys and values, block by block; what is null is left out."""
    tree = config.model_dump(mode="json")
    blocks: dict[str, list[tuple[str, str]]] = {}
    for path in list_value_paths(config):
        value: object = tree
        for part in path:
            value = value[part]  # type: ignore[index]
        if value is not None:
            rows = blocks.setdefault(str(path[0]), [])
            rows.append((_let_wrap(format_path(path[1:])), _let_wrap(_format_value(value))))
    tables = [
        tag("div", tag("h3", name), make_table(("key", "value"), rows, "config"))
        for name, rows in blocks.items()
    ]
    return tag("div", *tables, class_="columns")


def _format_value(value: object) -> str:
    """Write a value as a YAML file has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _let_wrap(text: str) -> Markup:
    """Long names may be broken between their words, where else they would be anywhere."""
    pieces = re.split(r"(?<=[_.])(?=[a-z])", text)
    return join(*(part for piece in pieces for part in (tag("wbr"), piece)))


def make_layers(layers: Iterable[LayerResult]) -> Markup:
    """Return the layer table."""
    rows = [
        (
            row.name,
            row.type,
            " x ".join(str(size) for size in row.output_shape if size is not None),
            f"{row.parameters:,}",
        )
        for row in layers
    ]
    return make_table(("layer", "type", "output", "parameters"), rows, "layers")


def make_classes(classes: Iterable[ClassScore]) -> Markup:
    """Return how each class fared."""
    rows = [
        (
            _shorten(row.label),
            *map(format_ratio, (row.precision, row.recall, row.f1)),
            f"{row.support:,}",
        )
        for row in classes
    ]
    return make_table(("class", "precision", "recall", "F1", "examples"), rows, "numbers")


def make_bins(bins: Iterable[ConfidenceBin]) -> Markup:
    """Return the numbers behind the calibration."""
    rows = [
        (
            f"{row.low:.2f} to {row.high:.2f}",
            f"{row.count:,}",
            format_ratio(row.confidence),
            format_ratio(row.accuracy),
        )
        for row in bins
        if row.count
    ]
    head = ("confidence", "examples", "mean confidence", "accuracy")
    return make_table(head, rows, "numbers")


def make_confusion(score: Score) -> Markup:
    """Return what was taken for what, rows the truth; shades are shares of their row.

    What is right and what is wrong have colours and scales of their own: mistakes are few.
    """
    labels = [_shorten(row.label) for row in score.per_class]
    shares = [[count / max(1, sum(row)) for count in row] for row in score.confusion]
    worst = max(
        (share for i, row in enumerate(shares) for j, share in enumerate(row) if i != j),
        default=0.0,
    )
    kind = "upright" if any(len(label) > _SHORT_LABEL for label in labels) else None
    header = tag(
        "tr",
        tag("th", "true \\ predicted", scope="col", class_="corner"),
        *(tag("th", tag("span", label), scope="col", class_=kind) for label in labels),
    )
    body = [
        tag(
            "tr",
            tag("th", label, scope="row"),
            *(
                _make_cell(score.confusion[i][j], share, 1.0 if i == j else worst, is_right=i == j)
                for j, share in enumerate(shares[i])
            ),
        )
        for i, label in enumerate(labels)
    ]
    return tag("table", tag("thead", header), tag("tbody", *body), class_="confusion")


def _make_cell(count: int, share: float, full: float, *, is_right: bool) -> Markup:
    """Return a shaded count; none is a dot."""
    if count == 0:
        return tag("td", "·", class_="none")
    shade = max(1, round(share / full * _SHADES))
    return tag("td", str(count), class_=f"{'right' if is_right else 'wrong'} h{shade}")


def make_pairs(score: Score) -> Markup:
    """Return the most frequent mistakes."""
    labels = [_shorten(row.label) for row in score.per_class]
    pairs = sorted(
        (
            (-count, i, j)
            for i, row in enumerate(score.confusion)
            for j, count in enumerate(row)
            if i != j and count
        )
    )[:MAX_PAIRS]
    rows = [
        (labels[i], labels[j], f"{-count:,}", f"{-count / score.per_class[i].support:.1%}")
        for count, i, j in pairs
    ]
    return make_table(("true", "taken for", "times", "of its class"), rows, "pairs")


def _shorten(label: str) -> str:
    """A table is no wider than the screen, whatever classes are called."""
    return label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}…"


def format_ratio(value: float | None) -> str:
    """Write a ratio with four digits; a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"
