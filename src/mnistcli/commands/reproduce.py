"""Joins what a reproduction needs: the record's plan, a second training, the comparison.

A recipe's whole story: train, save, load, evaluate, go on, look at the first images.

`reproduce RECIPE`: its story once more, and each figure beside the old ones.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.reader import CHANGED, Checkpoint, read_checkpoint
from mnistcli.checkpoints.record import Record, describe_environment, list_differences
from mnistcli.checkpoints.run_state import (
    RunState,
    compare_arrays,
    hash_weights,
    list_arrays,
)
from mnistcli.commands.open_dataset import open_dataset
from mnistcli.commands.signals import StopRequest, end_by_signal
from mnistcli.commands.train.build_trainer import build_trainer, clear_session
from mnistcli.commands.train.prepare import (
    check_same_data,
    load_recorded_data,
    prepare_run,
    with_initial_weights,
)
from mnistcli.commands.train.request import OutputFile, Plan, Request
from mnistcli.commands.train.run import Interruption, ProgressDisplay, StopOnSignal, train_plan
from mnistcli.commands.trained_model import DataLocation, TrainedModel, load_model
from mnistcli.config.loading import load_config
from mnistcli.config.recipes import Recipe, ReferenceResults
from mnistcli.datasets.base import SplitName
from mnistcli.errors import CheckFailedError, CheckpointError, ResourceError
from mnistcli.metrics.scores import class_probabilities, predict_classes
from mnistcli.models.numpy_inference import compute_probabilities
from mnistcli.output.results import (
    DatasetResult,
    FigureResult,
    RecipeReproduction,
    ReproduceRecipesResult,
    ReproduceResult,
    SecondsResult,
    TrainResult,
)
from mnistcli.output.terminal import PROGRAM, Output, choose_progress, emit
from mnistcli.output.terminal import Progress as ProgressMode

_AGAIN = "then "
_FIRST_WRONG = re.compile(r"first (\d+) wrong")
_IMAGE_AS = re.compile(r"image (\d+) as (\d+)")


@dataclass(frozen=True)
class Told:
    """What a story came to: the data, and each figure by its name."""

    dataset: DatasetResult
    figures: dict[str, float]


def tell_story(
    request: Request, names: Collection[str], directory: Path, console: Output, lock: RunLock
) -> Told | Interruption:
    """Run as much of a recipe's story as its figures need.

    Args:
        request: of its training, without a file to write.
        names: of the figures, as `mnistcli.config.recipes` explains them.
        directory: takes the checkpoints.
        console: hears what is being done.
        lock: is given the checkpoints.

    Raises:
        MnistcliError: a step could not be carried out.
    """
    first = directory / "first.h5"
    trained = _train(replace(request, output=first), console, lock)
    if isinstance(trained, Interruption):
        return trained
    figures = dict(_read_history(trained))
    model = _load(first, request, console)
    figures |= _evaluate(model, "test")
    if any(name.startswith("train ") for name in names):
        figures |= _evaluate(model, "train")
    if any(name.startswith(_AGAIN) for name in names):
        again = directory / "again.h5"
        console.note(f"{request.source}: on from its weights, with a fresh optimizer")
        more = _train(replace(request, output=again, init_from=first), console, lock)
        if isinstance(more, Interruption):
            return more
        model = _load(again, request, console)
        figures |= {f"{_AGAIN}{name}": value for name, value in _evaluate(model, "test").items()}
    figures |= dict(_predict(model, names))
    return Told(trained.dataset, figures)


def _train(request: Request, console: Output, lock: RunLock) -> TrainResult | Interruption:
    """Train as `mnistcli train` does, as if in a process of its own."""
    result = train_plan(prepare_run(request, console, lock), request, console)
    clear_session()
    return result


def _load(path: Path, request: Request, console: Output) -> TrainedModel:
    """Read what was saved, as any other command does."""
    return load_model(
        path, data=request.own_data, data_dir=request.data_dir, progress=console.progress
    )


def _read_history(result: TrainResult) -> Iterator[tuple[str, float]]:
    """Name what the epochs' lines say."""
    for metric, values in result.history.items():
        for epoch, value in enumerate(values, 1):
            yield f"epoch {epoch} {metric}", value


def _evaluate(model: TrainedModel, name: SplitName) -> dict[str, float]:
    """Score a loaded checkpoint on a split."""
    split = model.read_split(name)
    score = model.score(split, model.compute_logits(split.images))
    return {f"{name} loss": score.loss, f"{name} accuracy": score.accuracy}


