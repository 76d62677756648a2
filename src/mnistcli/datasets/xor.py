"""XOR: two bits and their exclusive or, which no network without a hidden layer learns.

The training set and the test set are the same four rows.
"""

from __future__ import annotations

import numpy as np

from mnistcli.datasets.base import (
    BuiltInDataset,
    Dataset,
    DatasetInfo,
    Split,
    SplitName,
    hash_splits,
    make_dataset,
)

INFO = DatasetInfo(
    name="xor",
    title="XOR",
    image_shape=(2,),
    class_names=("0", "1"),
    train_count=4,
    test_count=4,
    image_kind="numbers",
)


def read_dataset(splits: frozenset[SplitName]) -> Dataset:
    """Return the four rows as each split: uint8 inputs [4, 2] of 0 and 1, uint8 labels [4]."""
    rows = {split: _make_rows() for split in splits}
    return make_dataset(INFO, rows, hash_splits(rows), "built in", is_canonical=True)


def _make_rows() -> Split:
    return Split(
        images=np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.uint8),
        labels=np.array([0, 1, 1, 0], dtype=np.uint8),
    )


SPEC = BuiltInDataset(
    info=INFO,
    make=lambda splits, _: read_dataset(splits),
)
