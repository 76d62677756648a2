"""What the kernels' penalties add to a loss: `model.l1` and `model.l2`, or a Keras file's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mnistcli.checkpoints.run_state import Array
from mnistcli.models.architecture import Architecture
from mnistcli.models.layers import Dense


def compute_penalty(architecture: Architecture, weights: Sequence[Array]) -> float:
    """Return l1 · Σ|w| + l2 · Σw² over the kernels of all Dense layers.

    Keras counts it into the loss that it trains on and that `model.evaluate` reports.

    Args:
        architecture: the network.
        weights: its arrays in `Architecture.walk` order.
    """
    rest, penalty = iter(weights), 0.0
    for stage in architecture.walk():
        arrays = [next(rest) for _ in stage.weights]
        if isinstance(stage.layer, Dense) and (stage.layer.l1 or stage.layer.l2):
            kernel = arrays[0].astype(np.float64)
            penalty += stage.layer.l1 * float(np.abs(kernel).sum())
            penalty += stage.layer.l2 * float(np.square(kernel).sum())
    return penalty
