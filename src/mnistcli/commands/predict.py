"""`predict`: the predicted classes of arrays, image files, or images of the data set."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Unpack, cast, get_args

import numpy as np
from numpy.typing import NDArray

from mnistcli.commands.trained_model import CheckpointSource, LoadOptions, TrainedModel, load_model
from mnistcli.config.allowed_values import check_choice
from mnistcli.errors import DataError, Problem, UsageError, pluralize
from mnistcli.images.arrays import ARRAY_SUFFIX, is_array, make_shape_error, read_array
from mnistcli.images.decoding import read_content
from mnistcli.images.options import (
    AUTO,
    InkChoice,
    Preparation,
    PreparationOptions,
    Prepare,
    Step,
    describe_preparation,
)
from mnistcli.images.preparation import expand_paths, read_image
from mnistcli.models.numpy_inference import is_same_layout, takes_images
from mnistcli.output.logs import note, warn
from mnistcli.output.plots.figures import Heading, ImageGrid, compose_inputs
from mnistcli.output.results import (
    ClassProbability,
    Prediction,
    PredictResult,
    RankedPrediction,
    describe_error,
)

STDIN = "-"
MAX_STDIN_BYTES = 256 << 20
_ARRAY = "array"  # the source of images that are handed over in memory

Images = NDArray[np.integer] | NDArray[np.floating] | str | os.PathLike[str] | Sequence[str | Path]
"""An array of raw pixels, the path of an image file or a folder, or several paths."""


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images to predict, n of them.

    Attributes:
        pixels: [n, …], as the data set stores them; uint8, or float32 where floats were given.
        sources: the file, the split or `array` that each comes from.
        rows: its index in the split or the array; None for files of one image.
        truths: the true class; None where it is unknown.
        preparations: what was done to an image file; None for pixels that are used as they are.
    """

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    sources: tuple[str, ...]
    rows: tuple[int | None, ...]
    truths: tuple[int | None, ...]
    preparations: tuple[Preparation | None, ...]


@dataclass(frozen=True, eq=False)
class PredictedClasses:
    """The classes that a network predicts for n images.

    Attributes:
        classes: int64 [n], the indices of the predicted classes.
        labels: the names of the predicted classes, n of them.
        probabilities: float32 [n, number of classes], in class order.
        batch: the images.
        model: the network.
    """

    classes: NDArray[np.int64]
    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    batch: ImageBatch
    model: TrainedModel

    def describe(self, top: int | None = None) -> PredictResult:
        """Return a record for each image, as `mnistcli predict --json` prints them.

        Args:
            top: also return so many of the most probable classes.
        """
        predictions = tuple(self.list_predictions(top))
        return PredictResult(
            predictions=predictions,
            class_names=self.model.class_names,
            added_activation=self.model.added_activation,
        )

    def compose_picture(self) -> ImageGrid:
        """Compose the images as the network saw them, with their predicted classes."""
        shape = _get_image_shape(self.model)
        images = self.batch.pixels.astype(np.uint8, copy=False).reshape(-1, *shape)
        heading = Heading("what the network saw")
        return compose_inputs(
            heading, self.model.to_uint8_range(images), self.describe().predictions
        )

    def list_predictions(self, top: int | None) -> Iterator[Prediction]:
        """Return a record for each image, as `describe` does."""
        batch, names = self.batch, self.model.class_names
        rows = self.probabilities.tolist()
        for index, (best, values) in enumerate(zip(self.classes.tolist(), rows, strict=True)):
            truth = batch.truths[index]
            prediction = Prediction(
                source=batch.sources[index],
                row=batch.rows[index],
                class_index=best,
                label=self.labels[index],
                probability=values[best],
                probabilities=tuple(values),
                truth=truth,
                true_label=None if truth is None else names[truth],
                preparation=batch.preparations[index],
                error=None,
            )
            yield prediction if top is None else _rank_classes(prediction, names, top)


