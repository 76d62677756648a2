"""Histograms in TensorBoard's format."""

from __future__ import annotations

import numpy as np
import pytest

from mnistcli.training.tensorboard_writer import count_buckets


def test_buckets_lie_side_by_side_from_the_least_number_to_the_largest() -> None:
    buckets = count_buckets(np.array([[0, 1], [2, 30]], np.float32))
    assert (buckets.min, buckets.max, buckets.num) == (0, 30, 4)
    assert (buckets.sum, buckets.sum_squares) == (33, 905)
    assert buckets.bucket_limit == pytest.approx(range(1, 31))
    assert buckets.bucket == (1, 1, 1, *[0] * 26, 1)


def test_numbers_that_are_all_the_same_are_in_one_bucket() -> None:
    buckets = count_buckets(np.full(7, 0.5, np.float32))
    assert (buckets.min, buckets.max) == (0.5, 0.5)
    assert (buckets.bucket_limit, buckets.bucket) == ((0.5,), (7,))


def test_what_is_not_finite_is_left_out() -> None:
    assert count_buckets(np.array([np.nan, np.inf, 1, 2])).num == 2
    assert count_buckets(np.array([np.nan])).bucket == ()
