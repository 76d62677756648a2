"""`plot`: curves, confusion matrix, weights, predictions, errors and calibration of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack, cast

from mnistcli.atomic_files import check_output, write_output
from mnistcli.commands.trained_model import CheckpointSource, LoadOptions, TrainedModel, load_model
from mnistcli.datasets.base import DatasetInfo, Split
from mnistcli.errors import UsageError, make_printable, pluralize, quote_words
from mnistcli.metrics.calibration import measure_calibration
from mnistcli.metrics.scores import Score, find_misclassified
from mnistcli.output.plots import PLOT_KINDS
from mnistcli.output.plots.figures import (
    ConfusionMatrix,
    Curves,
    Figure,
    Heading,
    ImageGrid,
    Predictions,
    ReliabilityDiagram,
    compose_confusion,
    compose_curves,
    compose_misclassified,
    compose_predictions,
    compose_weights,
)
from mnistcli.output.plots.matplotlib_backend import Format, check_matplotlib, render_picture
from mnistcli.output.results import CalibrationPlotResult, PictureResult, PlotResult

FORMATS = (".png", ".svg")
MAX_TILES = 1000  # images in one picture
MAX_NAME = 60  # characters of a file's name in a title
_DEFAULT_IMAGES, _DEFAULT_FILTERS = 36, 128


@dataclass(frozen=True, eq=False)
class Plot:
    """A picture, and the file that holds it.

    Attributes:
        picture: what is drawn.
        result: the file and the facts that it shows; None where none was written.
    """

    picture: Figure
    result: PlotResult | None


def plot(
    kind: str,
    model: CheckpointSource,
    *,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    split: str | None = None,
    first: int | None = None,
    **options: Unpack[LoadOptions],
) -> Plot:
    """Draw a picture of a run, of its network or of its predictions.

    Args:
        kind: `curves`, `confusion`, `weights`, `predictions`, `mistakes` or `calibration`.
        model: the checkpoint.
        output: the file, .png or .svg; None writes none.
        overwrite: replace an existing file.
        split: `train`, `validation` or `test`, which is the default.
        first: the number of images or filters; None for the usual number.
        **options: as for `load_model`.

    Raises:
        UsageError: the file exists or has no such ending, or the checkpoint or the data set does
            not hold what the picture takes.
        CheckpointError: the checkpoint is missing, damaged or refused.
        DataError: the data are missing, unreachable or invalid.
        ResourceError: matplotlib is missing, or the file could not be written.
    """
    path = None if output is None else Path(output)
    if path is not None:
        check_picture_path(path, overwrite=overwrite)
    trained = load_model(model, **options)
    picture = compose_picture(trained, kind, split or "test", first)
    if path is None:
        return Plot(picture, None)
    written = write_picture(picture, path, overwrite=overwrite)
    split_read = None if "--split" not in PLOT_KINDS[kind].flags else split or "test"
    return Plot(picture, _describe_picture(picture, written, trained, kind, split_read))


def check_picture_path(path: Path, *, overwrite: bool) -> None:
    """Check where a picture is to go, before anything is read.

    Raises:
        UsageError: the name does not end in .png or .svg, is a folder, or exists.
        ResourceError: its folder takes no files, or matplotlib is not installed.
    """
    check_output(path, "picture.png", FORMATS, overwrite=overwrite)
    check_matplotlib()


def write_picture(picture: Figure, path: Path, *, overwrite: bool) -> PictureResult:
    """Draw a picture into a PNG or SVG file.

    Raises:
        UsageError: another process has made a file of that name meanwhile.
        ResourceError: it could not be drawn or written.
    """
    rendering = render_picture(picture, cast("Format", path.suffix[1:].lower()))
    write_output(path, rendering.data, "the picture", overwrite=overwrite)
    return PictureResult(path=str(path), width=rendering.width, height=rendering.height)


def check_tile_count(first: int | None) -> None:
    """Refuse more images than a picture can hold; UsageError."""
    if first is not None and first > MAX_TILES:
        what = f"{first} images are more than one picture can hold"
        raise UsageError("--first", what, f"give at most {MAX_TILES}")


def refuse_numbers(info: DatasetInfo, where: str) -> None:
    """Refuse to draw a data set without images; UsageError."""
    if len(info.image_shape) == 1:
        what = f"{info.title}'s inputs are {info.image_shape[0]} numbers, not images"
        raise UsageError(where, what, "choose a data set of images")


def compose_picture(model: TrainedModel, kind: str, split: str, first: int | None) -> Figure:
    """Compose a picture of one of the kinds of `plot`.

    Args:
        model: with weights, except for curves.
        kind: curves, confusion, weights, predictions, mistakes or calibration.
        split: which part of the data, for those that read any.
        first: how many images or filters; None for the usual number.

    Raises:
        UsageError: the file, or the data set, does not hold what the picture takes.
        DataError: the data are missing, unreachable or invalid.
    """
    check_tile_count(first)
    return _COMPOSERS[kind](model, split, first)


def _compose_confusion(model: TrainedModel, split: str, first: int | None) -> ConfusionMatrix:
    del first
    shown, score, note = _predict(model, split)
    heading = Heading(f"{_name_model(model)}: confusion matrix", note)
    return compose_confusion(heading, shown.labels, score.confusion)


def _compose_calibration(model: TrainedModel, split: str, first: int | None) -> ReliabilityDiagram:
    del first
    shown, _, note = _predict(model, split)
    calibration = measure_calibration(shown.confidences, shown.is_correct)
    heading = Heading(f"{_name_model(model)}: calibration", f"{note}, ECE {calibration.ece:.4f}")
    return ReliabilityDiagram(heading, calibration)


def _compose_predictions(model: TrainedModel, split: str, first: int | None) -> ImageGrid:
    if model.info is not None:
        refuse_numbers(model.info, "predictions")
    shown, _, note = _predict(model, split, first or _DEFAULT_IMAGES)
    note = f"{note}; below each: predicted, probability, true"
    return compose_predictions(Heading(f"{_name_model(model)}: predictions", note), shown)


def _compose_misclassified(model: TrainedModel, split: str, first: int | None) -> ImageGrid:
    if model.info is not None:
        refuse_numbers(model.info, "mistakes")
    shown, _, note = _predict(model, split)
    surest = find_misclassified(
        shown.classes, shown.confidences, shown.true_classes, first or _DEFAULT_IMAGES
    )
    worst = shown.take([one.row for one in surest])
    note = f"{note}; {len(surest)} of {(~shown.is_correct).sum():,} mistakes"
    heading = Heading(f"{_name_model(model)}: most confident mistakes", note)
    return compose_misclassified(heading, worst)


def _predict(
    model: TrainedModel, split: str, first: int | None = None
) -> tuple[Predictions, Score, str]:
    """Run the network on a split or its first images; the text says how good it is on them."""
    examples = model.read_split(split)
    shown, score = model.predict_split(Split(examples.images[:first], examples.labels[:first]))
    title = model.info.title if model.info is not None else ""
    images = pluralize(score.count, "image")
    return shown, score, f"{title} {split}, {images}: accuracy {score.accuracy:.4f}"


def _compose_curves(model: TrainedModel, split: str, first: int | None) -> Curves:
    del split, first
    checkpoint, record = model.checkpoint, model.checkpoint.record
    if record is None:
        hint = "only files that mnistcli trained, unchanged since, have one"
        raise UsageError(str(checkpoint.path), "it holds no history of its training", hint)
    if not any(checkpoint.progress.history.values()):
        what = "no epoch of it is completed yet"
        command = quote_words("mnistcli", "train", "--resume", checkpoint.path)
        raise UsageError(str(checkpoint.path), what, f"go on with it: {command}")
    training, test = record.config.training, record.test
    facts = [
        record.dataset.known_as or record.dataset.name,
        record.config.model.type,
        f"{training.optimizer.name} {training.optimizer.learning_rate:g}",
        f"batch {training.batch_size}",
        f"seed {training.seed}",
        *([f"test accuracy {test.accuracy:.4f}"] if test is not None else []),
        *([f"stopped early after epoch {record.progress.epoch}"] * record.is_stopped_early),
    ]
    heading = Heading(f"{_name_model(model)}: training", ", ".join(facts))
    on_test = record.config.dataset.validation == "test"
    return compose_curves(
        heading,
        checkpoint.progress.history,
        training.loss.replace("_", " "),
        "validation (the test set)" if on_test else "validation",
        record.restored_epoch,
    )


def _compose_weights(model: TrainedModel, split: str, first: int | None) -> Figure:
    del split
    checkpoint = model.checkpoint
    return compose_weights(
        f"{_name_model(model)}: weights of the first layer",
        checkpoint.architecture,
        checkpoint.weights,
        model.image_shape,
        model.class_names,
        first or _DEFAULT_FILTERS,
    )


_COMPOSERS: dict[str, Callable[[TrainedModel, str, int | None], Figure]] = {
    "curves": _compose_curves,
    "confusion": _compose_confusion,
    "weights": _compose_weights,
    "predictions": _compose_predictions,
    "mistakes": _compose_misclassified,
    "calibration": _compose_calibration,
}  # of the kinds in PLOT_KINDS


def _name_model(model: TrainedModel) -> str:
    """Return the file's name, without the middle of a very long one."""
    name = make_printable(model.checkpoint.path.name)
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME // 2]}…{name[-MAX_NAME // 3 :]}"


def _describe_picture(
    picture: Figure, written: PictureResult, model: TrainedModel, kind: str, split: str | None
) -> PlotResult:
    facts = {
        "checkpoint": str(model.checkpoint.path),
        "kind": kind,
        "split": split,
        "added_activation": None if split is None else model.added_activation,
        **dict(written),
    }
    if not isinstance(picture, ReliabilityDiagram):
        return PlotResult.model_validate(facts)
    return CalibrationPlotResult.model_validate({**facts, **dict(picture.calibration)})
