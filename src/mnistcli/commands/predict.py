"""Asks a network what it takes images for, and prints the answer.

Reads the images that `predict` looks at, whichever way the command line names them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.commands.trained_model import TrainedModel
from mnistcli.errors import DataError, UsageError
from mnistcli.images.decoding import is_array, read_array, read_content, refuse_shape
from mnistcli.images.options import AUTO, Preparation, Treatment, describe_preparation
from mnistcli.images.preparation import expand_paths, read_image
from mnistcli.metrics.scores import class_probabilities, predict_classes
from mnistcli.models.numpy_inference import compute_probabilities, is_same_layout
from mnistcli.output.results import ClassProbability, Prediction, PredictResult, RankedPrediction
from mnistcli.output.terminal import Output, emit

STDIN = "-"
MAX_STDIN_BYTES = 256 << 20
ARRAY_SUFFIX = ".npy"


@dataclass(frozen=True)
class Choice:
    """Which images the command line asked for, not yet checked."""

    images: tuple[str, ...]
    split: str | None
    first: int | None
    index: int | None
    numbers: str | None
    treatment: Treatment = AUTO


@dataclass(frozen=True)
class Batch:
    """Images to predict.

    Attributes:
        pixels: uint8 [n, …].
        sources: a file or a split, one an image.
        rows: places in the split or the array; None for files of one image.
        truths: classes where they are known.
        preparations: what was done to image files; None for what is taken as it is.
    """

    pixels: NDArray[np.uint8]
    sources: tuple[str, ...]
    rows: tuple[int | None, ...]
    truths: tuple[int | None, ...]
    preparations: tuple[Preparation | None, ...]


def choose_batch(model: TrainedModel, choice: Choice) -> Batch:
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
        return _read_files(model, choice.images, choice.treatment)
    if choice.treatment != AUTO:
        what = "they prepare image files, there are none"
        raise UsageError("--prepare, --skip, --ink", what, "leave them out")
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
        (None,) * len(rows),
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
    return Batch(np.array([numbers], np.uint8), (text,), (None,), (None,), (None,))


def _read_files(model: TrainedModel, names: tuple[str, ...], treatment: Treatment) -> Batch:
    """Read image files, folders, arrays and standard input as the network wants them."""
    if names.count(STDIN) > 1:
        raise UsageError("IMAGE", f"{STDIN} is standard input, which ends once", "give it once")
    is_picture = any(name != STDIN and not name.endswith(ARRAY_SUFFIX) for name in names)
    # before anything is read
    shape = _check_treatment(model, treatment) if is_picture else None
    pieces: list[NDArray[np.uint8]] = []
    sources: list[str] = []
    rows: list[int | None] = []
    preparations: list[Preparation | None] = []
    for source, data in list(_list_sources(names)):  # one that is missing is said first
        content = read_content(data, source)
        if is_array(content):
            images, numbers = _read_rows(model, content, source)
            preparations += [None] * len(images)
        else:
            shape = shape or _check_treatment(model, treatment)
            kind = None if model.info is None else model.info.image_kind
            image = read_image(content, source, shape, treatment, kind)
            _tell_preparation(model, source, image.preparation)
            images, numbers = image.pixels[np.newaxis], [None]
            preparations.append(image.preparation)
        pieces.append(images.reshape(len(images), -1))
        sources += [source] * len(images)
        rows += numbers
    truths = (None,) * len(rows)
    pixels = np.concatenate(pieces)
    return Batch(pixels, tuple(sources), tuple(rows), truths, tuple(preparations))


def _check_treatment(model: TrainedModel, treatment: Treatment) -> tuple[int, ...]:
    """Refuse steps that look for ink where pictures are no digits; return the pictures' shape."""
    shape, kind = get_image_shape(model), None if model.info is None else model.info.image_kind
    if (len(shape) == 3 or kind == "custom") and (treatment.skipped or treatment.ink != AUTO.ink):
        is_custom = kind == "custom"
        takes = "pictures as their own data set has them" if is_custom else "pictures in colour"
        what = f"they are for digits, this network takes {takes}"
        raise UsageError("--skip, --ink", what, "leave them out")
    if kind == "picture" and treatment.skipped:
        what = "it is for digits, this network takes pictures of other things"
        raise UsageError("--skip", what, "leave it out")
    return shape


def _tell_preparation(model: TrainedModel, source: str, preparation: Preparation) -> None:
    """Say what was done to a picture, where it was much."""
    words = describe_preparation(preparation)
    if words:
        model.console.note(f"{source}: {words}")


def _read_rows(
    model: TrainedModel, content: bytes, source: str
) -> tuple[NDArray[np.uint8], Sequence[int | None]]:
    """Read an array: a batch, whose rows are counted, or one image."""
    array, wanted = read_array(content, source), model.checkpoint.architecture.input_shape
    if array.max() > model.max_value:
        what = f"the array holds numbers up to {array.max()}, those of {model.dataset_name} end"
        hint = "divide them as the data set's makers did"
        raise DataError(source, f"{what} at {model.max_value}", hint)
    if is_same_layout(array.shape[1:], wanted):
        return array, range(len(array))
    if is_same_layout(array.shape, wanted):
        return array[np.newaxis], [None]
    raise refuse_shape(source, array.shape, wanted)


def _list_sources(names: tuple[str, ...]) -> Iterator[tuple[str, Path | bytes]]:
    """Name each image and where it is read from."""
    for name in names:
        if name == STDIN:
            yield "stdin", _read_stdin()
        else:
            for path in expand_paths([Path(name)]):
                yield str(path), path


def _read_stdin() -> bytes:
    """Read one image file, or one array, from standard input."""
    data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(data) > MAX_STDIN_BYTES:
        what = f"more than {MAX_STDIN_BYTES >> 20} MiB"
        raise DataError("stdin", what, "send one image, or a smaller array")
    return data


def get_image_shape(model: TrainedModel) -> tuple[int, ...]:
    """Return the shape of the images that a network was made for.

    Raises:
        UsageError: it takes numbers that are no image.
    """
    if model.info is not None:
        shape = model.info.image_shape
        if len(shape) == 1:
            what = f"{model.dataset_name} takes {shape[0]} numbers, not images"
            raise UsageError("IMAGE", what, "use --input 0,1")
        return shape
    shape = tuple(n for n in model.checkpoint.architecture.input_shape if n != 1)
    known = {784: (28, 28), 3072: (32, 32, 3)}
    if len(shape) == 1 and shape[0] in known:
        return known[shape[0]]
    if shape in known.values():
        return shape
    where = str(model.checkpoint.path)
    raise UsageError(where, f"its input {shape} is no image that is known here", "see --dataset")


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
    answer = PredictResult(
        predictions=tuple(_predict_batch(model, batch, form.top)), class_names=model.class_names
    )
    if form.show:
        images = batch.pixels.reshape(-1, *get_image_shape(model))
        _draw(answer, model.brighten(images), console)
    emit(answer, "json" if form.json else "jsonl" if form.jsonl else "csv" if form.csv else "text")


def _draw(answer: PredictResult, images: NDArray[np.uint8], console: Output) -> None:
    """Draw what the network saw of each image."""
    from mnistcli.commands.output_files import PictureOutput
    from mnistcli.output.plots.plot_kinds import Heading, compose_seen

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
