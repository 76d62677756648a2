"""Comparing two run states bit by bit, with the distances of arrays that differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helpers.checkpoints import make_run
from mnistcli.checkpoints.run_state import (
    ArrayDifference,
    NamedArray,
    compare_arrays,
    hash_weights,
    list_arrays,
)


def named(name: str, *values: float) -> NamedArray:
    return NamedArray(name, np.array(values, np.float32))


def test_weights_optimizer_and_histories_are_compared() -> None:
    state, _ = make_run(epoch=2)
    assert [array.name for array in list_arrays(state)] == [
        "sequential/dense/kernel", "sequential/dense/bias", "sgd/iteration", "sgd/learning_rate",
        "history/accuracy", "history/loss",
    ]  # fmt: skip
    assert compare_arrays(list_arrays(state), list_arrays(make_run(epoch=2)[0])) == ()


def test_durations_and_running_sums_are_no_difference() -> None:
    state, _ = make_run()
    other = replace(
        state,
        network=replace(state.network, metrics=()),
        progress=replace(state.progress, epoch_durations_s=(9.0, 9.0)),
    )
    assert compare_arrays(list_arrays(state), list_arrays(other)) == ()


def test_a_difference_says_where_how_many_and_how_far() -> None:
    first = [named("a/kernel", 1, 2, 3), named("a/bias", 0)]
    second = [named("a/kernel", 1, 2.5, 1), named("a/bias", 0)]
    assert compare_arrays(first, second) == (ArrayDifference("a/kernel", 3, 2, 2.0),)


def test_bits_are_compared_not_values() -> None:
    nan = float("nan")
    assert compare_arrays([named("a", nan, 1)], [named("a", nan, 1)]) == ()
    assert compare_arrays([named("a", 0.0)], [named("a", -0.0)]) == (
        ArrayDifference("a", 1, 1, 0.0),
    )
    assert compare_arrays([named("a", nan)], [named("a", 1)]) == (ArrayDifference("a", 1, 1, None),)


def test_arrays_that_only_one_run_has_differ_whole() -> None:
    assert compare_arrays([named("a", 1)], [named("a", 1), named("b", 1, 2)]) == (
        ArrayDifference("b", 2, 2, None),
    )
    assert compare_arrays([named("a", 1, 2)], [named("a", 1)]) == (
        ArrayDifference("a", 2, 2, None),
    )


def test_weights_are_known_again_by_their_hash() -> None:
    weights = make_run(epoch=2)[0].network.weights
    assert hash_weights(weights) == hash_weights(make_run(epoch=2)[0].network.weights)
    assert hash_weights(weights) != hash_weights(make_run(epoch=3)[0].network.weights)
