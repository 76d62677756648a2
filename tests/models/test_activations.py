from __future__ import annotations

import math
import typing

import keras
import numpy as np
import pytest

from mnistcli.config.schema import Activation
from mnistcli.models.activations import apply_activation, erf

ACTIVATIONS = typing.get_args(Activation)
EXTREMES = (0.0, -0.0, 1e-30, 6, 20, 89, 100, 1e4, 1e30, 3e38, np.inf)


def draw_inputs() -> np.ndarray:
    extremes = np.array([*EXTREMES, *(-x for x in EXTREMES), np.nan], np.float32)
    ordinary = np.random.default_rng(0).normal(0, 4, 4000).astype(np.float32)
    return np.concatenate([extremes, ordinary])


def draw_rows() -> np.ndarray:
    """Rows of every size that a float32 can be."""
    rows = np.random.default_rng(1).normal(0, 1, (60, 7))
    return (rows * np.logspace(-10, 37, 60)[:, None]).astype(np.float32)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_keras_and_stays_silent_where_it_saturates(name: Activation) -> None:
    x = draw_rows() if name in ("softmax", "log_softmax") else draw_inputs()
    kept = x.copy()
    expected = keras.ops.convert_to_numpy(
        keras.activations.get(name)(keras.ops.convert_to_tensor(x))
    )

    received = apply_activation(name, x)

    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, rtol=2e-6, atol=2e-7)
    np.testing.assert_array_equal(x, kept)


def test_the_default_parameters_are_those_of_keras_3() -> None:
    x = np.array([-10, -1, 1, 10], np.float32)

    assert apply_activation("leaky_relu", x).tolist() == pytest.approx([-2, -0.2, 1, 10])
    assert apply_activation("hard_sigmoid", x).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert apply_activation("gelu", x).tolist() == pytest.approx(
        [0, -0.15865525, 0.84134475, 10], abs=1e-7
    )


def test_erf_is_right_to_seven_digits_and_exact_in_the_tails() -> None:
    z = np.linspace(-6, 6, 20_001)

    assert np.abs(erf(z) - [math.erf(value) for value in z]).max() < 1e-7
    assert erf(np.array([-1e30, 0, 1e30])).tolist() == [-1, 0, 1]
