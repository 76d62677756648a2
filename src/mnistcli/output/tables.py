"""Results as text and tables for people: a function for each type of result."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue
from rich.text import Text

from mnistcli.checkpoints.record import describe_devices
from mnistcli.checkpoints.run_state import EarlyStoppingState, Progress
from mnistcli.errors import make_displayable, pluralize
from mnistcli.metrics.scores import Score
from mnistcli.models.memory import format_bytes
from mnistcli.output.progress import format_metrics
from mnistcli.output.results import (
    Answer,
    CheckpointResult,
    ComparedResult,
    CompareResult,
    CopiedRecipeResult,
    DataResult,
    DirectoryResult,
    DoctorResult,
    EstimatedSecondsResult,
    EvaluateResult,
    EvaluationResult,
    ExampleResult,
    FetchResult,
    FigureResult,
    LayerResult,
    ListResult,
    LocatedDatasetResult,
    OverfitResult,
    PlotResult,
    Prediction,
    PredictResult,
    RankedPrediction,
    RecipeReproduction,
    RecipesResult,
    RepeatResult,
    ReportResult,
    ReproduceRecipesResult,
    ReproduceResult,
    ShownRecipeResult,
    SummaryResult,
    SweepPlanResult,
    SweepResult,
    TrainingFacts,
    TrainResult,
    TrialResult,
    WeightResult,
    WeightsSummaryResult,
    letter,
    list_verdicts,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_CHECKSUM_STATES = {
    "intact": "as mnistcli wrote it (its checksum holds)",
    "gone": "changed since mnistcli wrote it (its checksum is gone)",
    "none": "not a file of mnistcli's",
}


@singledispatch
def render(result: Answer) -> Iterable[RenderableType]:
    """Return the lines of text and the tables that show a result, one below the other."""
    raise NotImplementedError(type(result))


def format_train(result: TrainResult) -> str:
    """Format the test score of a run in one line."""
    return f"test accuracy {result.test.accuracy:.4f}, loss {result.test.loss:.4f}"


def describe_progress(epoch: int, step: int, epochs: int, steps: int | None = None) -> str:
    """Describe in one phrase how far a run has come.

    Args:
        epoch: number of completed epochs.
        step: number of steps of the one after them.
        epochs: planned.
        steps: of an epoch; None where it is not known.
    """
    if not step:
        return f"after {epoch:,} of {pluralize(epochs, 'epoch')}"
    of_steps = "" if steps is None else f" of {steps:,}"
    return f"in epoch {epoch + 1:,} of {epochs:,} (step {step:,}{of_steps})"


def describe_early_stopping(state: EarlyStoppingState, progress: Progress) -> str:
    """Describe in one line what early stopping did to a run."""
    after = f"ended the run after {pluralize(progress.epoch, 'epoch')}"
    line = f"early stopping {after if state.is_stopped else 'had no reason to stop'}"
    if not state.is_restored:
        return line
    epoch = state.best_epoch + 1
    metrics = format_metrics(progress.find_metrics(epoch))
    return f"{line}; the weights are those of epoch {epoch}: {metrics}"


def describe_epochs(facts: TrainingFacts) -> str:
    """Describe in one phrase how far a run has come, and of which epoch its weights are."""
    line = f"{facts.epochs} of {facts.planned_epochs}"
    if facts.step:
        line += f", and {pluralize(facts.step, 'step')} of epoch {facts.epochs + 1}"
    if facts.stopped_early:
        line = f"stopped early after {line}"
    if facts.weights_epoch != facts.epochs:
        line = f"{line}; weights of epoch {facts.weights_epoch}"
    return line


def describe_time(seconds: EstimatedSecondsResult) -> str:
    """Describe in one phrase how long a run will take, and from how many steps that is known."""
    return (
        f"about {format_duration(seconds.per_epoch)} an epoch,"
        f" {format_duration(seconds.total)} in all"
        f" (measured over {pluralize(seconds.measured_steps, 'step')})"
    )


def format_loss(score: Score | ComparedResult) -> str:
    """Format a loss with four digits; `-` where it is not known."""
    return "-" if score.loss is None else f"{score.loss:.4f}"


def format_duration(duration_s: float) -> str:
    """Format a duration with two digits or in full units: `0.31 s`, `42 s`, `3 h`."""
    if duration_s < 9.95:
        return f"{duration_s:.2g} s"
    for unit, unit_s in (("s", 1), ("min", 60), ("h", 3600)):
        if duration_s < 120 * unit_s:
            return f"{duration_s / unit_s:.0f} {unit}"
    return f"{duration_s / 86400:.1f} days"


def make_trial_table(trials: Sequence[TrialResult], objective: str) -> Table:
    """Return a table of trials, with a column for each searched key."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.parameters))
    shorten = shorten_keys(keys)
    searched = (shorten[key] for key in keys)
    table = _make_table("trial", objective, "epochs", "state", *searched, left=0)
    table.columns[3].justify = "left"
    for trial in trials:
        table.add_row(
            str(trial.trial),
            "-" if trial.value is None else f"{trial.value:.4f}",
            str(trial.epochs),
            trial.state,
            *(_format_setting(trial.parameters[k]) if k in trial.parameters else "-" for k in keys),
            style=None if trial.state == "complete" else "dim",
        )
    return table