@dataclass(frozen=True)
class FailedImage:
    """A file or folder that was to be predicted, and why it was not."""

    source: str
    error: DataError

    def list_predictions(self, top: int | None) -> Iterator[Prediction]:
        """Return the record that tells it, in the place of a prediction."""
        prediction = Prediction(
            source=self.source,
            row=None,
            class_index=None,
            label=None,
            probability=None,
            probabilities=None,
            truth=None,
            true_label=None,
            preparation=None,
            error=describe_error(self.error),
        )
        yield prediction if top is None else RankedPrediction(**dict(prediction), top=())


@dataclass(frozen=True, eq=False)
class PredictReport:
    """What `mnistcli predict` tells.

    Attributes:
        result: a record for each image.
        predicted: the images that were predicted; None where none was.
        error: names those that were not; None where all were.
    """

    result: PredictResult
    predicted: PredictedClasses | None
    error: DataError | None


def predict(
    model: CheckpointSource,
    images: Images = (),
    *,
    split: str | None = None,
    first: int | None = None,
    index: int | None = None,
    numbers: str | None = None,
    prepare: str = AUTO.prepare,
    ink: str = AUTO.ink,
    skip: Sequence[str] = (),
    **options: Unpack[LoadOptions],
) -> PredictedClasses:
    """Predict the classes of images with a checkpoint.

    Args:
        model: the checkpoint.
        images: arrays or files, as `TrainedModel.predict` takes them; without any, `split`,
            `first` or `index` choose images of the data set.
        split: `train`, `validation` or `test`, which is the default.
        first: the first so many images of the split.
        index: the image in this row of the split, counted from 0.
        numbers: one input of a network that takes no images, as `0,1`.
        prepare: how image files are prepared: `auto`, `resize` or `none`.
        ink: `dark` or `light`; `auto` finds out.
        skip: steps of `auto` to leave out, each a name or several joined by commas.
        **options: as for `load_model`.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or refused.
        UsageError: there is nothing to predict, or an argument does not fit the others.
        DataError: images are missing, invalid, or do not fit the network.
    """
    trained = load_model(model, **options)
    request = PredictRequest(images, split, first, index, numbers, prepare, ink, tuple(skip))
    return join_predictions(trained, request.iter_predictions(trained))


def predict_and_report(
    model: CheckpointSource,
    request: PredictRequest,
    *,
    top: int | None = None,
    on_prediction: Callable[[Prediction], object] | None = None,
    **options: Unpack[LoadOptions],
) -> PredictReport:
    """Predict the classes of images, and go on where one of them cannot be read.

    Args:
        model: the checkpoint.
        request: which images, and how they are prepared.
        top: also report so many of the most probable classes.
        on_prediction: is given each prediction as it comes.
        **options: as for `load_model`.

    Raises:
        CheckpointError, UsageError: as `predict`.
        DataError: the data set is missing or invalid.
    """
    trained = load_model(model, **options)
    rows: list[Prediction] = []
    answered: list[PredictedClasses] = []
    problems: list[Problem] = []
    for part in request.iter_predictions(trained):
        if isinstance(part, FailedImage):
            problems += part.error.problems
        else:
            answered.append(part)
        for prediction in part.list_predictions(top):
            rows.append(prediction)
            if on_prediction is not None:
                on_prediction(prediction)
    return PredictReport(
        PredictResult(
            predictions=tuple(rows),
            class_names=trained.class_names,
            added_activation=trained.added_activation,
        ),
        join_predictions(trained, answered) if answered else None,
        DataError.join(problems) if problems else None,
    )


