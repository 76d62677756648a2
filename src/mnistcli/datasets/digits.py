"""scikit-learn's digits: 8 x 8 grey images of handwritten digits that come with the package.

Source: Ethem Alpaydin, Cevdet Kaynak, "Optical Recognition of Handwritten Digits", 1998, UCI
Machine Learning Repository, https://doi.org/10.24432/C50P49; licence: CC BY 4.0. 1797 images, the
test set there; a pixel is 0 (background) to 16 (ink): how many of 4 x 4 pixels had ink.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import (
    BuiltInDataset,
    Dataset,
    DatasetInfo,
    Split,
    SplitName,
    hash_splits,
    make_dataset,
)
from mnistcli.optional_imports import SCIKIT_LEARN, import_scikit_learn

INFO = DatasetInfo(
    name="digits",
    title="scikit-learn digits",
    image_shape=(8, 8),
    class_names=tuple("0123456789"),
    train_count=1438,
    test_count=359,
    image_kind="digit",
    max_value=16,
)

# The test set: of each class, in the package's order, the 3rd image, the 8th, the 13th and so on.
# That is a fifth of each class, rounded, and depends on no random number generator.
_FIFTH, _FIRST = 5, 2

_CANONICAL_SHA256 = {
    "x_train": "bbd14810556ec9d2a3311a0a1d9d451707c7ce7bb651dd080e0f35522ec91e74",
    "y_train": "704dda749a60b2f59828343b681eb0bf300a9738520946943df3ddfd530c4e41",
    "x_test": "00517e14cea5a3607fe32f899724a5350b6be708636195876742e7353ccac1db",
    "y_test": "1becdccb6ef79354e94a2aa220bb39468dac9b9cb36da5ee42edff1263ee5ecf",
}


def read_dataset(splits: frozenset[SplitName]) -> Dataset:
    """Read splits of scikit-learn's digits; a fifth of each class is the test set.

    Args:
        splits: the splits to return.

    Returns:
        uint8 images [1438 or 359, 8, 8], 0 to 16, and uint8 labels [count], 0 to 9, in
        scikit-learn's order.

    Raises:
        ResourceError: scikit-learn is missing or broken.
    """
    loaded = import_scikit_learn("datasets").load_digits()
    images, labels = loaded.images.astype(np.uint8), loaded.target.astype(np.uint8)
    is_test = _choose_test(labels)
    read = {
        split: Split(images[rows], labels[rows])
        for split, rows in (("train", ~is_test), ("test", is_test))
        if split in splits
    }
    hashes = hash_splits(read)
    is_canonical = all(_CANONICAL_SHA256[name] == hashes[name] for name in hashes)
    location = f"{SCIKIT_LEARN} {import_scikit_learn().__version__}"
    return make_dataset(INFO, read, hashes, location, is_canonical=is_canonical)


def _choose_test(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the mask of the test images, bool [count]."""
    is_test = np.zeros(len(labels), np.bool_)
    for label in range(len(INFO.class_names)):
        is_test[np.flatnonzero(labels == label)[_FIRST::_FIFTH]] = True
    return is_test


SPEC = BuiltInDataset(
    info=INFO,
    make=lambda splits, _: read_dataset(splits),
    package=SCIKIT_LEARN,
)
