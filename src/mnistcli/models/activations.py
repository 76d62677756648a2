"""The activations of the config in NumPy, computed as Keras 3 does.

All compute in the dtype of their input. Overflows that the formulas allow for give no warnings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mnistcli.config.schema import Activation

Floats = NDArray[np.float32]

# Klambauer et al., 2017, https://arxiv.org/abs/1706.02515
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
LEAKY_RELU_SLOPE = 0.2

# erf(z) = z P(z^2) / Q(z^2), a minimax fit on [-ERF_BOUND, ERF_BOUND]; highest power first.
# The coefficients are those of Eigen and XLA for float32.
ERF_NUMERATOR = (
    2.2905065861350646e-4, 3.4082910107109506e-3, 5.0955695062380861e-2,
    1.8520832239976145e-1, 1.128379143519084,
)  # fmt: skip
ERF_DENOMINATOR = (
    -1.1791602954361697e-7, 2.3547966471313185e-5, 1.0179625278914885e-3,
    1.4070470171167667e-2, 1.1098505178285362e-1, 4.9746925110067538e-1, 1.0,
)  # fmt: skip
ERF_BOUND = 3.832506856900711


def erf(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the error function with an error of at most 1e-7; exactly -1 or 1 in the tails."""
    inside = np.clip(z, -ERF_BOUND, ERF_BOUND)
    square = inside * inside
    values = inside * np.polyval(ERF_NUMERATOR, square) / np.polyval(ERF_DENOMINATOR, square)
    return np.where(np.abs(z) >= ERF_BOUND, np.sign(z), values)


def apply_activation(name: Activation, x: Floats) -> Floats:
    """Return an activation of x, float32 in the shape of x; `linear` returns x itself.

    Args:
        name: of the activation, which has Keras' default parameters: `gelu` is the exact one,
            `leaky_relu` has a slope of 0.2, `hard_sigmoid` is x / 6 + 0.5 between -3 and 3.
        x: float32 of any shape; `softmax` is computed along the last axis.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _FUNCTIONS[name](x)


def apply_relu(
    x: Floats, max_value: float | None = None, negative_slope: float = 0, threshold: float = 0
) -> Floats:
    """Return x above the threshold, at most max_value; below it slope · (x - threshold)."""
    zero = x.dtype.type(threshold)
    above = x if max_value is None else np.minimum(x, x.dtype.type(max_value))
    if threshold == 0 and negative_slope == 0:
        return np.maximum(above, 0)
    return np.where(x > zero, above, x.dtype.type(negative_slope) * (x - zero))


def apply_elu(x: Floats, alpha: float = 1) -> Floats:
    """Return x from 0 on, alpha · (exp(x) - 1) below."""
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


def _selu(x: Floats) -> Floats:
    below = x.dtype.type(SELU_ALPHA) * np.expm1(np.minimum(x, 0))
    return np.where(x > 0, x, below) * x.dtype.type(SELU_SCALE)


def _gelu(x: Floats) -> Floats:
    wide = x.astype(np.float64)  # float64, since 1 + erf cancels for negative x
    return (wide * (0.5 + 0.5 * erf(wide * 0.5**0.5))).astype(x.dtype)


def _sigmoid(x: Floats) -> Floats:
    y = np.exp(-x)
    y += 1
    return np.reciprocal(y, out=y)


def _hard_sigmoid(x: Floats) -> Floats:
    y: Floats = np.clip(x + 3, 0, 6) / x.dtype.type(6)
    return y


def _softplus(x: Floats) -> Floats:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _softmax(x: Floats) -> Floats:
    y: Floats = x - x.max(axis=-1, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=-1, keepdims=True)
    return y


def _log_sigmoid(x: Floats) -> Floats:
    return -_softplus(-x)


def _log_softmax(x: Floats) -> Floats:
    y: Floats = x - x.max(axis=-1, keepdims=True)
    y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
    return y


def _sparse_plus(x: Floats) -> Floats:
    return np.where(x <= -1, 0, np.where(x < 1, np.square(x + 1) / 4, x)).astype(x.dtype)


def _squareplus(x: Floats) -> Floats:
    y: Floats = (x + np.sqrt(np.square(x) + 4)) / 2
    return y


_FUNCTIONS: dict[Activation, Callable[[Floats], Floats]] = {
    "relu": apply_relu,
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: apply_relu(x, negative_slope=LEAKY_RELU_SLOPE),
    "elu": apply_elu,
    "celu": apply_elu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "hard_silu": lambda x: x * _hard_sigmoid(x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "softplus": _softplus,
    "squareplus": _squareplus,
    "sparse_plus": _sparse_plus,
    "softsign": lambda x: x / (np.abs(x) + 1),
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "log_sigmoid": _log_sigmoid,
    "tanh": np.tanh,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "soft_shrink": lambda x: np.where(np.abs(x) > 0.5, x - np.copysign(x.dtype.type(0.5), x), 0),
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "exponential": np.exp,
    "linear": lambda x: x,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
}
