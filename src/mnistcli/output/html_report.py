"""The report of a checkpoint: one HTML page that needs no network and no script.

Text is escaped unless it was made here. Charts are inline SVG, whose colours are classes of
style.css; images are PNG files in data URIs.
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
from mnistcli.errors import make_printable, pluralize
from mnistcli.metrics.calibration import Calibration, ConfidenceBin
from mnistcli.metrics.scores import ClassScore, Score
from mnistcli.output.plots.figures import Curves, Line, Panel, Pixels, Predictions
from mnistcli.output.results import LayerResult, SummaryResult, TrainingFacts
from mnistcli.output.tables import describe_epochs, describe_progress, format_loss

_STYLE = Path(__file__).with_name("style.css")
MAX_MATRIX_CLASSES = 20  # more columns are not readable on any screen
MAX_PAIRS = 10
_SHADES = 10
_SHORT_LABEL, _MAX_LABEL = 3, 20  # characters
_END = "END"  # of the config in the shell's text: no line of YAML that we write looks like it
_VOID = {"img", "meta", "wbr"}
_WIDTH, _LEFT, _RIGHT, _TOP = 360, 48, 8, 10
_PLOT_HEIGHT, _AXIS_HEIGHT, _STRIP_HEIGHT = 190, 34, 36
_BASE = _TOP + _PLOT_HEIGHT
_MAX_SIZE = 1e100  # of a number that is drawn: sums and quotients of such numbers are finite
_MAX_POINTS = 600  # of a line: more than there are pixels


class Markup(str):
    """HTML whose text has been escaped."""

    __slots__ = ()


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a network on one split.

    Attributes:
        data: name of the data set and the split: `MNIST test`.
        score: loss, accuracy, metrics per class, confusion matrix.
        calibration: confidence against accuracy.
        misclassified: the images that are shown, the most confident predictions first.
        misclassified_count: number of misclassified images in the split.
    """

    data: str
    score: Score
    calibration: Calibration
    misclassified: Predictions
    misclassified_count: int


@dataclass(frozen=True)
class RerunCommands:
    """The commands that train a checkpoint again.

    Attributes:
        again: the command that trains it from its record and compares every bit; None for a
            checkpoint that was saved within an epoch.
        anew: the commands that train it from a config.
        notes: their conditions, a sentence each.
    """

    again: str | None
    anew: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What a report shows of a checkpoint.

    Attributes:
        title: name of the file.
        program: name and version of the program that writes the report.
        command: the command that writes it again.
        warnings: shown at the top.
        summary: the layers, and the run where the file has a record of it.
        curves: loss and accuracy over the epochs; None without a completed epoch.
        evaluation: None where the data set of the network is not known.
        rerun: None without a record.
    """

    title: str
    program: str
    command: str
    warnings: tuple[str, ...]
    summary: SummaryResult
    curves: Curves | None
    evaluation: Evaluation | None
    rerun: RerunCommands | None


def render_page(report: Report) -> str:
    """Return the HTML page; the same report gives the same text."""
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


def write_rerun_commands(record: Record, path: Path) -> RerunCommands:
    """Return the commands that train a run again.

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
    return RerunCommands(again, anew, tuple(_list_notes(record)))


def draw_panel(panel: Panel) -> Markup:
    """Draw lines over epochs, with the last value of each; values that are not finite are gaps."""
    values = [value for line in panel.lines for value in line.values if _is_finite(value)]
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
    if panel.marked_epoch is not None:
        x = _place_epoch(panel.marked_epoch, count)
        parts.append(_stroke("mark", x, _BASE, x, _TOP))
        keys.append(tag("span", panel.describe_mark(), class_="key mark"))
    caption = tag("figcaption", tag("strong", panel.title), *keys)
    return tag("figure", caption, _make_svg(_BASE + _AXIS_HEIGHT, panel.title, parts))


def draw_calibration(calibration: Calibration) -> Markup:
    """Draw accuracy and mean confidence per bin of confidence, and the share of images in each."""
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


