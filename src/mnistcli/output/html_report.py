"""A report as one HTML page.

HTML from Python values: text is escaped unless it was made here.

Images inside a page: PNG files written into their addresses.

The commands that make a checkpoint again.

Curves and calibration as inline SVG; colours are classes of the page's style.

Everything that stands in a report, before it is known how it is written.

Tables of a report: facts, layers, classes, and what was taken for what.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnistcli.checkpoints.record import Record, describe_devices
from mnistcli.config.schema import Config
from mnistcli.config.serialization import dump_config, list_value_paths
from mnistcli.config.validation_errors import format_path
from mnistcli.errors import make_printable
from mnistcli.metrics.calibration import Calibration, ConfidenceBin
from mnistcli.metrics.scores import ClassScore, Score
from mnistcli.output.plots.figures import Curves, Line, Panel, Pixels, Predictions
from mnistcli.output.results import LayerResult, SummaryResult, TrainingFacts


class Markup(str):
    """HTML whose text has been escaped."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Return text as HTML that shows it: no markup, control characters written out.

    A `Markup` is returned as it is. Line breaks stay.
    """
    if isinstance(text, Markup):
        return text
    lines = map(make_printable, text.split("\n"))
    return Markup(html.escape("\n".join(lines)))


def tag(name: str, /, *children: str, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        children: text, which is escaped, or markup.
        attributes: `class_` is `class`, `stroke_width` is `stroke-width`; those that are None are
            left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not children and name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Return text and markup one after the other."""
    return Markup("".join(map(escape, children)))


_VOID = {"img", "meta", "wbr"}