@dataclass(frozen=True, eq=False)
class PredictRequest:
    """The images to predict; `predict` says what each argument means."""

    images: Images = ()
    split: str | None = None
    first: int | None = None
    index: int | None = None
    numbers: str | None = None
    prepare: str = AUTO.prepare
    ink: str = AUTO.ink
    skip: tuple[str, ...] = ()

    def iter_predictions(self, model: TrainedModel) -> Iterator[PredictedClasses | FailedImage]:
        """Predict what is asked for, file by file."""
        preparation = _make_preparation_options(self.prepare, self.ink, self.skip)
        if isinstance(self.images, np.ndarray) or self.images:
            yield from predict_each(model, self.images, preparation)
            return
        split, first, index = self.split, self.first, self.index
        chooses_split = split is not None or first is not None or index is not None
        if not chooses_split and self.numbers is None:
            hint = "name image files, or give --split test --first 20"
            raise UsageError("IMAGE", "there is nothing to predict", hint)
        if preparation != AUTO:
            what = "they prepare image files, there are none"
            raise UsageError("--prepare, --skip, --ink", what, "leave them out")
        if self.numbers is not None:
            yield predict_batch(model, _read_numbers(model, self.numbers))
        else:
            yield predict_batch(model, _read_rows_of_split(model, split or "test", first, index))


def predict_batch(model: TrainedModel, batch: ImageBatch) -> PredictedClasses:
    """Predict the classes of images that have been read; DataError where they do not fit."""
    logits = model.compute_logits(batch.pixels)
    classified, names = model.classify(logits), model.class_names
    labels = tuple(names[index] for index in classified.classes.tolist())
    return PredictedClasses(classified.classes, labels, classified.probabilities, batch, model)


def predict_each(
    model: TrainedModel, images: Images, options: PreparationOptions = AUTO
) -> Iterator[PredictedClasses | FailedImage]:
    """Predict image files, folders, arrays and standard input one after the other.

    Args:
        model: the network.
        images: an array, or paths; `-` is standard input.
        options: how image files are prepared.

    Raises:
        UsageError: the preparation is not for this network's images, or it takes none.
    """
    for batch in _read_images(model, images, options):
        yield batch if isinstance(batch, FailedImage) else predict_batch(model, batch)


def join_predictions(
    model: TrainedModel, parts: Iterable[PredictedClasses | FailedImage]
) -> PredictedClasses:
    """Join the predictions of several files; DataError where one of them failed."""
    answered: list[PredictedClasses] = []
    for part in parts:
        if isinstance(part, FailedImage):
            raise part.error
        answered.append(part)
    if len(answered) == 1:
        return answered[0]
    batches = [part.batch for part in answered]
    batch = ImageBatch(
        np.concatenate([one.pixels.reshape(len(one.pixels), -1) for one in batches]),
        tuple(chain.from_iterable(one.sources for one in batches)),
        tuple(chain.from_iterable(one.rows for one in batches)),
        tuple(chain.from_iterable(one.truths for one in batches)),
        tuple(chain.from_iterable(one.preparations for one in batches)),
    )
    return PredictedClasses(
        np.concatenate([part.classes for part in answered]),
        tuple(chain.from_iterable(part.labels for part in answered)),
        np.concatenate([part.probabilities for part in answered]),
        batch,
        model,
    )


def _read_images(
    model: TrainedModel, images: Images, options: PreparationOptions
) -> Iterator[ImageBatch | FailedImage]:
    if isinstance(images, np.ndarray):
        pixels, rows = _fit_array(model, _check_pixels(model, images), _ARRAY)
        nothing = (None,) * len(rows)
        yield ImageBatch(pixels, (_ARRAY,) * len(rows), tuple(rows), nothing, nothing)
        return
    paths = (images,) if isinstance(images, str | os.PathLike) else tuple(images)
    yield from _read_files(model, tuple(os.fspath(path) for path in paths), options)


def _make_preparation_options(prepare: str, ink: str, skip: Sequence[str]) -> PreparationOptions:
    check_choice(prepare, get_args(Prepare), "--prepare")
    check_choice(ink, get_args(InkChoice), "--ink")
    steps = [step.strip() for names in skip for step in names.split(",")]
    for step in steps:
        check_choice(step, get_args(Step), "--skip")
    if steps and prepare != "auto":
        what = f"--prepare {prepare} takes no steps that could be left out"
        raise UsageError("--skip", what, "leave one of the two out")
    skipped = frozenset(cast("list[Step]", steps))
    return PreparationOptions(cast("Prepare", prepare), cast("InkChoice", ink), skipped)


