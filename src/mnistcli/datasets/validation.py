"""Holds part of a training set out for validation: stratified, and the same for the same seed."""

from __future__ import annotations

import numpy as np

from mnistcli.datasets.dataset import Split

_STREAM = 0x56414C  # keeps this draw apart from the orders of epochs, which use [seed, epoch]


def split_validation(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Return the training set without what is held out, and what is held out.

    Each class gives `fraction` of its examples, rounded; both parts keep the order of the file.

    Args:
        split: the whole training set.
        fraction: in [0, 1).
        seed: the run's.
    """
    generator = np.random.default_rng([seed, 0, _STREAM])
    held_out = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        rows = np.flatnonzero(split.labels == label)
        held_out[generator.permutation(rows)[: round(fraction * len(rows))]] = True
    kept = ~held_out
    return (
        Split(split.images[kept], split.labels[kept]),
        Split(split.images[held_out], split.labels[held_out]),
    )