def choose_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return about five round numbers from low to high, which is larger."""
    step = _round_step((high - low) / 5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(k * step for k in range(first, min(last, first + 10) + 1))


def make_table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> Markup:
    """Return a table; the first cell of each row is its heading."""
    header = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = [
        tag("tr", tag("th", name, scope="row"), *(tag("td", cell) for cell in cells))
        for name, *cells in rows
    ]
    return tag("table", tag("thead", header), tag("tbody", *body), class_=kind or None)


def make_facts(facts: Iterable[tuple[str, str]]) -> Markup:
    """Return a list of names and values; those without a value are left out."""
    return tag(
        "dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts if value)
    )


def make_config(config: Config) -> Markup:
    """Return a table for each block of a config; keys without a value are left out."""
    tree = config.model_dump(mode="json")
    blocks: dict[str, list[tuple[str, str]]] = {}
    for path in list_value_paths(config):
        value: object = tree
        for part in path:
            value = value[part]  # type: ignore[index]
        if value is not None:
            rows = blocks.setdefault(str(path[0]), [])
            rows.append((_allow_breaks(format_path(path[1:])), _allow_breaks(_format_value(value))))
    tables = [
        tag("div", tag("h3", name), make_table(("key", "value"), rows, "config"))
        for name, rows in blocks.items()
    ]
    return tag("div", *tables, class_="columns")


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
    """Return the table of the metrics per class."""
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
    """Return the table of the calibration's bins that hold images."""
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
    """Return the confusion matrix, true classes in rows; shades are shares of the row."""
    # Errors are few: they have a scale of their own, relative to the largest.
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
                _make_cell(
                    score.confusion[i][j], share, 1.0 if i == j else worst, is_correct=i == j
                )
                for j, share in enumerate(shares[i])
            ),
        )
        for i, label in enumerate(labels)
    ]
    return tag("table", tag("thead", header), tag("tbody", *body), class_="confusion")


def make_pairs(score: Score) -> Markup:
    """Return the table of the most frequent pairs of true and predicted class."""
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


def escape(text: str) -> Markup:
    """Escape text for HTML; control characters are written out, line breaks stay.

    A `Markup` is returned unchanged.
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
    """Concatenate text, which is escaped, and markup."""
    return Markup("".join(map(escape, children)))


def make_data_uri(image: Pixels) -> str:
    """Return an image as a data URI: `data:image/png;base64,…`.

    Args:
        image: uint8 [height, width] or [height, width, 3].
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def format_ratio(value: float | None) -> str:
    """Format a ratio with four digits; None is a dash."""
    return "-" if value is None else f"{value:.4f}"


def _write_policy(style: str) -> str:
    # The browser may use this style and the images in the page, and nothing else.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _render_sections(report: Report) -> Iterator[Markup]:
    evaluation, run = report.evaluation, report.summary.training
    if evaluation is None:
        words = "The file does not say which data it is for: name them with --dataset."
        yield _section("Results", tag("p", words))
    if report.curves is not None:
        panels = [draw_panel(panel) for panel in report.curves.panels]
        yield _section("Training", tag("div", *panels, class_="charts"))
    if evaluation is not None:
        yield from _render_evaluation(evaluation)
    yield _section("Network", _wrap(make_layers(report.summary.layers)))
    if run is None:
        words = "The file holds no record of its training: config, data and seed are not known."
        yield _section("Config", tag("p", words))
        return
    yield _section("Config", make_config(run.config))
    yield _section("Data and versions", _render_origin(run))
    if report.rerun is not None:
        yield _section("How to make it again", _render_rerun(report.rerun))


def _section(title: str, *parts: str) -> Markup:
    return tag("section", tag("h2", title), *parts)


def _wrap(table: Markup) -> Markup:
    # A table that is wider than the screen scrolls, not the page.
    return tag("div", table, class_="wide", tabindex="0")


