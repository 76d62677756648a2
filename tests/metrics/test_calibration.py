"""Calibration: bins of confidence, their accuracy, and the distance between the two."""

from __future__ import annotations

import numpy as np
import pytest

from mnistcli.errors import DataError
from mnistcli.metrics.calibration import measure_calibration


def test_bins_and_their_error_are_those_that_were_counted_by_hand() -> None:
    confidences = np.array([0.0, 0.2, 0.2001, 0.25, 0.95, 1.0])
    is_right = np.array([False, True, False, False, True, True])
    calibration = measure_calibration(confidences, is_right)
    filled = {
        round(row.low * 15): (row.count, row.confidence, row.accuracy)
        for row in calibration.bins
        if row.count
    }
    assert filled == {
        0: (1, 0.0, 0.0),
        2: (1, pytest.approx(0.2), 1.0),  # upper edges belong to the bin below
        3: (2, pytest.approx(0.22505), 0.0),
        14: (2, pytest.approx(0.975), 1.0),
    }
    distances = 1 * 0.0 + 1 * 0.8 + 2 * 0.22505 + 2 * 0.025
    assert calibration.ece == pytest.approx(distances / 6)
    assert calibration.count == 6
    assert len(calibration.bins) == 15


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_numbers_that_are_no_probabilities_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="its outputs are no probabilities"):
        measure_calibration(np.array([0.5, value]), np.array([True, True]))
