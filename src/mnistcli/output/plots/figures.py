"""What plots show, before it is drawn: figures, how they are composed, and their colours.

The hues are those of Okabe and Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/,
which colour-blind people can tell apart; every ramp changes in lightness too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.run_state import History
from mnistcli.errors import UsageError, make_printable
from mnistcli.metrics.calibration import Calibration
from mnistcli.models.architecture import Architecture
from mnistcli.models.layers import Conv2D, Dense, Flatten, Shape
from mnistcli.output.results import Prediction

Rgb = tuple[int, int, int]
Pixels = NDArray[np.uint8]
BLUE: Rgb = (0, 114, 178)
SKY_BLUE: Rgb = (86, 180, 233)
VERMILLION: Rgb = (213, 94, 0)
ORANGE: Rgb = (230, 159, 0)
WHITE: Rgb = (255, 255, 255)
INK: Rgb = (26, 26, 26)
GREY: Rgb = (98, 98, 98)
PALE: Rgb = (221, 221, 221)
_DEEP_BLUE: Rgb = (0, 50, 92)
_DEEP_VERMILLION: Rgb = (112, 44, 0)
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_DARK = 140
OUTLIER_QUANTILE = 0.999  # of the weights' sizes: few pixels must not make all others pale
MAX_NAME = 28  # characters: as wide as a digit is drawn
_METRICS = (("loss", "cost"), ("accuracy", "accuracy"))


@dataclass(frozen=True)
class Heading:
    """The title of a figure, and a line of facts below it."""

    title: str
    note: str = ""


@dataclass(frozen=True)
class Caption:
    """The lines below an image; that of a misclassified one is marked."""

    lines: tuple[str, ...]
    is_misclassified: bool = False


@dataclass(frozen=True)
class ImageGrid:
    """Images in rows and columns.

    Attributes:
        heading: of the figure.
        images: uint8 [n, height, width, 3].
        captions: one per image, or none.
        limit: images are signed numbers, coloured from -limit to limit; None for other images.
        missing: text where there are no images.
    """

    heading: Heading
    images: Pixels
    captions: tuple[Caption, ...] = ()
    limit: float | None = None
    missing: str = ""


@dataclass(frozen=True)
class Line:
    """One value per epoch; values that are not finite are gaps."""

    label: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """Lines that share an axis.

    Attributes:
        title: of the panel.
        lines: over the epochs.
        marked_epoch: the epoch (from 1) whose weights the file holds; None for the last one.
    """

    title: str
    lines: tuple[Line, ...]
    marked_epoch: int | None = None

    def describe_mark(self) -> str:
        """Return the text beside the mark."""
        return f"weights of epoch {self.marked_epoch}"


@dataclass(frozen=True)
class Curves:
    """Panels side by side, over the same epochs."""

    heading: Heading
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class ConfusionMatrix:
    """A confusion matrix.

    Attributes:
        heading: of the figure.
        labels: class names.
        counts: int64 [classes, classes]; rows: true class, columns: predicted class.
    """

    heading: Heading
    labels: tuple[str, ...]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class WeightMatrix:
    """The weights of a layer whose inputs are not an image.

    Attributes:
        heading: of the figure.
        values: float32 [inputs, units].
        limit: the largest absolute value.
    """

    heading: Heading
    values: NDArray[np.float32]
    limit: float


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Confidence against accuracy."""

    heading: Heading
    calibration: Calibration


Figure = ImageGrid | Curves | ConfusionMatrix | WeightMatrix | ReliabilityDiagram


@dataclass(frozen=True)
class Predictions:
    """Images and a network's predictions.

    Attributes:
        images: uint8 [n, height, width] or [n, height, width, 3].
        rows: index of each image in its split, [n].
        probabilities: [n, classes].
        classes: predicted classes, [n].
        true_classes: [n].
        labels: class names.
    """

    images: Pixels
    rows: NDArray[np.int64]
    probabilities: NDArray[np.floating]
    classes: NDArray[np.int64]
    true_classes: NDArray[np.integer]
    labels: tuple[str, ...]

    @property
    def confidences(self) -> NDArray[np.floating]:
        """The probability of each predicted class, [n]."""
        return self.probabilities[np.arange(len(self.classes)), self.classes]

    @property
    def is_correct(self) -> NDArray[np.bool_]:
        """Whether each predicted class is the true one, [n]."""
        return np.asarray(self.classes == self.true_classes)

    def take(self, places: Sequence[int]) -> Predictions:
        """Return the images at these places, in this order."""
        chosen = np.array(places, np.int64)
        return Predictions(
            self.images[chosen],
            self.rows[chosen],
            self.probabilities[chosen],
            self.classes[chosen],
            self.true_classes[chosen],
            self.labels,
        )


