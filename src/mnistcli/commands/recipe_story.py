"""A recipe's whole story: train, save, load, evaluate, go on, look at the first images."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mnistcli.checkpoints.lock import RunLock
from mnistcli.checkpoints.untrusted.process import ParsingChild
from mnistcli.commands.train.build_trainer import forget_training
from mnistcli.commands.train.experiment import Interruption, train_plan
from mnistcli.commands.train.prepare import prepare_run
from mnistcli.commands.train.run_plan import Request
from mnistcli.commands.trained_model import TrainedModel, open_model
from mnistcli.datasets.base import SplitName
from mnistcli.metrics.scores import class_probabilities, predict_classes
from mnistcli.models.numpy_inference import compute_probabilities
from mnistcli.output.results import DatasetResult, TrainResult
from mnistcli.output.terminal import Output

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
        names: of the figures, as `mnistcli.config.figures` explains them.
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
    forget_training()
    return result


def _load(path: Path, request: Request, console: Output) -> TrainedModel:
    """Read what was saved, as any other command does."""
    return open_model(path, ParsingChild(path, "weights"), None, None, request.places, console)


def _read_history(result: TrainResult) -> Iterator[tuple[str, float]]:
    """Name what the epochs' lines say."""
    for metric, values in result.history.items():
        for epoch, value in enumerate(values, 1):
            yield f"epoch {epoch} {metric}", value


def _evaluate(model: TrainedModel, name: SplitName) -> dict[str, float]:
    """Score a loaded checkpoint on a split."""
    split = model.read_split(name)
    score = model.score(split, model.run(split.images))
    return {f"{name} loss": score.loss, f"{name} accuracy": score.accuracy}


def _predict(model: TrainedModel, names: Collection[str]) -> Iterator[tuple[str, float]]:
    """Look at those of the first test images that figures are about."""
    asked = [name for name in names if _FIRST_WRONG.fullmatch(name) or _IMAGE_AS.fullmatch(name)]
    if not asked:
        return
    test = model.read_split("test")
    outputs = compute_probabilities(model.checkpoint.architecture, model.run(test.images))
    is_wrong = predict_classes(outputs) != test.labels
    probabilities = class_probabilities(outputs)
    for name in asked:
        if match := _FIRST_WRONG.fullmatch(name):
            yield name, float(is_wrong[: int(match[1])].sum())
        elif match := _IMAGE_AS.fullmatch(name):
            yield name, float(probabilities[int(match[1]), int(match[2])])
