"""The order in which an epoch takes the rows of its training set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_order(seed: int, number: int, count: int) -> NDArray[np.int32]:
    """Return the order of rows in the epoch `number` (from 0) of a run: int32 [count]."""
    order = np.random.default_rng([seed, number]).permutation(count)
    return order.astype(np.int32)