def _predict(model: TrainedModel, names: Collection[str]) -> Iterator[tuple[str, float]]:
    """Look at those of the first test images that figures are about."""
    asked = [name for name in names if _FIRST_WRONG.fullmatch(name) or _IMAGE_AS.fullmatch(name)]
    if not asked:
        return
    test = model.read_split("test")
    outputs = compute_probabilities(
        model.checkpoint.architecture, model.compute_logits(test.images)
    )
    is_wrong = predict_classes(outputs) != test.labels
    probabilities = class_probabilities(outputs)
    for name in asked:
        if match := _FIRST_WRONG.fullmatch(name):
            yield name, float(is_wrong[: int(match[1])].sum())
        elif match := _IMAGE_AS.fullmatch(name):
            yield name, float(probabilities[int(match[1]), int(match[2])])


@dataclass(frozen=True)
class Manner:
    """Where the data are, and how progress and the answer are shown."""

    data_dir: Path | None
    progress: ProgressMode
    json: bool
    quiet: bool


def reproduce_recipes(recipes: Sequence[Recipe], manner: Manner) -> None:
    """Carry out `mnistcli reproduce RECIPE` and `--all`.

    Raises:
        CheckFailedError: a figure is another one.
        DataError, ResourceError: a story could not be run.
    """
    silent = manner.quiet or (manner.json and not sys.stderr.isatty())
    progress = choose_progress(manner.progress, silent=silent)
    console = Output(quiet=manner.quiet or manner.json, progress=progress)
    _find_data(recipes, manner, console)
    done: list[RecipeReproduction] = []
    for recipe in recipes:
        again = _reproduce(recipe, manner, console)
        if isinstance(again, Interruption):
            end_by_signal(again.signal)
            return
        done.append(again)
        if manner.quiet and not manner.json:
            console.print_line(f"{recipe.name} {'holds' if again.holds else 'differs'}")
    holds = all(again.holds for again in done)
    _show_recipe(ReproduceRecipesResult(holds=holds, recipes=tuple(done)), manner)


def _find_data(recipes: Sequence[Recipe], manner: Manner, console: Output) -> None:
    """Find out at once what is missing, not after minutes; DataError."""
    configs = (load_config(recipe.name).config.dataset for recipe in recipes)
    for config in {config.name: config for config in configs}.values():
        open_dataset(config, frozenset({"test"}), manner.data_dir, console.progress)


def _reproduce(
    recipe: Recipe, manner: Manner, console: Output
) -> RecipeReproduction | Interruption:
    """Run one story in a folder that is gone afterwards."""
    request = Request(
        source=recipe.name, data_dir=manner.data_dir, json=manner.json, quiet=manner.quiet
    )
    figures, begin_s = recipe.read_reference_results(), time.monotonic()
    names = [row.name for row in figures.rows]
    console.note(f"{recipe.name}: {recipe.about}")
    with TemporaryDirectory(prefix=f"{PROGRAM}-") as folder, RunLock() as lock:
        told = tell_story(request, names, Path(folder), console, lock)
    if isinstance(told, Interruption):
        return told
    rows = tuple(_judge(figures, told))
    return RecipeReproduction(
        recipe=recipe.name,
        dataset=told.dataset,
        measured_on=figures.measured_on or None,
        seeds=figures.seeds,
        figures=rows,
        holds=all(row.verdict != "differs" for row in rows),
        seconds=time.monotonic() - begin_s,
    )


def _judge(figures: ReferenceResults, told: Told) -> Iterator[FigureResult]:
    """Put the new figures beside the old ones."""
    for row in figures.rows:
        now = told.figures[row.name]
        yield FigureResult(
            name=row.name,
            published=row.published,
            measured=row.measured,
            tolerance=row.tolerance,
            now=now,
            verdict=row.judge(now),
            digits=row.digits,
        )


def _show_recipe(answer: ReproduceRecipesResult, manner: Manner) -> None:
    """Print the answer in the requested format; CheckFailedError where a figure differs."""
    failure = _find_failure(answer)
    emit(answer, "json" if manner.json else "quiet" if manner.quiet else "text", failure)


def _find_failure(answer: ReproduceRecipesResult) -> CheckFailedError | None:
    """Name the recipes and figures that came out otherwise."""
    found = [
        (again.recipe, row.name)
        for again in answer.recipes
        for row in again.figures
        if row.verdict == "differs"
    ]
    if not found:
        return None
    where = ", ".join(dict.fromkeys(recipe for recipe, _ in found))
    total = sum(len(again.figures) for again in answer.recipes)
    what = f"{len(found)} of {total} figures differ from those measured before"
    hint = f"look for other data or versions: {PROGRAM} doctor"
    return CheckFailedError(where, what, hint)


