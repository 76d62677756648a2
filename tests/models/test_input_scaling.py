"""Input scaling: the offset and scale between pixels and network input."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import make_digits
from mnistcli.models.architecture import Architecture
from mnistcli.models.input_scaling import Preprocessing, fit_preprocessing, guess_normalization
from mnistcli.models.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Rescaling,
    Reshape,
)

PIXELS = np.array([[0, 51], [102, 255]], np.uint8)


def test_unit_divides_by_255() -> None:
    pair = fit_preprocessing("unit", PIXELS, 255)
    assert pair == Preprocessing(0.0, 255.0)
    expected = np.array([[0.0, 0.2], [0.4, 1.0]], np.float32)
    np.testing.assert_array_equal(pair.apply(PIXELS), expected)


def test_none_changes_the_type_alone() -> None:
    pair = fit_preprocessing("none", PIXELS, 255)
    assert pair == Preprocessing(0.0, 1.0)
    assert pair.apply(PIXELS).dtype == np.float32
    np.testing.assert_array_equal(pair.apply(PIXELS), PIXELS)


def test_standard_is_the_z_score_with_one_mean_and_one_deviation() -> None:
    images = make_digits(300, seed=3).images
    pair = fit_preprocessing("standard", images, 255)
    assert pair.offset == np.float32(images.mean(dtype=np.float64))
    assert pair.scale == pytest.approx(images.std(dtype=np.float64), rel=1e-7)
    inputs = pair.apply(images)
    assert inputs.shape == images.shape
    assert float(inputs.mean(dtype=np.float64)) == pytest.approx(0, abs=1e-6)
    assert float(inputs.std(dtype=np.float64)) == pytest.approx(1, abs=1e-6)


def test_standard_counts_more_pixels_than_one_piece_holds() -> None:
    images = np.zeros((2, 1 << 20), np.uint8)
    images[1] = 10
    assert fit_preprocessing("standard", images, 255) == Preprocessing(5.0, 5.0)


def test_images_of_one_colour_are_not_divided_by_zero() -> None:
    images = np.full((3, 2, 2), 7, np.uint8)
    pair = fit_preprocessing("standard", images, 255)
    assert pair == Preprocessing(7.0, 1.0)
    assert not pair.apply(images).any()


@pytest.mark.parametrize("name", ["unit", "standard", "none"])
def test_both_numbers_are_what_float32_holds(name: str) -> None:
    pair = fit_preprocessing(name, make_digits(50, seed=4).images, 255)  # type: ignore[arg-type]
    assert (pair.offset, pair.scale) == (np.float32(pair.offset), np.float32(pair.scale))


def test_the_pixels_themselves_stay_as_they_are() -> None:
    before = PIXELS.copy()
    Preprocessing(3.0, 2.0).apply(PIXELS)
    np.testing.assert_array_equal(PIXELS, before)


NORM = BatchNormalization("norm", center=False, scale=False)
IMAGE = Reshape("reshape", (2, 2, 1))


@pytest.mark.parametrize(
    ("layers", "moments", "guessed"),
    [
        ((Rescaling("a", 1 / 255),), (), "none"),
        ((Rescaling("a", 1 / 127.5, -1.0),), (), "none"),
        ((Dropout("a", 0.1), IMAGE, Flatten("b"), Rescaling("c", 1 / 255)), (), "none"),
        ((Rescaling("a", 2.0, -1.0),), (), "unit"),  # from 0 to 1 to -1 to 1
        ((NORM,), (33.0, 6000.0), "none"),
        ((NORM,), (0.0, 1.0), "none"),
        ((NORM,), (0.13, 0.09), "unit"),  # pixels were divided when it was trained
        ((Dense("a", 4, use_bias=False), NORM), (33.0, 6000.0), "unit"),
        ((IMAGE, Conv2D("a", 1, (1, 1), use_bias=False), NORM), (33.0, 6000.0), "unit"),
        ((Dense("a", 4, use_bias=False), Rescaling("b", 1 / 255)), (), "unit"),
        ((), (), "unit"),
    ],
)
def test_pixels_are_scaled_unless_that_is_done_before_the_first_kernel(
    layers: tuple[Layer, ...], moments: tuple[float, ...], guessed: str
) -> None:
    architecture = Architecture((4,), (*layers, Flatten("flatten"), Dense("out", 2)))
    values = dict(zip(("moving_mean", "moving_variance"), moments, strict=False))
    arrays = [weight for node in architecture.iter_layers() for weight in node.weights]
    weights = [np.full(one.shape, values.get(one.name, 0.5), np.float32) for one in arrays]
    assert guess_normalization(architecture, weights, 255) == guessed
