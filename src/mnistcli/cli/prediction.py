"""Chooses the images that `predict` looks at, and prints what the network takes them for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.cli.trained_model import TrainedModel
from mnistcli.console.streams import Output
from mnistcli.errors import DataError, UsageError
from mnistcli.evaluation import class_probabilities, predict_classes
from mnistcli.images import expand_paths, read_image
from mnistcli.inference import compute_probabilities
from mnistcli.results import ClassProbability, Prediction, PredictResult, RankedPrediction

STDIN = "-"
MAX_STDIN_BYTES = 256 << 20


@dataclass(frozen=True)
class Choice:
    """Which images the command line asked for, not yet checked."""

    images: tuple[str, ...]
    split: str | None
    first: int | None
    index: int | None
    numbers: str | None


@dataclass(frozen=True)
class Format:
    """How the answer is printed: for people unless one of the three is set."""

    json: bool
    jsonl: bool
    csv: bool
    top: int | None


@dataclass(frozen=True)
class Batch:
    """Images to predict.

    Attributes:
        pixels: uint8 [n, …].
        sources: a file or a split, one an image.
        rows: places in the split; None for files.
        truths: classes where they are known.
    """

    pixels: NDArray[np.uint8]
    sources: tuple[str, ...]
    rows: tuple[int | None, ...]
    truths: tuple[int | None, ...]


def predict_images(model: TrainedModel, choice: Choice, form: Format, console: Output) -> None:
    """Carry out `mnistcli predict`."""
    if sum((form.json, form.jsonl, form.csv)) > 1:
        raise UsageError("--json, --jsonl, --csv", "they exclude each other", "give one of them")
    if form.csv and form.top is not None:
        what = "CSV has a column for every class already"
        raise UsageError("--top and --csv", what, "give one of them")
    batch = _choose_batch(model, choice)
    answer = PredictResult(predictions=tuple(_predict_batch(model, batch, form.top)))
    _show(answer, model.class_names, form, console)


def _choose_batch(model: TrainedModel, choice: Choice) -> Batch:
    """Find the images; exactly one of the three ways to name them has to be used."""
    ways = {
        "IMAGE": bool(choice.images),
        "--split": choice.split is not None or choice.first is not None or choice.index is not None,
        "--input": choice.numbers is not None,
    }
    used = [name for name, is_used in ways.items() if is_used]
    if not used:
        hint = "name image files, or give --split test --first 20"
        raise UsageError("IMAGE", "there is nothing to predict", hint)
    if len(used) > 1:
        raise UsageError(" and ".join(used), "they exclude each other", "give one of them")
    if choice.images:
        return _read_files(model, choice.images)
    if choice.numbers is not None:
        return _read_numbers(model, choice.numbers)
    return _read_split(model, choice)


def _read_split(model: TrainedModel, choice: Choice) -> Batch:
    """Take rows of a data set, in the order of the file."""
    name = choice.split or "test"
    if choice.first is not None and choice.index is not None:
        raise UsageError("--first and --index", "they exclude each other", "give one of them")
    split = model.read_split(name)
    rows = range(len(split))
    if choice.index is not None:
        if choice.index >= len(split):
            what = f"{choice.index} is beyond the last of {len(split)} images"
            raise UsageError("--index", what, f"give 0 to {len(split) - 1}")
        rows = range(choice.index, choice.index + 1)
    elif choice.first is not None:
        rows = range(min(choice.first, len(split)))
    chosen = slice(rows.start, rows.stop)
    return Batch(
        split.images[chosen],
        (f"{model.dataset_name}/{name}",) * len(rows),
        tuple(rows),
        tuple(int(label) for label in split.labels[chosen]),
    )


def _read_numbers(model: TrainedModel, text: str) -> Batch:
    """Read `0,1`: one input of a network that takes no images."""
    size = int(np.prod(model.checkpoint.architecture.input_shape))
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError("--input", f"{text!r} is no list of whole numbers", "write 0,1") from None
    if len(numbers) != size or not all(0 <= number <= 255 for number in numbers):
        what = f"the network takes {size} whole numbers from 0 to 255, received {text}"
        raise UsageError("--input", what, "separate them by commas")
    return Batch(np.array([numbers], np.uint8), (text,), (None,), (None,))


def _read_files(model: TrainedModel, names: tuple[str, ...]) -> Batch:
    """Read image files, folders and standard input as the network wants them."""
    shape = _image_shape(model)
    if len(shape) == 1:
        what = f"{model.dataset_name} takes {shape[0]} numbers, not images"
        raise UsageError("IMAGE", what, "use --input 0,1")
    if names.count(STDIN) > 1:
        raise UsageError("IMAGE", f"{STDIN} is standard input, which ends once", "give it once")
    pixels, sources = [], []
    for source, data in _list_sources(names):
        image = read_image(data, source, shape)
        if image.inverted:
            model.console.note(f"{source}: dark on light, inverted")
        pixels.append(image.pixels)
        sources.append(source)
    count = len(sources)
    return Batch(np.stack(pixels), tuple(sources), (None,) * count, (None,) * count)


def _list_sources(names: tuple[str, ...]) -> Iterator[tuple[str, Path | bytes]]:
    """Name each image and where it is read from."""
    for name in names:
        if name == STDIN:
            yield "stdin", _read_stdin()
        else:
            for path in expand_paths([Path(name)]):
                yield str(path), path


def _read_stdin() -> bytes:
    """Read one image file from standard input."""
    data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(data) > MAX_STDIN_BYTES:
        raise DataError("stdin", f"more than {MAX_STDIN_BYTES >> 20} MiB", "send one image")
    return data


def _image_shape(model: TrainedModel) -> tuple[int, ...]:
    """Return the shape of the images that a network was made for."""
    if model.info is not None:
        return model.info.image_shape
    shape = tuple(n for n in model.checkpoint.architecture.input_shape if n != 1)
    known = {784: (28, 28), 3072: (32, 32, 3)}
    if len(shape) == 1 and shape[0] in known:
        return known[shape[0]]
    if shape in known.values():
        return shape
    where = str(model.checkpoint.path)
    raise UsageError(where, f"its input {shape} is no image that is known here", "see --dataset")


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
        from mnistcli.console.tables import format_csv, render_predictions

        if form.csv:
            console.print_line(format_csv(answer.predictions, labels))
        else:
            console.print_table(*render_predictions(answer))
