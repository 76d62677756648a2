"""Calibration: how a network's confidence agrees with its accuracy. NumPy only.

Accuracy and mean confidence are compared among predictions of about the same confidence: Guo,
Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017,
https://arxiv.org/abs/1706.04599, equations 2, 3 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mnistcli.errors import DataError

BIN_COUNT = 15  # as in the paper


@dataclass(frozen=True)
class ConfidenceBin:
    """The predictions whose confidence lies in (low, high]; zero is in the first.

    Attributes:
        low: lower edge, 0 to 1.
        high: upper edge, 0 to 1.
        count: number of predictions.
        confidence: mean confidence, 0 to 1; None without predictions.
        accuracy: share of correct predictions, 0 to 1; None without predictions.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class Calibration(BaseModel):
    """Confidence and accuracy of predictions.

    Attributes:
        ece: expected calibration error, 0 to 1: the mean distance between a bin's confidence
            and its accuracy, weighted by the bin's count.
        bins: of equal width, in ascending order.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    ece: float
    bins: tuple[ConfidenceBin, ...]

    @property
    def count(self) -> int:
        """Number of predictions."""
        return sum(row.count for row in self.bins)


def measure_calibration(
    confidences: NDArray[np.floating], is_right: NDArray[np.bool_]
) -> Calibration:
    """Compute the calibration of predictions.

    Args:
        confidences: probability of the predicted class [n], 0 to 1.
        is_right: whether each predicted class is the true one [n].

    Raises:
        DataError: there are no predictions, or a confidence is not a probability.
    """
    if len(confidences) == 0:
        raise DataError("labels", "there are no examples to evaluate", "choose a larger split")
    values = confidences.astype(np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        hint = "only networks that end in softmax or sigmoid can be measured"
        raise DataError("network", "its outputs are no probabilities", hint)
    places = np.clip(np.ceil(values * BIN_COUNT).astype(np.int64) - 1, 0, BIN_COUNT - 1)
    counts, sums, hits = (
        np.bincount(places, weights, BIN_COUNT) for weights in (None, values, is_right)
    )
    return Calibration(
        ece=float(np.abs(sums - hits).sum() / len(values)),
        bins=tuple(
            ConfidenceBin(
                low=k / BIN_COUNT,
                high=(k + 1) / BIN_COUNT,
                count=int(counts[k]),
                confidence=float(sums[k] / counts[k]) if counts[k] else None,
                accuracy=float(hits[k] / counts[k]) if counts[k] else None,
            )
            for k in range(BIN_COUNT)
        ),
    )
