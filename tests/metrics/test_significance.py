"""Intervals, paired tests and spreads, against values of SciPy 1.17.1 and statsmodels 0.15.0."""

from __future__ import annotations

import pytest

from mnistcli.metrics.significance import (
    adjust_p_values,
    compute_mcnemar_p,
    compute_wilson_interval,
    summarize_runs,
)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        (9750, 10000, 0.9717527631333815, 0.9778824384144755),
        (197, 200, 0.9568342712073097, 0.9948857622067417),
        (2, 4, 0.15003898915214947, 0.8499610108478506),
        (0, 10, 0.0, 0.27753279986288926),
        (10, 10, 0.7224672001371106, 1.0),
    ],
)
def test_wilson_intervals_are_those_of_statsmodels(
    successes: int, count: int, low: float, high: float
) -> None:
    interval = compute_wilson_interval(successes, count)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (1, 7, 0.0390625),  # Bentur et al. 2009, in the paper that recommends the test
        (6, 16, 0.03468966484069824),  # Cavo et al. 2012, likewise
        (25, 2, 3.0323863029479947e-06),  # Ezra et al. 2010, likewise
        (4, 4, 0.86328125),
        (0, 1, 0.5),
        (0, 0, 1.0),
        (103, 137, 0.028305517558866938),
        (842, 105, 8.211775225658721e-144),
        (14000, 14300, 0.074538321552502),
        (0, 2000, 0.0),
    ],
)
def test_mcnemar_is_the_mid_p_of_the_exact_binomial(
    only_first: int, only_second: int, p: float
) -> None:
    assert compute_mcnemar_p(only_first, only_second) == pytest.approx(p, rel=1e-9)
    assert compute_mcnemar_p(only_second, only_first) == compute_mcnemar_p(only_first, only_second)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ((0.01, 0.04, 0.03, 0.005), (0.03, 0.06, 0.06, 0.02)),
        ((0.2, 0.9, 0.6), (0.6, 1.0, 1.0)),
        ((0.04,), (0.04,)),
        ((), ()),
    ],
)
def test_several_p_values_are_adjusted_as_holm_does(
    p_values: tuple[float, ...], adjusted: tuple[float, ...]
) -> None:
    assert adjust_p_values(p_values) == pytest.approx(adjusted)


def test_the_deviation_is_that_of_a_sample() -> None:
    spread = summarize_runs([0.9750, 0.9768, 0.9764, 0.9771, 0.9759])
    assert (spread.mean, spread.deviation) == pytest.approx((0.97624, 0.0008264381404557791))