def compose_curves(
    heading: Heading, history: History, loss: str, validation: str, marked_epoch: int | None = None
) -> Curves:
    """Compose loss and accuracy over the epochs, of training and of validation if there is one.

    Args:
        heading: of the figure.
        history: one value per epoch for each metric.
        loss: its name.
        validation: label of the validation set.
        marked_epoch: as for `Panel`.
    """
    labels = {"": "training", "val_": validation}
    panels = tuple(
        Panel(
            f"{title} ({loss})" if name == "loss" else title,
            tuple(
                Line(label, history[prefix + name])
                for prefix, label in labels.items()
                if prefix + name in history
            ),
            marked_epoch,
        )
        for name, title in _METRICS
    )
    return Curves(heading, tuple(panel for panel in panels if panel.lines))


def compose_confusion(
    heading: Heading, labels: Sequence[str], counts: Sequence[Sequence[int]]
) -> ConfusionMatrix:
    """Compose a confusion matrix; rows: true class, columns: predicted class."""
    return ConfusionMatrix(heading, tuple(labels), np.array(counts, np.int64))


def compose_images(heading: Heading, images: Pixels, captions: Sequence[str]) -> ImageGrid:
    """Compose images [n, height, width] or [n, height, width, 3] with a caption each."""
    return ImageGrid(heading, make_rgb(images), tuple(Caption((text,)) for text in captions))


def compose_inputs(
    heading: Heading, images: Pixels, predictions: Sequence[Prediction]
) -> ImageGrid:
    """Compose the network's inputs, with their sources and predictions."""
    captions = tuple(
        Caption(
            (_name_source(one), f"{one.label} {one.probability:.4f}"),
            one.truth is not None and one.truth != one.class_index,
        )
        for one in predictions
    )
    return ImageGrid(heading, make_rgb(images), captions)


def compose_predictions(heading: Heading, shown: Predictions) -> ImageGrid:
    """Compose images with their predicted and true classes; misclassified ones are marked."""
    labels = shown.labels
    captions = tuple(
        Caption((f"{labels[guess]} {confidence:.2f}", f"is {labels[true]}"), guess != true)
        for guess, true, confidence in zip(
            shown.classes.tolist(),
            shown.true_classes.tolist(),
            shown.confidences.tolist(),
            strict=True,
        )
    )
    return ImageGrid(heading, make_rgb(shown.images), captions)


def compose_misclassified(heading: Heading, shown: Predictions) -> ImageGrid:
    """Compose misclassified images, with their rows too."""
    tiles = compose_predictions(heading, shown)
    captions = tuple(
        replace(caption, lines=(*caption.lines, f"row {row}"), is_misclassified=False)
        for caption, row in zip(tiles.captions, shown.rows.tolist(), strict=True)
    )
    return replace(tiles, captions=captions, missing="there are no mistakes")


def compose_weights(
    title: str,
    architecture: Architecture,
    weights: Sequence[NDArray[np.float32]],
    image_shape: Shape | None,
    labels: Sequence[str],
    first: int,
) -> ImageGrid | WeightMatrix:
    """Compose the weights of the first layer's units, as images where its inputs are one.

    Args:
        title: of the figure.
        architecture: the network.
        weights: all arrays of all layers, in the order of `architecture`.
        image_shape: of the network's inputs; None where they are not images.
        labels: class names.
        first: the largest number of units.

    Raises:
        UsageError: no layer has weights that can be drawn.
    """
    name, kernel, shape = _find_kernel(architecture, weights, image_shape)
    units = kernel.shape[-1]
    is_output = units == len(labels) and len(weights) <= 2  # softmax: a template for each class
    kernel = kernel[..., :first]
    limit = float(np.quantile(np.abs(kernel), OUTLIER_QUANTILE)) or 1.0
    shown = f"{kernel.shape[-1]} of {units} units" if first < units else f"{units} units"
    note = f"layer {name}, {shown}; blue: negative, orange: positive"
    if shape is None:
        return WeightMatrix(Heading(title, note), kernel.reshape(-1, kernel.shape[-1]), limit)
    filters = np.moveaxis(kernel.reshape(*shape, -1), -1, 0)
    captions = tuple(Caption((label,)) for label in labels[: len(filters)]) if is_output else ()
    if len(shape) == 3 and shape[-1] == 1:
        filters = filters[..., 0]
    if filters.ndim == 3:
        return ImageGrid(Heading(title, note), color_signed(filters, limit), captions, limit)
    note = f"layer {name}, {shown}; channels from {-limit:.2g} to {limit:.2g}, grey is 0"
    return ImageGrid(Heading(title, note), _color_channels(filters, limit), captions)