def _render_key_figures(report: Report) -> Markup:
    evaluation, run = report.evaluation, report.summary.training
    figures: list[tuple[str, str]] = []
    if evaluation is not None:
        score = evaluation.score
        right = score.count - evaluation.misclassified_count
        figures += [
            (f"accuracy, {evaluation.data}", f"{score.accuracy:.4f}"),
            ("right", f"{right:,} of {score.count:,}"),
            (f"loss ({score.loss_name or 'none'})", format_loss(score)),
            ("calibration error", f"{evaluation.calibration.ece:.4f}"),
        ]
    if run is not None:
        figures.append(("epochs", describe_epochs(run)))
        figures += [
            (f"{name}, epoch {run.weights_epoch}", f"{run.metrics[name]:.4f}")
            for name in ("val_accuracy", "val_loss")
            if name in run.metrics
        ]
    figures.append(("parameters", f"{report.summary.total_parameters:,}"))
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value)) for name, value in figures),
        class_="figures",
    )


def _render_evaluation(evaluation: Evaluation) -> Iterator[Markup]:
    score = evaluation.score
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
    calibration = evaluation.calibration
    words = (
        "Where the bars reach the line of mean confidence, the network's probabilities can be"
        f" taken at their word. Expected calibration error: {calibration.ece:.4f}."
    )
    parts = (draw_calibration(calibration), _wrap(make_bins(calibration.bins)))
    chart = tag("div", *parts, class_="charts")
    yield _section("Calibration", tag("p", words, class_="note"), chart)
    yield _section("Most confident mistakes", *_render_misclassified(evaluation))


def _render_misclassified(evaluation: Evaluation) -> Iterator[Markup]:
    shown = evaluation.misclassified
    if evaluation.misclassified_count == 0:
        yield tag("p", f"There are none on {evaluation.data}.")
        return
    words = (
        f"{len(shown.rows):,} of {evaluation.misclassified_count:,} on {evaluation.data}: what the"
        " network said and its probability, what it is, and its row."
    )
    yield tag("p", words, class_="note")
    tiles = [_render_misclassified_image(shown, place) for place in range(len(shown.rows))]
    yield tag("ul", *tiles, class_="tiles")


def _render_misclassified_image(shown: Predictions, place: int) -> Markup:
    # Inputs that are not images are shown as numbers.
    image, row = shown.images[place], int(shown.rows[place])
    said = shown.labels[int(shown.classes[place])]
    truth = shown.labels[int(shown.true_classes[place])]
    confidence = f"{float(shown.confidences[place]):.3f}"
    if image.ndim == 1:
        picture = tag("code", ", ".join(map(str, image.tolist())))
    else:
        picture = tag("img", src=make_data_uri(image), alt=f"row {row}: {truth}")
    return tag(
        "li",
        picture,
        tag("strong", f"{said} {confidence}"),
        tag("span", f"is {truth}"),
        tag("small", f"row {row}"),
    )


def _render_origin(run: TrainingFacts) -> Markup:
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


def _render_rerun(rerun: RerunCommands) -> Markup:
    parts: list[Markup] = []
    if rerun.again is not None:
        parts.append(tag("p", "Train it again from its own record, and compare every bit:"))
        parts.append(tag("pre", rerun.again))
    parts.append(tag("p", "Make it from nothing:"))
    parts.append(tag("pre", rerun.anew))
    notes = [tag("li", note) for note in rerun.notes]
    return join(*parts, tag("ul", *notes, class_="notes"))


def _name_devices(record: Record) -> str:
    count = record.environment.devices
    return f" --devices {count}" if count > 1 else ""


def _list_notes(record: Record) -> Iterator[str]:
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
    if (progress.epoch, progress.step) != (planned, 0) and not record.is_stopped_early:
        where = describe_progress(progress.epoch, progress.step, planned)
        yield f"This file stands {where}; from nothing the run goes on to its end."
    if record.init_weights_sha256 is not None:
        yield (
            f"It began with the weights of another checkpoint, {record.init_from}: their bytes"
            f" have the sha256 {record.init_weights_sha256}."
        )


def _format_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _allow_breaks(text: str) -> Markup:
    # Long names may be broken between their words.
    pieces = re.split(r"(?<=[_.])(?=[a-z])", text)
    return join(*(part for piece in pieces for part in (tag("wbr"), piece)))


