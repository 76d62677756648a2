"""Asks a network what it takes images for, and prints the answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistcli.commands.predict import Batch, Choice, choose_batch, get_image_shape
from mnistcli.commands.trained_model import TrainedModel
from mnistcli.errors import UsageError
from mnistcli.metrics.scores import class_probabilities, predict_classes
from mnistcli.models.numpy_inference import compute_probabilities
from mnistcli.output.results import ClassProbability, Prediction, PredictResult, RankedPrediction
from mnistcli.output.terminal import Output


@dataclass(frozen=True)
class Format:
    """How the answer is printed: for people unless one of the first three is set.

    `show` draws beside it what the network saw.
    """

    json: bool
    jsonl: bool
    csv: bool
    top: int | None
    show: bool = False


def predict_images(model: TrainedModel, choice: Choice, form: Format, console: Output) -> None:
    """Carry out `mnistcli predict`."""
    if sum((form.json, form.jsonl, form.csv)) > 1:
        raise UsageError("--json, --jsonl, --csv", "they exclude each other", "give one of them")
    if form.show and (form.json or form.jsonl or form.csv):
        what = "drawings are for people, not for scripts"
        raise UsageError("--show and --json, --jsonl, --csv", what, "give one of them")
    if form.csv and form.top is not None:
        what = "CSV has a column for every class already"
        raise UsageError("--top and --csv", what, "give one of them")
    batch = choose_batch(model, choice)
    answer = PredictResult(predictions=tuple(_predict_batch(model, batch, form.top)))
    if form.show:
        images = batch.pixels.reshape(-1, *get_image_shape(model))
        _draw(answer, model.brighten(images), console)
    _show(answer, model.class_names, form, console)


def _draw(answer: PredictResult, images: NDArray[np.uint8], console: Output) -> None:
    """Draw what the network saw of each image."""
    from mnistcli.commands.output_files import PictureOutput
    from mnistcli.output.plots.pictures import Heading
    from mnistcli.output.plots.plot_kinds import compose_seen

    picture = compose_seen(Heading("what the network saw"), images, answer.predictions)
    PictureOutput(path=None, may_replace=False, shows=True, console=console).deliver(picture)


def _predict_batch(model: TrainedModel, batch: Batch, top: int | None) -> Iterator[Prediction]:
    """Run the network on a batch, and put each answer together."""
    names = model.class_names
    outputs = compute_probabilities(model.checkpoint.architecture, model.run(batch.pixels))
    classes = predict_classes(outputs)
    probabilities = class_probabilities(outputs)
    for i, (source, row, truth) in enumerate(
        zip(batch.sources, batch.rows, batch.truths, strict=True)
    ):
        values = probabilities[i].tolist()
        best = int(classes[i])
        prediction = Prediction(
            source=source,
            row=row,
            class_index=best,
            label=names[best],
            probability=values[best],
            probabilities=tuple(values),
            truth=truth,
            preparation=batch.preparations[i],
        )
        yield prediction if top is None else _rank_classes(prediction, names, top)


def _rank_classes(prediction: Prediction, names: tuple[str, ...], count: int) -> RankedPrediction:
    """Add the likeliest classes to a prediction."""
    values = prediction.probabilities
    ranked = sorted(range(len(values)), key=lambda k: -values[k])[:count]
    top = tuple(
        ClassProbability(class_index=k, label=names[k], probability=values[k]) for k in ranked
    )
    return RankedPrediction(**dict(prediction), top=top)


def _show(answer: PredictResult, labels: tuple[str, ...], form: Format, console: Output) -> None:
    """Print the answer in the form that was asked for."""
    if form.json:
        console.print_json(answer)
    elif form.jsonl:
        for prediction in answer.predictions:
            console.print_json(prediction)
        console.print_json(answer)
    else:
        from mnistcli.output.csv_text import format_predictions
        from mnistcli.output.tables import render_predictions

        if form.csv:
            console.print_line(format_predictions(answer.predictions, labels))
        else:
            console.print_table(*render_predictions(answer))
