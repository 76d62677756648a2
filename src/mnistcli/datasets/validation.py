"""Holds part of a training set out for validation: stratified, and the same for the same seed."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import Split
from mnistcli.datasets.mapped import select_rows
from mnistcli.errors import ResourceError
from mnistcli.user_folders import find_cache

_STREAM = 0x56414C  # keeps this draw apart from the orders of epochs, which use [seed, epoch]


def split_validation(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Return the training set without what is held out, and what is held out.

    Each class gives `fraction` of its examples, rounded; both parts keep the order of the file.

    Args:
        split: the whole training set.
        fraction: in [0, 1).
        seed: the run's.

    Raises:
        ResourceError: images that lie in a file are divided in a file, which cannot be written.
    """
    generator = np.random.default_rng([seed, 0, _STREAM])
    held_out = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        rows = np.flatnonzero(split.labels == label)
        held_out[generator.permutation(rows)[: round(fraction * len(rows))]] = True
    return _select(split, ~held_out), _select(split, held_out)


def _select(split: Split, chosen: NDArray[np.bool_]) -> Split:
    """Take some of the rows; ResourceError where those of a file cannot be written to another."""
    scratch = find_cache(os.environ)
    try:
        return Split(select_rows(split.images, chosen, scratch), split.labels[chosen])
    except OSError as error:
        reason = error.strerror or str(error)
        what = f"the images of a part cannot be written there: {reason}"
        hint = "name a folder with room in XDG_CACHE_HOME"
        raise ResourceError(str(scratch), what, hint) from error
