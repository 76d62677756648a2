"""The regularization loss of the weights, as Keras computes it."""

from __future__ import annotations

import numpy as np

from mnistcli.models.architecture import Architecture
from mnistcli.models.layers import Dense, Flatten, Regularizer
from mnistcli.models.numpy_inference import compute_penalty


def test_the_penalty_sums_kernels_and_leaves_biases_out() -> None:
    layers = (
        Flatten("flatten"),
        Dense("a", 2, regularizers=(Regularizer("kernel", 0.5, 0.25),)),
        Dense("b", 1),
    )
    architecture = Architecture((2, 1), layers)
    weights = [np.array([[1, -2], [3, 0]], np.float32), np.full(2, 9, np.float32)]
    others = [np.full((2, 1), 7, np.float32), np.full(1, 7, np.float32)]
    assert compute_penalty(architecture, [*weights, *others]) == 0.5 * 6 + 0.25 * 14
