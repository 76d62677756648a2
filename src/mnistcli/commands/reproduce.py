"""`reproduce`: train a checkpoint again and compare every bit, or compare a recipe's figures."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.reader import CHANGED, Checkpoint, read_checkpoint
from mnistcli.checkpoints.record import Record, describe_environment, list_differences
from mnistcli.checkpoints.run_state import RunState, compare_arrays, hash_weights, list_arrays
from mnistcli.commands.open_dataset import open_dataset
from mnistcli.commands.train.build_trainer import build_trainer
from mnistcli.commands.train.prepare import prepare_run, with_initial_weights
from mnistcli.commands.train.request import OutputFile, RunPlan, TrainArguments
from mnistcli.commands.train.resume import check_same_data, load_recorded_data
from mnistcli.commands.train.run import SignalCallback, run_training
from mnistcli.commands.trained_model import DataLocation, TrainedModel, load_model
from mnistcli.config.loading import load_config
from mnistcli.config.recipes import Recipe, ReferenceResults
from mnistcli.datasets.base import SplitName
from mnistcli.errors import CheckFailedError, CheckpointError, ResourceError, pluralize
from mnistcli.output.logs import note
from mnistcli.output.results import (
    DatasetResult,
    FigureResult,
    RecipeReproduction,
    ReproduceRecipesResult,
    ReproduceResult,
    SecondsResult,
    TrainResult,
)
from mnistcli.output.terminal import PROGRAM, ProgressMode
from mnistcli.signals import StopRequest
from mnistcli.tensorflow_import import clear_session
from mnistcli.training.callbacks import Callback

_SECOND_TRAINING = "then "
_FIRST_WRONG = re.compile(r"first (\d+) wrong")
_IMAGE_AS = re.compile(r"image (\d+) as (\d+)")


@dataclass(frozen=True)
class RecipeOutcome:
    """The result of a recipe: its data set, and each figure by its name."""

    dataset: DatasetResult
    figures: dict[str, float]


def reproduce_run(
    path: Path,
    location: DataLocation,
    callbacks: Sequence[Callback] = (),
    progress: ProgressMode = "none",
) -> ReproduceResult:
    """Train a checkpoint again from its own record, and compare every bit.

    Args:
        path: the checkpoint, which is not changed.
        location: where the data are.
        callbacks: of the training.
        progress: how downloads are shown.

    Raises:
        CheckpointError, DataError, ResourceError: results cannot be compared here.
        SignalReceived: a signal has come.
    """
    checkpoint, record, state = _read_run(path)
    _check_environment(path, record)
    plan = _plan_rerun(checkpoint, record, location, progress)
    begin_s = time.monotonic()
    trainer = build_trainer(plan)
    with StopRequest() as stop:
        again = trainer.fit([*callbacks, SignalCallback(stop)])
    stop.raise_if_received()
    arrays, identity = list_arrays(state), plan.dataset.identity
    differences = tuple(compare_arrays(arrays, list_arrays(again)))
    return ReproduceResult(
        checkpoint=str(path),
        dataset=DatasetResult(name=identity.name, sha256=identity.sha256),
        epochs=again.progress.epoch,
        same=not differences,
        arrays=len(arrays),
        differences=differences,
        seconds=SecondsResult(
            total=time.monotonic() - begin_s, per_epoch=again.progress.warm_epoch_s
        ),
    )


def find_difference(result: ReproduceResult) -> CheckFailedError | None:
    """Return an error where a checkpoint was not reproduced."""
    if result.same:
        return None
    return CheckFailedError(
        result.checkpoint,
        f"{len(result.differences)} of {result.arrays} arrays have other bits",
        "something that no record tells of was different: the file was written by"
        " --force, or this machine is not reliable",
    )


def reproduce_recipes(
    recipes: Sequence[Recipe],
    data_dir: Path | None = None,
    callbacks: Sequence[Callback] = (),
    progress: ProgressMode = "none",
    on_recipe: Callable[[RecipeReproduction], None] | None = None,
) -> ReproduceRecipesResult:
    """Run recipes again, and compare their published figures.

    Args:
        recipes: to run, one after the other.
        data_dir: folder of the data sets.
        callbacks: of each training.
        progress: how downloads are shown.
        on_recipe: called after each recipe.

    Raises:
        DataError, ResourceError: a recipe cannot be run.
        SignalReceived: a signal has come.
    """
    _find_data(recipes, data_dir, progress)
    done: list[RecipeReproduction] = []
    for recipe in recipes:
        done.append(_reproduce(recipe, data_dir, callbacks, progress))
        if on_recipe is not None:
            on_recipe(done[-1])
    return ReproduceRecipesResult(holds=all(one.holds for one in done), recipes=tuple(done))


def find_deviations(result: ReproduceRecipesResult) -> CheckFailedError | None:
    """Return an error that names the recipes whose figures differ."""
    found = [
        (again.recipe, row.name)
        for again in result.recipes
        for row in again.figures
        if row.verdict == "differs"
    ]
    if not found:
        return None
    where = ", ".join(dict.fromkeys(recipe for recipe, _ in found))
    total = sum(len(again.figures) for again in result.recipes)
    what = f"{len(found)} of {pluralize(total, 'figure')} differ from those measured before"
    hint = f"look for other data or versions: {PROGRAM} doctor"
    return CheckFailedError(where, what, hint)


def run_recipe(
    arguments: TrainArguments,
    names: Collection[str],
    directory: Path,
    lock: RunLock,
    callbacks: Sequence[Callback] = (),
    progress: ProgressMode = "none",
) -> RecipeOutcome:
    """Run as much of a recipe as its figures need: train, load, evaluate, train further, predict.

    Args:
        arguments: of its training, without a file to write.
        names: of the figures, as `mnistcli.config.recipes` explains them.
        directory: takes the checkpoints.
        lock: is given the checkpoints.
        callbacks: of each training.
        progress: how downloads are shown.

    Raises:
        MnistcliError: a step could not be carried out.
        SignalReceived: a signal has come.
    """
    first = directory / "first.h5"
    trained = _train(replace(arguments, output=first), lock, callbacks, progress)
    figures = dict(_read_history(trained))
    model = _load(first, arguments, progress)
    figures |= _evaluate(model, "test")
    if any(name.startswith("train ") for name in names):
        figures |= _evaluate(model, "train")
    if any(name.startswith(_SECOND_TRAINING) for name in names):
        again = directory / "again.h5"
        note(f"{arguments.config}: on from its weights, with a fresh optimizer")
        _train(replace(arguments, output=again, init_from=first), lock, callbacks, progress)
        model = _load(again, arguments, progress)
        figures |= {
            f"{_SECOND_TRAINING}{name}": value for name, value in _evaluate(model, "test").items()
        }
    figures |= dict(_predict(model, names))
    return RecipeOutcome(trained.dataset, figures)


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
    """Refuse to compare where a bit-identical result is not to be expected; ResourceError."""
    present = describe_environment(record.environment.threads, record.environment.devices)
    if differences := list_differences(record.environment, present):
        what = f"its bits cannot be compared here: {', '.join(differences)}"
        hint = "reproduce it with the versions, processor and settings that it was made with"
        raise ResourceError(str(path), what, hint)


def _plan_rerun(
    checkpoint: Checkpoint, record: Record, location: DataLocation, progress: ProgressMode
) -> RunPlan:
    """Plan the run again as its record says, up to the epoch where the file stands."""
    training = record.config.training.model_copy(update={"epochs": record.progress.epoch})
    config = record.config.model_copy(update={"training": training})
    devices = record.environment.devices
    arguments = TrainArguments(data_dir=location.data_dir, data=location.data, devices=devices)
    plan = load_recorded_data(config, record, arguments, OutputFile.disabled(), progress)
    check_same_data(plan, record, checkpoint.path)
    plan = replace(plan, threads=record.environment.threads)
    return (
        plan if record.init_from is None else _load_initial_weights(plan, record, checkpoint.path)
    )


def _load_initial_weights(plan: RunPlan, record: Record, path: Path) -> RunPlan:
    """Load the weights that the run started from; CheckpointError where they are gone."""
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


def _find_data(recipes: Sequence[Recipe], data_dir: Path | None, progress: ProgressMode) -> None:
    """Open all data sets: what is missing is found at once, not after minutes; DataError."""
    configs = (load_config(recipe.name).config.dataset for recipe in recipes)
    for config in {config.name: config for config in configs}.values():
        open_dataset(config, frozenset({"test"}), data_dir, progress)


def _reproduce(
    recipe: Recipe, data_dir: Path | None, callbacks: Sequence[Callback], progress: ProgressMode
) -> RecipeReproduction:
    """Run a recipe in a folder that is removed afterwards, and judge its figures."""
    arguments = TrainArguments(config=recipe.name, data_dir=data_dir)
    figures, begin_s = recipe.read_reference_results(), time.monotonic()
    names = [row.name for row in figures.rows]
    note(f"{recipe.name}: {recipe.about}")
    with TemporaryDirectory(prefix=f"{PROGRAM}-") as folder, RunLock() as lock:
        outcome = run_recipe(arguments, names, Path(folder), lock, callbacks, progress)
    rows = tuple(_compare_figures(figures, outcome))
    return RecipeReproduction(
        recipe=recipe.name,
        dataset=outcome.dataset,
        measured_on=figures.measured_on or None,
        seeds=figures.seeds,
        figures=rows,
        holds=all(row.verdict != "differs" for row in rows),
        seconds=time.monotonic() - begin_s,
    )


def _compare_figures(figures: ReferenceResults, outcome: RecipeOutcome) -> Iterator[FigureResult]:
    """Compare the new figures with the published and the measured ones."""
    for row in figures.rows:
        now = outcome.figures[row.name]
        yield FigureResult(
            name=row.name,
            published=row.published,
            measured=row.measured,
            tolerance=row.tolerance,
            now=now,
            verdict=row.judge(now),
            digits=row.digits,
        )


def _train(
    arguments: TrainArguments, lock: RunLock, callbacks: Sequence[Callback], progress: ProgressMode
) -> TrainResult:
    """Train as `mnistcli train` does, as if in a process of its own."""
    result = run_training(prepare_run(arguments, lock, progress), callbacks)
    clear_session()
    return result


def _load(path: Path, arguments: TrainArguments, progress: ProgressMode) -> TrainedModel:
    """Load the checkpoint that was written, as any other command does."""
    return load_model(path, data_dir=arguments.data_dir, progress=progress)


def _read_history(result: TrainResult) -> Iterator[tuple[str, float]]:
    """Return the metrics of each epoch by the names of a recipe's figures."""
    for metric, values in result.history.items():
        for epoch, value in enumerate(values, 1):
            yield f"epoch {epoch} {metric}", value


def _evaluate(model: TrainedModel, name: SplitName) -> dict[str, float]:
    """Score a loaded checkpoint on a split."""
    split = model.read_split(name)
    score = model.score(split, model.compute_logits(split.images))
    loss = math.nan if score.loss is None else score.loss
    return {f"{name} loss": loss, f"{name} accuracy": score.accuracy}


def _predict(model: TrainedModel, names: Collection[str]) -> Iterator[tuple[str, float]]:
    """Predict the first test images, and return the figures about them."""
    asked = [name for name in names if _FIRST_WRONG.fullmatch(name) or _IMAGE_AS.fullmatch(name)]
    if not asked:
        return
    test = model.read_split("test")
    classified = model.classify(model.compute_logits(test.images))
    is_wrong = classified.classes != test.labels
    for name in asked:
        if match := _FIRST_WRONG.fullmatch(name):
            yield name, float(is_wrong[: int(match[1])].sum())
        elif match := _IMAGE_AS.fullmatch(name):
            yield name, float(classified.probabilities[int(match[1]), int(match[2])])