def describe_trial_end(trial: TrialResult, objective: str) -> str:
    """Describe a trial that has ended: its value, or why it failed."""
    if trial.state == "failed":
        return f"failed: {trial.reason or ''}"
    value = "-" if trial.value is None else f"{trial.value:.4f}"
    after = f"  pruned after epoch {trial.epochs}" if trial.state == "pruned" else ""
    return f"{objective} {value}{after}"


def describe_parameters(values: Mapping[str, JsonValue], names: Mapping[str, str]) -> str:
    """Format the values of the searched keys in one line."""
    return "  ".join(f"{names[key]} {_format_setting(value)}" for key, value in values.items())


def shorten_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return the last part of each dotted key, or the whole key where two would be alike."""
    keys = list(dict.fromkeys(keys))
    ends = [key.rpartition(".")[2] for key in keys]
    pairs = zip(keys, ends, strict=True)
    return {key: key if ends.count(end) > 1 or end.isdecimal() else end for key, end in pairs}


@render.register(TrainResult)
def _render_train(result: TrainResult) -> Iterable[RenderableType]:
    return [format_train(result)]


@render.register(RepeatResult)
def _render_repeat(answer: RepeatResult) -> Iterator[RenderableType]:
    mean, deviation = answer.test, answer.deviation
    yield (
        f"test accuracy {mean.accuracy:.4f} ± {deviation.accuracy:.4f},"
        f" loss {mean.loss:.4f} ± {deviation.loss:.4f}"
        f" ({len(answer.seeds)} runs, seeds {answer.seeds[0]} to {answer.seeds[-1]})"
    )


@render.register(OverfitResult)
def _render_overfit(result: OverfitResult) -> Iterator[RenderableType]:
    yield (
        f"{'learned' if result.learned else 'did not learn'} {pluralize(result.images, 'image')} by"
        f" heart in {pluralize(result.steps, 'step')}:"
        f" loss {result.loss.first:.4f} -> {result.loss.last:.4f},"
        f" accuracy {result.accuracy.first:.4f} -> {result.accuracy.last:.4f}"
        f" ({format_duration(result.seconds)})"
    )


@render.register(EvaluateResult)
def _render_evaluate(result: EvaluateResult) -> Iterable[RenderableType]:
    if len(result.results) == 1:
        return _render_evaluation(result.results[0])
    return [_render_evaluations(result.results)]


def _render_evaluation(result: EvaluationResult) -> Iterator[RenderableType]:
    yield Text(
        f"{result.checkpoint} on {result.dataset} {result.split}"
        f" ({pluralize(result.count, 'image')}):"
        f" accuracy {result.accuracy:.4f}, loss {_describe_loss(result)}"
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


def _describe_loss(result: EvaluationResult) -> str:
    return "not known" if result.loss is None else f"{result.loss:.4f} ({result.loss_name})"


def _render_evaluations(results: Iterable[EvaluationResult]) -> Table:
    columns = ("checkpoint", "data", "split", "images", "accuracy", "loss", "loss function")
    table = _make_table(*columns, left=3)
    table.columns[-1].justify = "left"
    for row in results:
        table.add_row(
            row.checkpoint,
            row.dataset,
            row.split,
            f"{row.count:,}",
            f"{row.accuracy:.4f}",
            format_loss(row),
            row.loss_name or "-",
        )
    return table


@render.register(PredictResult)
def _render_predict(result: PredictResult) -> Iterator[RenderableType]:
    rows = result.predictions
    if all(row.error is not None for row in rows):  # stderr tells them
        return
    has_true_classes = any(row.truth is not None for row in rows)
    columns = ["image", "class", "probability", *(["true class"] if has_true_classes else [])]
    has_top = any(isinstance(row, RankedPrediction) for row in rows)
    has_errors = any(row.error is not None for row in rows)
    further = [*(["next"] if has_top else []), *(["error"] if has_errors else [])]
    table = _make_table(*columns, *further, left=2)
    if has_errors:
        table.columns[-1].justify = "left"
    for row in rows:
        wrong = row.truth is not None and row.truth != row.class_index
        cells = [_name_source(row), row.label or "-", _format_ratio(row.probability)]
        if has_true_classes:
            cells.append(f"{row.true_label or '-'}{' wrong' if wrong else ''}")
        if isinstance(row, RankedPrediction):
            cells.append("  ".join(f"{o.label} {o.probability:.4f}" for o in row.top[1:]))
        if row.error is not None:
            cells.append(row.error.message)
        table.add_row(*cells, style="bold" if wrong else None)
    yield table
    known = [row for row in rows if row.truth is not None]
    if known:
        right = sum(row.truth == row.class_index for row in known)
        yield Text(f"{right} of {len(known)} right")


def _name_source(prediction: Prediction) -> str:
    row = prediction.row
    return prediction.source if row is None else f"{prediction.source}[{row}]"


@render.register(SummaryResult)
def _render_summary(result: SummaryResult) -> Iterator[RenderableType]:
    # The layer table is that of Keras' summary.
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
        yield _render_run(result.training)
    if isinstance(result, WeightsSummaryResult):
        yield from map(_render_weight, result.weights)


def _format_shape(row: LayerResult) -> str:
    # As Keras' summary writes it, the batch axis first.
    return "(" + ", ".join("None" if n is None else str(n) for n in row.output_shape) + ")"


def _render_run(facts: TrainingFacts) -> Table:
    table = _make_facts()
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
    table.add_row("epochs", describe_epochs(facts))
    table.add_row("seed", f"{training.seed}")
    for name, value in facts.metrics.items():
        table.add_row(name, f"{value:.4f}")
    if facts.weights_epoch != facts.epochs:
        table.add_row("last epoch", format_metrics(facts.last))
    if facts.test is not None:
        table.add_row("test", f"accuracy {facts.test.accuracy:.4f}, loss {facts.test.loss:.4f}")
    table.add_row("time", f"{facts.seconds.total:.1f} s")
    if devices := describe_devices(facts.environment):
        table.add_row("trained on", devices)
    versions = facts.environment.versions
    made_with = ", ".join(f"{name} {v}" for name, v in versions.items())
    table.add_row("made with", make_displayable(made_with))
    return table


def _render_weight(array: WeightResult) -> RenderableType:
    import numpy as np

    values = np.array(array.values, np.float32).reshape(array.shape)
    text = np.array2string(values, precision=4, threshold=200, edgeitems=3, max_line_width=100)
    return Text(f"\n{array.layer}/{array.name} {array.shape}\n{text}")


@render.register(ListResult)
def _render_list(result: ListResult) -> Iterable[str]:
    from mnistcli.output.run_list import render_list

    return render_list(result)


@render.register(CompareResult)
def _render_compare(answer: CompareResult) -> Iterator[RenderableType]:
    interval = f"{100 * answer.confidence:g} % interval"
    columns = ("", "checkpoint", "data", "epochs", "images", "accuracy", interval, "loss")
    has_baselines = any(row.kind == "baseline" for row in answer.results)
    table = _make_table(*columns, *(["time"] if has_baselines else []), "loss function", left=3)
    table.columns[-1].justify = "left"
    for place, row in enumerate(answer.results):
        time = "-" if row.fit_seconds is None else f"{row.fit_seconds:.1f} s"
        bounds = f"{row.interval.low:.4f}-{row.interval.high:.4f}"
        epochs = "-" if row.epochs is None else f"{row.epochs}"
        data = f"{row.dataset} {answer.split}"
        score = (f"{row.count:,}", f"{row.accuracy:.4f}", bounds, format_loss(row))
        cells = (*score, *([time] if has_baselines else []), row.loss_name or "-")
        table.add_row(letter(place), row.checkpoint, data, epochs, *cells)
    yield table
    yield from _render_differences(answer)
    yield Text("\n".join(list_verdicts(answer)))


def _render_differences(answer: CompareResult) -> Iterator[RenderableType]:
    count, files = len(answer.results), [r for r in answer.results if r.kind == "checkpoint"]
    if answer.differences:
        letters = map(letter, range(count))
        table = _make_table("what differs", *letters, left=1)
        for row in answer.differences:
            table.add_row(row.key, *map(_format_value, row.values))
        yield table
    elif len(files) > 1 and all(row.trained_on is not None for row in files):
        yield Text("the configs are the same\n")
    unknown = [letter(i) for i, row in enumerate(answer.results) if row.trained_on is None]
    if unknown:
        yield Text(f"{', '.join(unknown)}: no config in the file\n")


def _format_value(value: JsonValue) -> str:
    # The beginning of a hash is enough to compare it.
    if value is None:
        return "-"
    if isinstance(value, str):
        return f"{value[:12]}…" if len(value) == 64 else value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value)


@render.register(CopiedRecipeResult)
@render.register(PlotResult)
@render.register(ReportResult)
def _render_path(result: CopiedRecipeResult | PlotResult | ReportResult) -> Iterable[str]:
    return [result.path]


@render.register(DataResult)
def _render_data(result: DataResult) -> Iterable[RenderableType]:
    return _render_dataset(result) if result.example is None else _render_example(result.example)


def _render_dataset(result: DataResult) -> Iterator[RenderableType]:
    facts = _make_facts()
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
    columns = [column for name in result.balance for column in (name, "share")]
    table = _make_table("class", "label", *columns, left=2)
    for index, label in enumerate(result.class_names):
        cells = []
        for name, counts in result.balance.items():
            share = counts[index] / result.counts[name]
            cells += [f"{counts[index]:,}", f"{share:.4f}"]
        table.add_row(str(index), label, *cells)
    return table


def _render_example(example: ExampleResult) -> Iterator[RenderableType]:
    facts = _make_facts()
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
    # One matrix per colour channel.
    values = values[None] if values.ndim == 1 else values
    channels = {"": values} if values.ndim == 2 else dict(
        zip(("red", "green", "blue"), np.moveaxis(values, -1, 0), strict=True)
    )  # fmt: skip
    pattern = "{:>3d}" if values.dtype.kind == "i" else "{:>5.2f}"
    for name, matrix in channels.items():
        lines = [" ".join(pattern.format(value) for value in row) for row in matrix.tolist()]
        yield Text("\n".join(["", *([name] if name else []), *lines]))


@render.register(FetchResult)
def _render_location(result: FetchResult) -> Iterable[str]:
    return [] if result.location is None else [result.location]


@render.register(ReproduceResult)
def _render_reproduce(result: ReproduceResult) -> Iterator[RenderableType]:
    where = f"{result.checkpoint}, {pluralize(result.epochs, 'epoch')}"
    if result.same:
        yield Text(f"{where}: same bits in all {result.arrays} arrays")
        return
    yield Text(
        f"{where}: other bits in {len(result.differences)} of {pluralize(result.arrays, 'array')}"
    )
    table = _make_table("array", "numbers", "differing", "largest difference")
    for row in result.differences:
        largest = row.max_abs_difference
        shown = "-" if largest is None else f"{largest:.3g}"
        table.add_row(row.name, f"{row.size:,}", f"{row.differing:,}", shown)
    yield table


@render.register(ReproduceRecipesResult)
def _render_reproduce_recipes(answer: ReproduceRecipesResult) -> Iterator[RenderableType]:
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
    numbers = (min(row.measured), max(row.measured), row.now)
    low, high, now = (f"{number:.{row.digits}f}" for number in numbers)
    published = "-" if row.published is None else f"{row.published:.{row.digits}f}"
    before = low if low == high else f"{low}-{high}"
    return row.name, published, before, now, row.verdict


def _explain_verdicts(recipes: tuple[RecipeReproduction, ...]) -> Iterator[str]:
    verdicts = [row.verdict for again in recipes for row in again.figures]
    counts = {name: verdicts.count(name) for name in dict.fromkeys(verdicts)}
    shown = ", ".join(f"{n} {name}" for name, n in counts.items())
    yield f"{pluralize(len(verdicts), 'figure')}: {shown}"
    seeds = recipes[0].seeds
    yield (
        f"measured before: the range over seeds {seeds[0]} to {seeds[-1]}; a figure holds within"
        " that range widened by its width at both ends, and is as published where the published"
        " one lies there too"
    )
    for again in recipes:
        if again.measured_on is not None:
            yield f"{again.recipe} was measured on {again.measured_on}"


@render.register(DoctorResult)
def _render_doctor(result: DoctorResult) -> Iterator[RenderableType]:
    table = _make_facts()
    for name, version in result.versions.items():
        table.add_row(name, version or "not installed")
    features = ", ".join(result.processor_features) or "features unknown"
    table.add_row("processor", f"{result.processor} ({features})")
    table.add_row("threads", f"{result.threads} of {pluralize(result.processors, 'processor')}")
    if result.available_memory is not None:
        table.add_row("memory", f"{format_bytes(result.available_memory)} available")
    for dataset in result.datasets:
        table.add_row(dataset.name, _describe_dataset(dataset))
    for directory in result.directories:
        table.add_row(directory.purpose, _describe_directory(directory))
    yield table
    if result.checkpoint is not None:
        yield from _describe_checkpoint(result.checkpoint)


def _describe_dataset(dataset: LocatedDatasetResult) -> str:
    if dataset.location is None:
        return dataset.note
    identity = dataset.known_as or dataset.note
    digest = f", sha256 {dataset.sha256[:12]}…" if dataset.sha256 else ""
    return f"{identity}{digest}, {dataset.location}"


def _describe_directory(directory: DirectoryResult) -> str:
    made = "" if directory.exists else ", made when it is needed"
    return f"{directory.path}, {'writable' if directory.writable else 'not writable'}{made}"


def _describe_checkpoint(checkpoint: CheckpointResult) -> Iterator[RenderableType]:
    yield Text(f"\n{checkpoint.path}: {_CHECKSUM_STATES[checkpoint.seal]}")
    yield Text(
        f"{pluralize(checkpoint.layers, 'layer')},"
        f" {pluralize(checkpoint.parameters, 'parameter')}, all finite"
    )
    facts = checkpoint.training
    if facts is not None:
        score = f", test accuracy {facts.test.accuracy:.4f}" if facts.test is not None else ""
        yield Text(
            f"{facts.known_as or facts.dataset.name}, epochs: {describe_epochs(facts)},"
            f" seed {facts.config.training.seed}{score}"
        )
    if checkpoint.differences:
        differing = make_displayable(", ".join(checkpoint.differences))
        yield Text(f"other bits than here are to be expected: {differing}")


@render.register(RecipesResult)
def _render_recipe_list(result: RecipesResult) -> Iterator[RenderableType]:
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
    yield table


@render.register(ShownRecipeResult)
def _render_yaml(result: ShownRecipeResult) -> Iterable[str]:
    return [result.yaml.removesuffix("\n")]


@render.register(SweepResult)
def _render_sweep(answer: SweepResult) -> Iterator[RenderableType]:
    yield make_trial_table(answer.ranking, answer.objective)
    reasons = [trial for trial in answer.ranking if trial.reason]
    if reasons:
        lines = [f"trial {one.trial} failed: {one.reason}" for one in reasons]
        yield Text("\n".join(lines))
    if answer.importances:
        shorten = shorten_keys(answer.importances)
        shares = _make_table("key", "importance")
        for key, share in answer.importances.items():
            shares.add_row(shorten[key], f"{share:.2f}")
        yield shares
    counts = f"{answer.complete} complete, {answer.pruned} pruned, {answer.failed} failed"
    yield Text(f"{pluralize(answer.trials, 'trial')}: {counts}")
    yield _describe_best(answer)


def _describe_best(answer: SweepResult) -> str:
    if answer.best is None or answer.best.value is None:
        return "no trial is complete"
    test = answer.test
    beside = "" if test is None else f", test accuracy {test.accuracy:.4f}, loss {test.loss:.4f}"
    best = answer.best
    return f"best trial {best.trial}: {answer.objective} {best.value:.4f}{beside}"


@render.register(SweepPlanResult)
def _render_sweep_plan(answer: SweepPlanResult) -> Iterator[RenderableType]:
    table = _make_table("key", "values", "points", left=2)
    for row in answer.search:
        table.add_row(row.key, row.values, "-" if row.points is None else str(row.points))
    yield table
    points = "" if answer.points is None else f" of {pluralize(answer.points, 'combination')}"
    yield Text(
        f"{pluralize(answer.trials, 'trial')}{points}, sampler {answer.sampler},"
        f" pruner {answer.pruner}, objective {answer.objective}"
    )
    if answer.refused:
        yield Text(f"{answer.refused} of them are refused by the config's rules, and would fail")


def _format_setting(value: JsonValue) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _make_table(*columns: str, left: int = 1) -> Table:
    """Return an empty table whose first `left` columns hold text and the others numbers."""
    from rich import box  # `ls` prints plain text, and does without them
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    return table


def _make_facts() -> Table:
    """Return an empty table for rows of a name and a value, without a frame or titles."""
    from rich.table import Table

    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))


def _format_ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
