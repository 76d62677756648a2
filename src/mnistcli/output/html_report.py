"""A report as one HTML page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

from mnistcli.checkpoints.environment import describe_devices
from mnistcli.output.charts import draw_calibration, draw_panel
from mnistcli.output.facts import Outcome, Recipe, Report
from mnistcli.output.images import encode_image
from mnistcli.output.markup import Markup, join, tag
from mnistcli.output.plots.plot_kinds import Predictions
from mnistcli.output.report_tables import (
    MAX_MATRIX_CLASSES,
    make_bins,
    make_classes,
    make_config,
    make_confusion,
    make_facts,
    make_layers,
    make_pairs,
    make_table,
)
from mnistcli.output.results import TrainingFacts

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