def _read_rows_of_split(
    model: TrainedModel, name: str, first: int | None, index: int | None
) -> ImageBatch:
    split = model.read_split(name)
    rows = range(len(split) if first is None else min(first, len(split)))
    if index is not None:
        if index >= len(split):
            what = f"{index} is beyond the last of {pluralize(len(split), 'image')}"
            raise UsageError("--index", what, f"give 0 to {len(split) - 1}")
        rows = range(index, index + 1)
    chosen = slice(rows.start, rows.stop)
    return ImageBatch(
        split.images[chosen],
        (f"{model.dataset_name}/{name}",) * len(rows),
        tuple(rows),
        tuple(int(label) for label in split.labels[chosen]),
        (None,) * len(rows),
    )


def _read_numbers(model: TrainedModel, text: str) -> ImageBatch:
    size = int(np.prod(model.checkpoint.architecture.input_shape))
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError("--input", f"{text!r} is no list of whole numbers", "write 0,1") from None
    if len(numbers) != size or not all(0 <= number <= 255 for number in numbers):
        what = f"the network takes {size} whole numbers from 0 to 255, received {text}"
        raise UsageError("--input", what, "separate them by commas")
    return ImageBatch(np.array([numbers], np.uint8), (text,), (None,), (None,), (None,))


def _read_files(
    model: TrainedModel, names: tuple[str, ...], options: PreparationOptions
) -> Iterator[ImageBatch | FailedImage]:
    """Read files one after the other: what is wrong with one costs no other its prediction."""
    if names.count(STDIN) > 1:
        raise UsageError("IMAGE", f"{STDIN} is standard input, which ends once", "give it once")
    if any(name != STDIN and not name.endswith(ARRAY_SUFFIX) for name in names):
        _check_preparation_options(model, options)  # before anything is read
    for name in names:
        try:
            paths = [None] if name == STDIN else expand_paths([Path(name)])
        except DataError as error:
            yield FailedImage(name, error)
            continue
        for path in paths:
            source = "stdin" if path is None else str(path)
            try:
                yield _read_file(model, path, source, options)
            except DataError as error:
                yield FailedImage(source, error)


def _read_file(
    model: TrainedModel, path: Path | None, source: str, options: PreparationOptions
) -> ImageBatch:
    """Read an image file or an array; None is standard input."""
    content = _read_stdin() if path is None else read_content(path, source)
    preparation = None
    rows: Sequence[int | None]
    pixels: NDArray[np.uint8]
    if is_array(content):
        array = read_array(content, source, model.max_value)
        _check_maximum(model, array, source)
        pixels, rows = _fit_array(model, array, source)
    else:
        shape = _check_preparation_options(model, options)
        image = read_image(content, source, shape, options, model.image_kind)
        preparation = image.preparation
        if words := describe_preparation(preparation):
            note(f"{source}: {words}")
        pixels, rows = image.pixels[np.newaxis], [None]
    count = len(rows)
    return ImageBatch(
        pixels, (source,) * count, tuple(rows), (None,) * count, (preparation,) * count
    )


def _check_preparation_options(model: TrainedModel, options: PreparationOptions) -> tuple[int, ...]:
    """Refuse steps that look for ink where pictures are no digits; return the pictures' shape."""
    shape, kind = _get_image_shape(model), model.image_kind
    if (len(shape) == 3 or kind == "custom") and (options.skipped or options.ink != AUTO.ink):
        is_custom = kind == "custom"
        takes = "pictures as their own data set has them" if is_custom else "pictures in colour"
        what = f"they are for digits, this network takes {takes}"
        raise UsageError("--skip, --ink", what, "leave them out")
    if kind == "picture" and options.skipped:
        what = "it is for digits, this network takes pictures of other things"
        raise UsageError("--skip", what, "leave it out")
    return shape


