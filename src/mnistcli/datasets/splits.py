"""Arrays as they were read -> a split, or an error that says what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistcli.datasets.base import DatasetInfo, Split, SplitName
from mnistcli.datasets.reading import damaged


def make_split(
    path: Path, name: SplitName, images: NDArray[Any], labels: NDArray[Any], info: DatasetInfo
) -> Split:
    """Check what a file held, and convert its labels.

    Args:
        path: the file or folder that was read, for messages.
        name: which of the splits it is, for messages.
        images: must be uint8 [count, *info.image_shape].
        labels: must be integers [count], each a class index.
        info: of the data set.

    Returns:
        The split, its labels as uint8.

    Raises:
        DataError: wrong dtype, shape or count, no images, or a label out of range.
    """
    _check_images(path, f"x_{name}", images, info)
    _check_labels(path, f"y_{name}", labels, info)
    if len(images) != len(labels):
        raise damaged(path, f"x_{name} has {len(images)} images, y_{name} {len(labels)} labels")
    return Split(images=images, labels=labels.astype(np.uint8, copy=False))


def _check_images(path: Path, name: str, images: NDArray[Any], info: DatasetInfo) -> None:
    """Pixels are taken as they are: a float image was scaled by someone, who knows how."""
    if images.dtype != np.uint8:
        raise damaged(path, f"{name} has dtype {images.dtype}, not uint8")
    if images.shape[1:] != info.image_shape:
        expected = ", ".join(map(str, info.image_shape))
        raise damaged(path, f"{name} has shape {images.shape}, not (count, {expected})")
    if len(images) == 0:
        raise damaged(path, f"{name} is empty")


def _check_labels(path: Path, name: str, labels: NDArray[Any], info: DatasetInfo) -> None:
    """Any integer dtype will do: writers differ, and class indices fit them all."""
    if labels.dtype.kind not in "iu":
        raise damaged(path, f"{name} has dtype {labels.dtype}, not an integer one")
    if labels.ndim != 1:
        raise damaged(path, f"{name} has shape {labels.shape}, not (count,)")
    if len(labels) == 0:
        raise damaged(path, f"{name} is empty")
    last = len(info.class_names) - 1
    if labels.min() < 0 or labels.max() > last:
        wrong = labels[(labels < 0) | (labels > last)][0]
        raise damaged(path, f"{name} holds the label {wrong}; classes are 0 to {last}")