def _make_cell(count: int, share: float, full: float, *, is_correct: bool) -> Markup:
    if count == 0:
        return tag("td", "·", class_="none")
    shade = max(1, round(share / full * _SHADES))
    return tag("td", str(count), class_=f"{'right' if is_correct else 'wrong'} h{shade}")


def _shorten(label: str) -> str:
    return label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}…"


def _draw_bin(row: ConfidenceBin, share: float, strip: float) -> Markup:
    accuracy, confidence = row.accuracy or 0.0, row.confidence or 0.0
    left, right = _place_share(row.low) + 1, _place_share(row.high) - 1
    top, size = _place(accuracy, 0, 1), max(1.0, share * _STRIP_HEIGHT)
    level = _place(confidence, 0, 1)
    words = (
        f"confidence {row.low:.2f} to {row.high:.2f}: {pluralize(row.count, 'image')},"
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
    # A tenth of a unit is less than a pixel.
    sizes = {"x": left, "y": top, "width": width, "height": height}
    return tag("rect", class_=kind, **{name: f"{value:.1f}" for name, value in sizes.items()})


def _make_svg(height: float, label: str, parts: Sequence[Markup]) -> Markup:
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {height:g}", role="img", aria_label=label)


def _write(x: float, y: float, text: str, anchor: str) -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _stroke(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return tag("line", class_=kind, **{name: f"{value:.1f}" for name, value in ends.items()})


def _draw_levels(low: float, high: float) -> Iterator[Markup]:
    for tick in choose_ticks(low, high):
        y = _place(tick, low, high)
        yield _stroke("grid", _LEFT, y, _WIDTH - _RIGHT, y)
        yield _write(_LEFT - 5, y + 4, f"{tick:.4g}", "end")


def _draw_line(line: Line, kind: str, count: int, low: float, high: float) -> Markup:
    # A value between two gaps is a dot: a line of two equal points.
    pieces: list[list[str]] = [[]]
    for epoch, value in _thin(line.values):
        if _is_finite(value):
            x, y = _place_epoch(epoch, count), _place(value, low, high)
            pieces[-1].append(f"{x:.1f} {y:.1f}")
        elif pieces[-1]:
            pieces.append([])
    path = " ".join(f"M{' L'.join(p if len(p) > 1 else p * 2)}" for p in pieces if p)
    return tag("path", d=path, class_=kind)


def _thin(values: Sequence[float]) -> Iterator[tuple[int, float]]:
    """Yield epochs from 1 and values; of each group of too many, the lowest and the highest."""
    size = -(-len(values) // (_MAX_POINTS // 2)) if len(values) > _MAX_POINTS else 1
    for start in range(0, len(values), size):
        piece = range(start, min(start + size, len(values)))
        ends = {min(piece, key=values.__getitem__), max(piece, key=values.__getitem__)}
        yield from ((place + 1, values[place]) for place in sorted(ends))


def _choose_epochs(count: int) -> tuple[int, ...]:
    step = max(1, round(_round_step(count / 5)))
    return (1, *range(step if step > 1 else 2, count + 1, step))


def _round_step(least: float) -> float:
    # The next 1, 2 or 5 times a power of ten.
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least)


def _is_finite(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= _MAX_SIZE


def _widen(low: float, high: float) -> tuple[float, float]:
    # Lines that are level need a margin too.
    room = (high - low) * 0.04
    if room <= abs(high) * 1e-9:
        room = abs(high) * 0.05 or 0.5
    return low - room, high + room


def _place(value: float, low: float, high: float) -> float:
    return _BASE - (value - low) / (high - low) * _PLOT_HEIGHT


def _place_share(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _place_epoch(epoch: int, count: int) -> float:
    # A single epoch stands in the middle.
    return _place_share(0.02 + 0.96 * ((epoch - 1) / (count - 1) if count > 1 else 0.5))


def _format_last(line: Line) -> Markup:
    return escape(f"{line.values[-1]:.4f}") if line.values else join()