def _get_image_shape(model: TrainedModel) -> tuple[int, ...]:
    """Return the shape of the images that a network was made for.

    Raises:
        UsageError: it takes numbers that are no image.
    """
    if model.image_shape is not None:
        return model.image_shape
    if model.info is not None:
        what = f"{model.dataset_name} takes {model.info.image_shape[0]} numbers, not images"
        raise UsageError("IMAGE", what, "use --input 0,1")
    shape = tuple(n for n in model.checkpoint.architecture.input_shape if n != 1)
    where = str(model.checkpoint.path)
    raise UsageError(where, f"its input {shape} is no image that is known here", "see --dataset")


def _check_pixels(
    model: TrainedModel, array: NDArray[np.generic]
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Return an array that Python handed over as raw pixels; DataError where it holds none."""
    if array.dtype.kind not in "uif":
        what = f"the array holds {array.dtype}, not numbers"
        raise DataError(_ARRAY, what, "give raw pixels, as the data set stores them")
    if array.size == 0:
        what = f"the array of shape {array.shape} holds no images"
        raise DataError(_ARRAY, what, "give one image or more")
    lowest, highest = float(array.min()), float(array.max())
    if not (lowest >= 0 and highest <= model.max_value):  # not-a-number is refused too
        what = f"the array holds numbers from {lowest:g} to {highest:g}, not 0 to {model.max_value}"
        raise DataError(_ARRAY, what, "give raw pixels, as the data set stores them")
    if array.dtype.kind != "f":
        return array.astype(np.uint8, copy=False)
    if 0 < highest <= 1 < model.max_value:
        warn(
            f"the array's numbers end at {highest:g}: give raw pixels from 0 to {model.max_value},"
            " which are scaled here as they were in training"
        )
    return array.astype(np.float32, copy=False)


def _check_maximum(model: TrainedModel, array: NDArray[np.uint8], source: str) -> None:
    if array.max() > model.max_value:
        what = f"the array holds numbers up to {array.max()}, those of {model.dataset_name} end"
        hint = "divide them as the data set's makers did"
        raise DataError(source, f"{what} at {model.max_value}", hint)


def _fit_array(
    model: TrainedModel, array: NDArray[Any], source: str
) -> tuple[NDArray[Any], Sequence[int | None]]:
    """Return an array as a batch, and the row of each image in it; None for a single image."""
    architecture = model.checkpoint.architecture
    wanted = architecture.input_shape
    image_shape = model.image_shape or _guess_image_shape(array.shape, wanted)

    def fits(shape: tuple[int, ...]) -> bool:
        # a flat network takes any order of axes, and understands that of its data set alone
        is_known = image_shape is None or is_same_layout(shape, image_shape)
        return is_known and takes_images(architecture, shape)

    if fits(array.shape[1:]):
        return array, range(len(array))
    if fits(array.shape):
        return array[np.newaxis], [None]
    raise make_shape_error(source, array.shape, wanted, image_shape)


def _guess_image_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return what images with the channels first are to be for a flat network of unknown images."""
    *_, channels, height, width = (0, 0, 0, *shape)
    is_channels_first = channels == 3 != width and wanted == (channels * height * width,)
    return (height, width, channels) if is_channels_first else None


def _read_stdin() -> bytes:
    data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(data) > MAX_STDIN_BYTES:
        what = f"more than {MAX_STDIN_BYTES >> 20} MiB"
        raise DataError("stdin", what, "send one image, or a smaller array")
    return data


def _rank_classes(prediction: Prediction, names: tuple[str, ...], count: int) -> RankedPrediction:
    """Add the most probable classes to a prediction."""
    values = prediction.probabilities or ()
    ranked = sorted(range(len(values)), key=lambda k: -values[k])[:count]
    top = tuple(
        ClassProbability(class_index=k, label=names[k], probability=values[k]) for k in ranked
    )
    return RankedPrediction(**dict(prediction), top=top)
