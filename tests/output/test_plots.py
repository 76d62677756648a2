"""Plots, read back from PNG and SVG files and from lines of a terminal."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from mnistcli.config.schema import MlpModel, SoftmaxModel
from mnistcli.metrics.calibration import measure_calibration
from mnistcli.models.architecture import plan_architecture
from mnistcli.output.plots.figures import (
    BLUE,
    VERMILLION,
    WHITE,
    Caption,
    ConfusionMatrix,
    Curves,
    Figure,
    Heading,
    ImageGrid,
    Predictions,
    ReliabilityDiagram,
    WeightMatrix,
    color_signed,
    compose_curves,
    compose_misclassified,
    compose_predictions,
    compose_weights,
)
from mnistcli.output.plots.matplotlib_backend import color_confusion, render_picture
from mnistcli.output.plots.terminal_backend import Canvas, render_lines

HEADING = Heading("model.h5: $a title$", "and a note")
RED, GREEN = (255, 0, 0), (0, 255, 0)
TWO_PIXELS = np.array([[RED], [GREEN]], np.uint8)
PLAIN, TRUE_COLOR = Canvas(80, "none"), Canvas(80, "truecolor")
HISTORY = {
    "loss": (2.0, 1.0, float("nan")),
    "val_loss": (2.5, 1.5, 1.25),
    "accuracy": (0.5, 0.75, 0.875),
    "val_accuracy": (0.25, 0.5, 0.625),
}
PREDICTIONS = Predictions(
    images=np.stack([np.full((4, 4), 50 * k, np.uint8) for k in range(4)]),
    rows=np.array([10, 11, 12, 13]),
    probabilities=np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0, 0, 1], [0.4, 0.3, 0.3]]),
    classes=np.array([0, 1, 2, 0]),
    true_classes=np.array([0, 2, 1, 0], np.uint8),
    labels=("cat", "dog", "frog"),
)
CALIBRATION = measure_calibration(PREDICTIONS.confidences, PREDICTIONS.is_correct)
CONFUSION = np.array([[8, 2, 0], [0, 5, 5], [1, 0, 9]])
CURVES = compose_curves(HEADING, HISTORY, "mean squared error", "validation")
PICTURES: dict[str, tuple[Figure, list[str]]] = {
    "curves": (
        CURVES, ["cost (mean squared error)", "accuracy", "training", "validation", "epoch"]
    ),
    "confusion": (
        ConfusionMatrix(HEADING, ("cat", "dog", "frog"), CONFUSION),
        ["cat", "dog", "frog", "true", "predicted", "8", "9"],
    ),
    "kernel": (
        WeightMatrix(HEADING, np.array([[0.25, -0.5]], np.float32), 0.5), ["0.25", "-0.50", "unit"]
    ),
    "tiles": (compose_predictions(HEADING, PREDICTIONS), ["cat 0.90", "is cat", "dog 0.70"]),
    "mistakes": (
        compose_misclassified(HEADING, PREDICTIONS.take([2, 1])), ["frog 1.00", "is dog", "row 12"]
    ),
    "no mistakes": (
        compose_misclassified(HEADING, PREDICTIONS.take([])), ["there are no mistakes"]
    ),
    "reliability": (
        ReliabilityDiagram(HEADING, CALIBRATION), ["perfect", "accuracy", "0.2", "examples"]
    ),
}  # fmt: skip


def open_png(picture: Figure) -> Image.Image:
    pytest.importorskip("matplotlib")
    rendering = render_picture(picture, "png")
    image = Image.open(io.BytesIO(rendering.data))
    assert image.size == (rendering.width, rendering.height)
    return image.convert("RGB")


@pytest.mark.parametrize("name", PICTURES)
def test_a_png_is_drawn_on_white_and_nothing_touches_its_edges(name: str) -> None:
    pixels = np.asarray(open_png(PICTURES[name][0]))
    assert (pixels != 255).any(axis=2).mean() > 0.005
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((edge == 255).all() for edge in edges)


@pytest.mark.parametrize("name", PICTURES)
def test_an_svg_holds_its_words_as_text_and_is_the_same_twice(name: str) -> None:
    pytest.importorskip("matplotlib")
    picture, words = PICTURES[name]
    svg = render_picture(picture, "svg").data
    assert svg == render_picture(picture, "svg").data
    texts = re.findall(r"<text[^>]*>([^<]*)<", svg.decode())
    assert {"model.h5: $a title$", "and a note", *words} <= set(texts)
    assert b"<dc:date>" not in svg


def test_every_pixel_of_an_image_becomes_a_square() -> None:
    image = np.array([[RED, GREEN], [BLUE, VERMILLION]], np.uint8)
    drawn = open_png(ImageGrid(HEADING, image[None]))
    pixels = np.asarray(drawn)
    for color in (RED, GREEN, BLUE, VERMILLION):
        rows, columns = np.nonzero((pixels == color).all(axis=2))
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1, len(rows)) == (6, 6, 36)


def test_mistakes_are_framed_in_a_grid_of_predictions() -> None:
    picture = compose_predictions(HEADING, PREDICTIONS)
    framed = np.asarray(open_png(picture))
    plain = np.asarray(open_png(compose_predictions(HEADING, PREDICTIONS.take([0, 3]))))
    assert [caption.is_misclassified for caption in picture.captions] == [False, True, True, False]
    assert (framed == VERMILLION).all(axis=2).sum() > 2 * 4 * 4 * 24
    assert not (plain == VERMILLION).all(axis=2).any()


def test_right_ones_are_blue_and_the_worst_share_of_mistakes_is_deepest() -> None:
    colors = color_confusion(np.array([[10, 0], [5, 5]])).tolist()
    assert colors == [[list(BLUE), list(WHITE)], [list(VERMILLION), [128, 184, 216]]]


def test_softmax_weights_become_one_labelled_template_a_class() -> None:
    architecture = plan_architecture(SoftmaxModel(), (28, 28), 10)
    kernel = np.zeros((784, 10), np.float32)
    kernel[28 * 3 + 4, 7] = 1.0  # row 3, column 4 speaks for a seven
    kernel[0, 7] = -1.0
    digits = tuple("0123456789")
    picture = compose_weights(
        "t", architecture, (kernel, np.zeros(10, np.float32)), (28, 28), digits, 100
    )
    assert isinstance(picture, ImageGrid)
    assert picture.images.shape == (10, 28, 28, 3)
    assert [caption.lines for caption in picture.captions] == [(digit,) for digit in digits]
    seven = color_signed(np.array([1.0, -1.0, 0.0]), 1.0).tolist()
    shown = picture.images[7]
    assert [shown[3, 4].tolist(), shown[0, 0].tolist(), shown[9, 9].tolist()] == seven


def test_colour_filters_keep_their_channels_and_other_inputs_become_a_table() -> None:
    mlp = MlpModel(type="mlp", hidden=(5,))  # type: ignore[arg-type]
    architecture = plan_architecture(mlp, (32, 32, 3), 10)
    shapes = [w.shape for node in architecture.iter_layers() for w in node.weights]
    weights = [np.zeros(shape, np.float32) for shape in shapes]
    weights[0].reshape(32, 32, 3, 5)[1, 2, 0, 4] = 9.0
    picture = compose_weights("t", architecture, weights, (32, 32, 3), ("a",) * 10, 5)
    assert isinstance(picture, ImageGrid)
    assert picture.images[4, 1, 2].tolist() == [255, 128, 128]
    assert compose_weights(
        "t", architecture, weights, (32, 32, 3), ("a",) * 10, 3
    ).heading.note == ("layer dense, 3 of 5 units; channels from -1 to 1, grey is 0")
    xor = plan_architecture(mlp, (2,), 2)
    weights = [np.ones(w.shape, np.float32) for node in xor.iter_layers() for w in node.weights]
    table = compose_weights("t", xor, weights, None, ("0", "1"), 100)
    assert isinstance(table, WeightMatrix)
    assert table.values.shape == (2, 5)


def test_two_rows_of_pixels_make_one_line_of_half_blocks() -> None:
    wide = np.repeat(TWO_PIXELS, 3, axis=1)
    assert TRUE_COLOR.draw_pixels(wide) == ["\x1b[38;2;255;0;0;48;2;0;255;0m▀▀▀\x1b[0m"]
    assert Canvas(80, "256").draw_pixels(wide) == ["\x1b[38;5;196;48;5;46m▀▀▀\x1b[0m"]
    greys = np.array([[[128] * 3], [[250] * 3]], np.uint8)
    assert Canvas(80, "256").draw_pixels(greys) == ["\x1b[38;5;244;48;5;231m▀\x1b[0m"]


def test_without_colour_lightness_becomes_ink() -> None:
    ramp = np.repeat(np.array([0, 85, 170, 255], np.uint8), 3).reshape(1, 4, 3)
    assert PLAIN.draw_pixels(ramp) == [" -*@"]
    assert PLAIN.draw_pixels(ramp, negative=True) == ["@*- "]


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("canvas", [PLAIN, TRUE_COLOR], ids=["plain", "color"])
def test_a_terminal_gets_lines_that_fit_and_end_without_a_colour(name: str, canvas: Canvas) -> None:
    picture, words = PICTURES[name]
    lines = render_lines(picture, canvas)
    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert lines[:3] == ["model.h5: $a title$", "and a note", ""]
    assert max(map(len, bare)) <= 80
    spoken = {"kernel": words[:2], "reliability": ["examples"]}.get(name, words)
    assert [word for word in spoken if word not in "\n".join(bare)] == []
    if canvas is PLAIN:
        assert lines == bare
        assert "".join(lines).isascii()
    else:
        assert all(re.findall(r"\x1b\[[0-9;]*m", line)[-1:] in ([], ["\x1b[0m"]) for line in lines)


def test_a_curve_falls_from_the_left_upper_corner_and_stops_where_its_numbers_do() -> None:
    [panel, *_] = CURVES.panels
    lines = render_lines(Curves(HEADING, (panel,)), PLAIN)[4:16]
    assert lines[0].startswith("      2.5 |o")
    assert lines[-1].startswith("        1 |")
    first = [next(k for k, line in enumerate(lines) if line[11:12] == mark) for mark in "*o"]
    assert first == [4, 0]
    assert max(line.rfind("*") for line in lines) < max(line.rfind("o") for line in lines)


def test_many_images_are_halved_to_fit_a_screen() -> None:
    images = np.zeros((12, 28, 28, 3), np.uint8)
    images[:, ::2] = 255
    captions = tuple(Caption((str(k),), is_misclassified=k == 3) for k in range(12))
    lines = render_lines(ImageGrid(HEADING, images, captions), PLAIN)
    assert lines[3] == "  ".join(["+" * 14] * 5)
    assert lines[10].split() == ["0", "1", "2", "x", "3", "4"]