def to_hex(color: Rgb) -> str:
    """Format a colour as `#0072b2`."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def measure_luminance(pixels: Pixels) -> NDArray[np.float64]:
    """Return the luminance of pixels [..., 3], 0 to 255, [...]."""
    return np.asarray(pixels @ np.array(_LUMINANCE))


def is_dark(pixels: Pixels) -> NDArray[np.bool_]:
    """Return where white text is easier to read than black on pixels [..., 3], [...]."""
    return measure_luminance(pixels) < _DARK


def color_signed(values: NDArray[np.floating], limit: float) -> Pixels:
    """Colour numbers by sign and size, as uint8 [..., 3].

    Args:
        values: of any shape.
        limit: -limit and below is deepest blue, limit and above deepest vermillion, 0 white.
    """
    stops = (_DEEP_BLUE, BLUE, WHITE, VERMILLION, _DEEP_VERMILLION)
    return _interpolate((values / limit + 1) / 2, stops)


def color_shares(shares: NDArray[np.floating], hue: Rgb) -> Pixels:
    """Colour shares from 0 (white) to 1 (the hue) as uint8 [..., 3]."""
    return _interpolate(shares, (WHITE, hue))


def color_grey(values: Pixels) -> Pixels:
    """Return grey pixels [...] as RGB [..., 3]."""
    return np.repeat(values[..., None], 3, axis=-1)


def make_rgb(images: Pixels) -> Pixels:
    """Return images as RGB [n, height, width, 3]; grey ones are [n, height, width]."""
    return color_grey(images) if images.ndim == 3 else images


def _name_source(prediction: Prediction) -> str:
    # A file's own name, or its end where it is longer than an image is wide.
    name = make_printable(prediction.source.rpartition("/")[2])
    row = "" if prediction.row is None else f"[{prediction.row}]"
    longest = MAX_NAME - len(row)
    return f"{name if len(name) <= longest else '...' + name[3 - longest :]}{row}"


def _color_channels(filters: NDArray[np.float32], limit: float) -> Pixels:
    # Each channel's weights in its own colour; 0 is grey.
    shares = (np.clip(filters / limit, -1, 1) + 1) / 2
    return np.asarray((shares * 255).round().astype(np.uint8))


def _find_kernel(
    architecture: Architecture, weights: Sequence[NDArray[np.float32]], image_shape: Shape | None
) -> tuple[str, NDArray[np.float32], Shape | None]:
    """Return the first layer's name and kernel, and the image shape of its inputs."""
    arrays, shape = iter(weights), architecture.input_shape
    for node in architecture.iter_layers():
        own = tuple(islice(arrays, len(node.weights)))
        name = node.layer.name
        match node.layer:
            case Conv2D() if own[0].shape[2] in (1, 3):
                return name, own[0], own[0].shape[:3]
            case Dense():
                shape = image_shape if len(shape) == 1 and image_shape else shape
                fits = len(shape) > 1 and math.prod(shape) == own[0].shape[0]
                return name, own[0], shape if fits else None
            case Flatten():
                continue
        shape = node.output_shape
    what = "no layer takes the images themselves, so that none can be shown as images"
    raise UsageError("weights", what, "print them with mnistcli summary MODEL.h5 --weights")


def _interpolate(shares: NDArray[np.floating], stops: tuple[Rgb, ...]) -> Pixels:
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(shares, places, channel) for channel in zip(*stops, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
