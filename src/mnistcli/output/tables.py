"""Results become tables and lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mnistcli.checkpoints.environment import describe_devices
from mnistcli.checkpoints.run_state import StoppingState
from mnistcli.output.config_results import RecipesResult
from mnistcli.output.results import (
    EvaluationResult,
    LayerResult,
    Prediction,
    PredictResult,
    RankedPrediction,
    SummaryResult,
    TrainingFacts,
    TrainResult,
    WeightResult,
    WeightsSummaryResult,
)


def _make_table(*columns: str, left: int = 1) -> Table:
    """Return an empty table whose first `left` columns hold text and the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    return table


def _format_ratio(value: float | None) -> str:
    """Write a ratio with four digits; a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"


def render_stopping(state: StoppingState, epochs: int) -> str:
    """Say in one line what early stopping did to a run of so many epochs."""
    ended = f"ended the run after {epochs} epochs" if state.is_stopped else "had no reason to stop"
    kept = f"; the weights are those of epoch {state.best_epoch + 1}" if state.is_restored else ""
    return f"early stopping {ended}{kept}"


def render_train(result: TrainResult) -> str:
    """Say in one line what a run came to."""
    return f"test accuracy {result.test.accuracy:.4f}, loss {result.test.loss:.4f}"


def render_evaluation(result: EvaluationResult) -> Iterator[RenderableType]:
    """Show one checkpoint's score, class by class, and what it took for what."""
    yield Text(
        f"{result.checkpoint} on {result.dataset} {result.split} ({result.count:,} images): "
        f"accuracy {result.accuracy:.4f}, loss {result.loss:.4f}"
    )
    classes = _make_table("class", "precision", "recall", "f1", "images")
    for row in result.per_class:
        classes.add_row(
            row.label,
            _format_ratio(row.precision),
            _format_ratio(row.recall),
            _format_ratio(row.f1),
            f"{row.support:,}",
        )
    yield classes
    labels = [row.label for row in result.per_class]
    confusion = _make_table("true \\ predicted", *labels)
    for label, counts in zip(labels, result.confusion, strict=True):
        confusion.add_row(label, *(str(count) if count else "." for count in counts))
    yield confusion


def render_evaluations(results: Iterable[EvaluationResult]) -> Table:
    """Show several checkpoints, one row each."""
    table = _make_table("checkpoint", "data", "split", "images", "accuracy", "loss", left=3)
    for row in results:
        table.add_row(
            row.checkpoint,
            row.dataset,
            row.split,
            f"{row.count:,}",
            f"{row.accuracy:.4f}",
            f"{row.loss:.4f}",
        )
    return table


def _name_source(prediction: Prediction) -> str:
    """Name an image: a file, or its row in a data set."""
    row = prediction.row
    return prediction.source if row is None else f"{prediction.source}[{row}]"


def render_predictions(result: PredictResult) -> Iterator[RenderableType]:
    """Show what each image was taken for; mistakes are marked where the truth is known."""
    rows = result.predictions
    knows_truth = any(row.truth is not None for row in rows)
    columns = ["image", "class", "probability", *(["truth"] if knows_truth else [])]
    has_top = any(isinstance(row, RankedPrediction) for row in rows)
    table = _make_table(*columns, *(["next"] if has_top else []), left=2)
    for row in rows:
        wrong = row.truth is not None and row.truth != row.class_index
        cells = [_name_source(row), row.label, f"{row.probability:.4f}"]
        if knows_truth:
            cells.append(f"{row.truth}{' wrong' if wrong else ''}")
        if isinstance(row, RankedPrediction):
            cells.append("  ".join(f"{o.label} {o.probability:.4f}" for o in row.top[1:]))
        table.add_row(*cells, style="bold" if wrong else None)
    yield table
    known = [row for row in rows if row.truth is not None]
    if known:
        right = sum(row.truth == row.class_index for row in known)
        yield Text(f"{right} of {len(known)} right")


def _format_shape(row: LayerResult) -> str:
    """Write a shape as Keras' summary does, the batch axis first."""
    return "(" + ", ".join("None" if n is None else str(n) for n in row.output_shape) + ")"


def render_summary(result: SummaryResult) -> Iterator[RenderableType]:
    """Show the layer table as Keras' summary does, and where a checkpoint comes from."""
    table = _make_table("Layer (type)", "Output Shape", "Param #", left=2)
    for row in result.layers:
        table.add_row(f"{row.name} ({row.type})", _format_shape(row), f"{row.parameters:,}")
    yield table
    yield Text(
        f"Total params: {result.total_parameters:,}\n"
        f"Trainable params: {result.trainable_parameters:,}\n"
        f"Non-trainable params: {result.total_parameters - result.trainable_parameters:,}"
    )
    if result.training is not None:
        yield _render_facts(result.training)
    if isinstance(result, WeightsSummaryResult):
        yield from map(_render_weight, result.weights)


def _render_facts(facts: TrainingFacts) -> Table:
    """Show what a checkpoint knows of its run."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    training = facts.config.training
    hash_note = f", sha256 {facts.dataset.sha256[:12]}…" if facts.dataset.sha256 else ""
    table.add_row("")
    table.add_row("data", f"{facts.known_as or facts.dataset.name}{hash_note}")
    table.add_row("normalization", facts.config.dataset.normalization)
    table.add_row(
        "optimizer",
        f"{training.optimizer.name}, learning rate {training.optimizer.learning_rate:g}",
    )
    table.add_row("loss", training.loss)
    table.add_row("batch size", f"{training.batch_size}")
    if training.precision != "float32":
        table.add_row("precision", training.precision)
    part = f" and {facts.step} steps" if facts.step else ""
    table.add_row("epochs", f"{facts.epochs}{part} of {facts.planned_epochs}")
    table.add_row("seed", f"{training.seed}")
    for name, value in facts.last.items():
        table.add_row(name, f"{value:.4f}")
    if facts.test is not None:
        table.add_row("test", f"accuracy {facts.test.accuracy:.4f}, loss {facts.test.loss:.4f}")
    table.add_row("time", f"{facts.seconds.total:.1f} s")
    if devices := describe_devices(facts.environment):
        table.add_row("trained on", devices)
    versions = facts.environment.versions
    table.add_row("made with", ", ".join(f"{name} {v}" for name, v in versions.items()))
    return table


def _render_weight(array: WeightResult) -> RenderableType:
    """Show an array as NumPy prints it, shortened in the middle where it is large."""
    import numpy as np

    values = np.array(array.values, np.float32).reshape(array.shape)
    text = np.array2string(values, precision=4, threshold=200, edgeitems=3, max_line_width=100)
    return Text(f"\n{array.layer}/{array.name} {array.shape}\n{text}")


def render_recipes(result: RecipesResult) -> Table:
    """Show the recipes, one row each."""
    table = _make_table(
        "recipe", "data", "model", "epochs", "s/epoch", "published", "measured", left=3
    )
    for row in result.recipes:
        accuracies = [measured.test_accuracy for measured in row.measured]
        table.add_row(
            row.name,
            row.dataset,
            " ".join([row.model, *(["-".join(map(str, row.hidden))] if row.hidden else [])]),
            f"{row.epochs}",
            f"{row.seconds_per_epoch:.3f}",
            _format_ratio(row.published_test_accuracy),
            f"{min(accuracies):.4f}-{max(accuracies):.4f}",
        )
    return table