def reproduce_run(
    path: Path, location: DataLocation, asked: ProgressMode, *, json: bool, quiet: bool
) -> None:
    """Carry out `mnistcli reproduce`.

    Raises:
        CheckFailedError: the bits are others.
        CheckpointError, DataError, ResourceError: they cannot be compared.
    """
    progress = choose_progress(asked, silent=quiet or (json and not sys.stderr.isatty()))
    console = Output(quiet=quiet or json, progress=progress)
    checkpoint, record, state = _read_run(path)
    _check_environment(path, record)
    plan = _prepare(checkpoint, record, location, console)
    begin_s = time.monotonic()
    trainer = build_trainer(plan)
    display = ProgressDisplay(progress)
    with StopRequest() as stop, contextlib.closing(display):
        again = trainer.fit([display, StopOnSignal(stop)])
    if stop.received is not None:
        end_by_signal(stop.received)
    answer = _compare(checkpoint, plan, state, again, time.monotonic() - begin_s)
    _show(answer, json=json, quiet=quiet)


def _read_run(path: Path) -> tuple[Checkpoint, Record, RunState]:
    """Read a run that stands between two epochs; CheckpointError where the file holds none."""
    checkpoint = read_checkpoint(path, "all")
    record, state = checkpoint.record, checkpoint.state
    if record is None or state is None:
        what = CHANGED if checkpoint.is_changed else "no run of mnistcli's to train again"
        hint = "only a file as mnistcli wrote it says how it was made"
        raise CheckpointError(str(path), what, hint)
    progress = checkpoint.progress
    if progress.step > 0:
        what = (
            f"saved in the middle of epoch {progress.epoch + 1}, after {progress.step} of its"
            " steps: nothing in it stands at the end of an epoch, where runs can be compared"
        )
        hint = f"finish it first: mnistcli train --resume {path}"
        raise CheckpointError(str(path), what, hint)
    return checkpoint, record, state


def _check_environment(path: Path, record: Record) -> None:
    """Refuse to compare where other bits would prove nothing; ResourceError."""
    present = describe_environment(record.environment.threads, record.environment.devices)
    if differences := list_differences(record.environment, present):
        what = f"its bits cannot be compared here: {', '.join(differences)}"
        hint = "reproduce it with the versions, processor and settings that it was made with"
        raise ResourceError(str(path), what, hint)


def _prepare(
    checkpoint: Checkpoint, record: Record, location: DataLocation, console: Output
) -> Plan:
    """Plan the run again as its record says, up to the epoch where the file stands."""
    training = record.config.training.model_copy(update={"epochs": record.progress.epoch})
    config = record.config.model_copy(update={"training": training})
    devices = record.environment.devices
    request = Request(data_dir=location.data_dir, own_data=location.data, devices=devices)
    plan = load_recorded_data(config, request, console, OutputFile.nowhere())
    check_same_data(plan, record, checkpoint.path)
    plan = replace(plan, threads=record.environment.threads)
    return plan if record.init_from is None else _begin_elsewhere(plan, record, checkpoint.path)


def _begin_elsewhere(plan: Plan, record: Record, path: Path) -> Plan:
    """Start from the weights that the run started from; CheckpointError where they are gone."""
    named = Path(str(record.init_from))
    source = next((p for p in (named, path.parent / named) if p.is_file()), None)
    if source is None:
        what = f"it began with the weights of {named}, which is not there"
        raise CheckpointError(str(path), what, "put that checkpoint back where it was")
    initial = read_checkpoint(source)
    if hash_weights(initial.weights) != record.init_weights_sha256:
        what = f"it began with other weights than those that {source} holds now"
        raise CheckpointError(str(path), what, "put the checkpoint back as it was then")
    return with_initial_weights(plan, initial)


def _compare(
    checkpoint: Checkpoint, plan: Plan, first: RunState, second: RunState, duration_s: float
) -> ReproduceResult:
    """Put the two runs side by side."""
    arrays, identity = list_arrays(first), plan.dataset.identity
    differences = tuple(compare_arrays(arrays, list_arrays(second)))
    return ReproduceResult(
        checkpoint=str(checkpoint.path),
        dataset=DatasetResult(name=identity.name, sha256=identity.sha256),
        epochs=second.progress.epoch,
        same=not differences,
        arrays=len(arrays),
        differences=differences,
        seconds=SecondsResult(total=duration_s, per_epoch=second.progress.warm_epoch_s),
    )


def _show(answer: ReproduceResult, *, json: bool, quiet: bool) -> None:
    """Print the answer in the requested format; CheckFailedError where bits differ."""
    failure = None
    if not answer.same:
        failure = CheckFailedError(
            answer.checkpoint,
            f"{len(answer.differences)} of {answer.arrays} arrays have other bits",
            "something that no record tells of was different: the file was written by"
            " --force, or this machine is not reliable",
        )
    emit(answer, "json" if json else "quiet" if quiet else "text", failure)