def encode_image(image: Pixels) -> str:
    """Return the address of an image: `data:image/png;base64,…`.

    Args:
        image: uint8 [height, width] or [height, width, 3].
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


_END = "END"  # of the config in the shell's text: no line of YAML that we write looks like it


def write_recipe(record: Record, path: Path) -> Recipe:
    """Return how a run is made again.

    Args:
        record: of the run.
        path: of its checkpoint, as the user gave it.
    """
    stem = f"{path.stem}-again"
    config, target = shlex.quote(f"{stem}.yaml"), shlex.quote(f"{stem}.h5")
    begun = ""
    if record.init_from is not None:
        begun = f" --init-from {shlex.quote(record.init_from)}"
    anew = (
        f"cat > {config} <<'{_END}'\n{dump_config(record.config)}{_END}\n"
        f"mnistcli train {config}{begun}{_name_devices(record)} -o {target}"
    )
    again = f"mnistcli reproduce {shlex.quote(str(path))}" if record.progress.step == 0 else None
    return Recipe(again, anew, tuple(_list_notes(record)))


def _name_devices(record: Record) -> str:
    """Give the flag that a run on several devices was started with."""
    count = record.environment.devices
    return f" --devices {count}" if count > 1 else ""


def _list_notes(record: Record) -> Iterator[str]:
    """Say what the commands take, and where they end up elsewhere."""
    environment, progress = record.environment, record.progress
    yield (
        "The bits are the same where the data, the versions, the processor's features and the"
        f" number of threads ({environment.threads}) are; elsewhere only the figures are close."
    )
    if environment.workers > 1:
        yield (
            f"It was trained by {describe_devices(environment)}, each started with this command"
            " and a TF_CONFIG of its own."
        )
    planned = record.config.training.epochs
    if (progress.epoch, progress.step) != (planned, 0):
        part = f" and {progress.step} steps" if progress.step else ""
        yield (
            f"This file stands after {progress.epoch}{part} of {planned} epochs; from nothing the"
            " run goes on to its end."
        )
    if record.init_weights_sha256 is not None:
        yield (
            f"It began with the weights of another checkpoint, {record.init_from}: their bytes"
            f" have the sha256 {record.init_weights_sha256}."
        )


_WIDTH, _LEFT, _RIGHT, _TOP = 360, 48, 8, 10
_PLOT_HEIGHT, _AXIS_HEIGHT, _STRIP_HEIGHT = 190, 34, 36
_BASE = _TOP + _PLOT_HEIGHT
_MAX_SIZE = 1e100  # of a number that is drawn: sums and quotients of such numbers are finite
_MAX_POINTS = 600  # of a line: more than there are pixels


def draw_panel(panel: Panel) -> Markup:
    """Draw lines over epochs, the last value of each above them; not finite values are gaps."""
    values = [value for line in panel.lines for value in line.values if _is_drawn(value)]
    low, high = _widen(min(values, default=0.0), max(values, default=1.0))
    count = max(len(line.values) for line in panel.lines)
    parts: list[Markup] = list(_draw_levels(low, high))
    for epoch in _choose_epochs(count):
        x = _place_epoch(epoch, count)
        parts.append(_write(x, _BASE + 15, str(epoch), "middle"))
    parts.append(_write((_LEFT + _WIDTH) / 2, _BASE + 30, "epoch", "middle"))
    for number, line in enumerate(panel.lines):
        parts.append(_draw_line(line, f"line s{number}", count, low, high))
    keys = [
        tag("span", f"{line.label} {_format_last(line)}", class_=f"key s{number}")
        for number, line in enumerate(panel.lines)
    ]
    caption = tag("figcaption", tag("strong", panel.title), *keys)
    return tag("figure", caption, _make_svg(_BASE + _AXIS_HEIGHT, panel.title, parts))


def draw_calibration(calibration: Calibration) -> Markup:
    """Draw accuracy and mean confidence in each bin of confidence, and below how many lie there."""
    strip = _BASE + 8
    parts: list[Markup] = list(_draw_levels(0.0, 1.0))
    parts.append(_stroke("diagonal", _LEFT, _BASE, _WIDTH - _RIGHT, _TOP))
    for row in calibration.bins:
        if row.count:
            parts.append(_draw_bin(row, row.count / calibration.count, strip))
    foot = strip + _STRIP_HEIGHT
    parts.append(_stroke("grid", _LEFT, foot, _WIDTH - _RIGHT, foot))
    parts.append(_write(_LEFT - 5, foot - 8, "share", "end"))
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(_write(_place_share(tick), foot + 14, f"{tick:g}", "middle"))
    parts.append(_write((_LEFT + _WIDTH) / 2, foot + 29, "confidence", "middle"))
    caption = tag(
        "figcaption",
        tag("span", "accuracy", class_="key s0 block"),
        tag("span", "mean confidence", class_="key s1 solid"),
    )
    return tag("figure", caption, _make_svg(foot + _AXIS_HEIGHT, "calibration", parts))


def _draw_bin(row: ConfidenceBin, share: float, strip: float) -> Markup:
    """Its numbers are shown where the pointer rests."""
    accuracy, confidence = row.accuracy or 0.0, row.confidence or 0.0
    left, right = _place_share(row.low) + 1, _place_share(row.high) - 1
    top, size = _place(accuracy, 0, 1), max(1.0, share * _STRIP_HEIGHT)
    level = _place(confidence, 0, 1)
    words = (
        f"confidence {row.low:.2f} to {row.high:.2f}: {row.count:,} examples,"
        f" accuracy {accuracy:.4f}, mean confidence {confidence:.4f}"
    )
    return tag(
        "g",
        tag("title", words),
        _draw_bar("bar", left, top, right - left, _BASE - top),
        _draw_bar("count", left, strip + _STRIP_HEIGHT - size, right - left, size),
        _stroke("mark", left, level, right, level),
    )


def _draw_bar(kind: str, left: float, top: float, width: float, height: float) -> Markup:
    """Draw a rectangle; a tenth of a unit is less than a pixel."""
    sizes = {"x": left, "y": top, "width": width, "height": height}
    return tag("rect", class_=kind, **{name: f"{value:.1f}" for name, value in sizes.items()})


def _make_svg(height: float, label: str, parts: Sequence[Markup]) -> Markup:
    """Return a picture as wide as there is room."""
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {height:g}", role="img", aria_label=label)


def _write(x: float, y: float, text: str, anchor: str) -> Markup:
    """Write a number or a word beside an axis."""
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _stroke(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """Draw a straight line."""
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return tag("line", class_=kind, **{name: f"{value:.1f}" for name, value in ends.items()})


def _draw_levels(low: float, high: float) -> Iterator[Markup]:
    """Draw the vertical axis: a faint line and a number at each round value."""
    for tick in choose_ticks(low, high):
        y = _place(tick, low, high)
        yield _stroke("grid", _LEFT, y, _WIDTH - _RIGHT, y)
        yield _write(_LEFT - 5, y + 4, f"{tick:.4g}", "end")


def _draw_line(line: Line, kind: str, count: int, low: float, high: float) -> Markup:
    """Draw a line in pieces between its gaps; a value between two gaps is a dot."""
    pieces: list[list[str]] = [[]]
    for epoch, value in _thin(line.values):
        if _is_drawn(value):
            x, y = _place_epoch(epoch, count), _place(value, low, high)
            pieces[-1].append(f"{x:.1f} {y:.1f}")
        elif pieces[-1]:
            pieces.append([])
    path = " ".join(f"M{' L'.join(p if len(p) > 1 else p * 2)}" for p in pieces if p)
    return tag("path", d=path, class_=kind)


def _thin(values: Sequence[float]) -> Iterator[tuple[int, float]]:
    """Offer epochs from 1 and values: of many in one place the lowest and the highest."""
    size = -(-len(values) // (_MAX_POINTS // 2)) if len(values) > _MAX_POINTS else 1
    for start in range(0, len(values), size):
        piece = range(start, min(start + size, len(values)))
        ends = {min(piece, key=values.__getitem__), max(piece, key=values.__getitem__)}
        yield from ((place + 1, values[place]) for place in sorted(ends))


def choose_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return about five round numbers from low to high, which is larger."""
    step = _round_step((high - low) / 5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(k * step for k in range(first, min(last, first + 10) + 1))


def _choose_epochs(count: int) -> tuple[int, ...]:
    """Return epochs to name on the axis, the first among them."""
    step = max(1, round(_round_step(count / 5)))
    return (1, *range(step if step > 1 else 2, count + 1, step))


def _round_step(least: float) -> float:
    """Return the next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least)


def _is_drawn(value: float) -> bool:
    """Tell numbers from gaps."""
    return math.isfinite(value) and abs(value) <= _MAX_SIZE


def _widen(low: float, high: float) -> tuple[float, float]:
    """Leave room above and below; lines that are level need some too."""
    room = (high - low) * 0.04
    if room <= abs(high) * 1e-9:
        room = abs(high) * 0.05 or 0.5
    return low - room, high + room


def _place(value: float, low: float, high: float) -> float:
    return _BASE - (value - low) / (high - low) * _PLOT_HEIGHT


def _place_share(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _place_epoch(epoch: int, count: int) -> float:
    """A single epoch stands in the middle."""
    return _place_share(0.02 + 0.96 * ((epoch - 1) / (count - 1) if count > 1 else 0.5))


def _format_last(line: Line) -> Markup:
    """Write the value of the last epoch."""
    return escape(f"{line.values[-1]:.4f}") if line.values else join()


@dataclass(frozen=True)
class Outcome:
    """How the network fared on one split.

    Attributes:
        data: which examples, `MNIST test` for example.
        score: loss, accuracy, classes, confusion.
        calibration: confidence against accuracy; null where outputs are no probabilities.
        mistakes: the most confident wrong ones, that many of them as are shown.
        mistake_count: how many there are in all.
    """

    data: str
    score: Score
    calibration: Calibration | None
    mistakes: Predictions
    mistake_count: int


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is made again.

    Attributes:
        again: the command that trains it again and compares the bits; null where that needs a
            run that is between two epochs.
        anew: the commands that make it from nothing.
        notes: what they take, a sentence each.
    """

    again: str | None
    anew: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """A checkpoint, for people who were not there.

    Attributes:
        title: what the file is called.
        program: that writes the report, and its version.
        command: that writes it again.
        warnings: what the reader should know first.
        summary: the layers; the run where the file has a record of it.
        curves: cost and accuracy over the epochs; null without a completed epoch.
        outcome: null where nothing says which data the network is for.
        recipe: null without a record.
    """

    title: str
    program: str
    command: str
    warnings: tuple[str, ...]
    summary: SummaryResult
    curves: Curves | None
    outcome: Outcome | None
    recipe: Recipe | None


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


_STYLE = Path(__file__).with_name("style.css")


def render_page(report: Report) -> str:
    """Return the whole page; the same report gives the same text."""
    style = Markup(_STYLE.read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_write_policy(style)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{report.title} · {report.program}"),
        tag("style", style),
    )
    header = tag("header", tag("h1", report.title), _render_key_figures(report))
    warnings = [tag("p", f"Warning: {text}", class_="warning") for text in report.warnings]
    footer = tag("footer", f"Written by {report.program}: ", tag("code", report.command))
    body = tag("body", tag("main", header, *warnings, *_render_sections(report), footer))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _write_policy(style: str) -> str:
    """Forbid the browser everything but this style and the images in the page itself."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _render_sections(report: Report) -> Iterator[Markup]:
    """Results first, then how they came about."""
    outcome, run = report.outcome, report.summary.training
    if outcome is None:
        words = "The file does not say which data it is for: name them with --dataset."
        yield _section("Results", tag("p", words))
    if report.curves is not None:
        panels = [draw_panel(panel) for panel in report.curves.panels]
        yield _section("Training", tag("div", *panels, class_="charts"))
    if outcome is not None:
        yield from _render_outcome(outcome)
    yield _section("Network", _wrap(make_layers(report.summary.layers)))
    if run is None:
        words = "The file holds no record of its training: config, data and seed are not known."
        yield _section("Config", tag("p", words))
        return
    yield _section("Config", make_config(run.config))
    yield _section("Data and versions", _render_origin(run))
    if report.recipe is not None:
        yield _section("How to make it again", _render_recipe(report.recipe))


def _section(title: str, *parts: str) -> Markup:
    return tag("section", tag("h2", title), *parts)


def _wrap(table: Markup) -> Markup:
    """Let a table that is wider than the screen be moved by itself, not the page with it."""
    return tag("div", table, class_="wide", tabindex="0")


def _render_key_figures(report: Report) -> Markup:
    """Return what everybody looks for."""
    outcome, run = report.outcome, report.summary.training
    figures: list[tuple[str, str]] = []
    if outcome is not None:
        score = outcome.score
        right = score.count - outcome.mistake_count
        figures += [
            (f"accuracy, {outcome.data}", f"{score.accuracy:.4f}"),
            ("right", f"{right:,} of {score.count:,}"),
            ("loss", f"{score.loss:.4f}"),
        ]
        if outcome.calibration is not None:
            figures.append(("calibration error", f"{outcome.calibration.ece:.4f}"))
    if run is not None:
        part = f" and {run.step} steps" if run.step else ""
        figures.append(("epochs", f"{run.epochs}{part} of {run.planned_epochs}"))
    figures.append(("parameters", f"{report.summary.total_parameters:,}"))
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value)) for name, value in figures),
        class_="figures",
    )


def _render_outcome(outcome: Outcome) -> Iterator[Markup]:
    """Show classes, confusion, calibration and mistakes."""
    score = outcome.score
    yield _section("Classes", _wrap(make_classes(score.per_class)))
    if len(score.per_class) <= MAX_MATRIX_CLASSES:
        words = (
            "Rows are the truth, columns what the network said. Blue is right, by its share of the"
            " row; orange is wrong, relative to the worst of them."
        )
        matrix = _wrap(make_confusion(score))
        yield _section("Confusion", tag("p", words, class_="note"), matrix)
    else:
        yield _section("Confusion", _wrap(make_pairs(score)))
    calibration = outcome.calibration
    if calibration is None:
        words = "The network's outputs are no probabilities: there is nothing to compare."
        yield _section("Calibration", tag("p", words))
    else:
        words = (
            "Where the bars reach the line of mean confidence, the network's probabilities can be"
            f" taken at their word. Expected calibration error: {calibration.ece:.4f}."
        )
        parts = (draw_calibration(calibration), _wrap(make_bins(calibration.bins)))
        chart = tag("div", *parts, class_="charts")
        yield _section("Calibration", tag("p", words, class_="note"), chart)
    yield _section("Most confident mistakes", *_render_mistakes(outcome))


def _render_mistakes(outcome: Outcome) -> Iterator[Markup]:
    """Show wrong predictions with their rows, by which they are found again."""
    shown = outcome.mistakes
    if outcome.mistake_count == 0:
        yield tag("p", f"There are none on {outcome.data}.")
        return
    words = (
        f"{len(shown.rows):,} of {outcome.mistake_count:,} on {outcome.data}: what the network"
        " said and its probability, what it is, and its row."
    )
    yield tag("p", words, class_="note")
    tiles = [_render_mistake(shown, place) for place in range(len(shown.rows))]
    yield tag("ul", *tiles, class_="tiles")


def _render_mistake(shown: Predictions, place: int) -> Markup:
    """Show one image; inputs that are no image are their numbers."""
    image, row = shown.images[place], int(shown.rows[place])
    said = shown.labels[int(shown.classes[place])]
    truth = shown.labels[int(shown.truth[place])]
    confidence = f"{float(shown.confidences[place]):.3f}"
    if image.ndim == 1:
        picture = tag("code", ", ".join(map(str, image.tolist())))
    else:
        picture = tag("img", src=encode_image(image), alt=f"row {row}: {truth}")
    return tag(
        "li",
        picture,
        tag("strong", f"{said} {confidence}"),
        tag("span", f"is {truth}"),
        tag("small", f"row {row}"),
    )


def _render_origin(run: TrainingFacts) -> Markup:
    """Say what the run was made of and made with."""
    environment = run.environment
    data = make_facts(
        [
            ("data set", run.known_as or run.dataset.name),
            ("sha256", run.dataset.sha256 or "not known"),
            ("classes", ", ".join(run.class_names[:MAX_MATRIX_CLASSES])),
            ("normalization", run.config.dataset.normalization),
            ("test at the end", f"accuracy {run.test.accuracy:.4f}" if run.test else ""),
            ("time", f"{run.seconds.total:.1f} s"),
            ("processor", environment.processor),
            ("processor features", ", ".join(environment.processor_features)),
            ("threads", str(environment.threads)),
            ("trained on", describe_devices(environment)),
            ("oneDNN", "on" if environment.onednn else "off"),
        ]
    )
    versions = make_table(("package", "version"), environment.versions.items(), "config")
    return tag("div", tag("div", data), tag("div", versions), class_="columns")


def _render_recipe(recipe: Recipe) -> Markup:
    """Show the commands."""
    parts: list[Markup] = []
    if recipe.again is not None:
        parts.append(tag("p", "Train it again from its own record, and compare every bit:"))
        parts.append(tag("pre", recipe.again))
    parts.append(tag("p", "Make it from nothing:"))
    parts.append(tag("pre", recipe.anew))
    notes = [tag("li", note) for note in recipe.notes]
    return join(*parts, tag("ul", *notes, class_="notes"))
