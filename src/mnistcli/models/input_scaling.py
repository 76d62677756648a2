"""Turn raw uint8 images into network input, by the same offset and scale everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistcli.config.schema import Normalization
from mnistcli.datasets.memory_map import iter_chunks
from mnistcli.models.architecture import Architecture
from mnistcli.models.layers import BatchNormalization, Rescaling

MAX_SCALED = 16.0  # what a Rescaling layer makes of the largest pixel, where it is meant for pixels


@dataclass(frozen=True)
class Preprocessing:
    """The scaling of images: network input is (raw - offset) / scale, in float32.

    Both numbers are representable in float32, so that NumPy and the compiled training step, which
    apply the same two operations, give bit-identical inputs.
    """

    offset: float
    scale: float

    def apply(self, images: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (images - offset) / scale as float32, in the shape of the images."""
        inputs = images.astype(np.float32)
        if self.offset != 0:
            inputs -= np.float32(self.offset)
        if self.scale != 1:
            inputs /= np.float32(self.scale)
        return inputs


def fit_preprocessing(
    normalization: Normalization, train_images: NDArray[np.uint8], max_value: int
) -> Preprocessing:
    """Return the scaling of a normalization, fitted to a training set.

    Args:
        normalization: `unit` divides by `max_value`; `standard` is the z-score with one mean and
            one standard deviation over all pixels of all images; `none` changes nothing.
        train_images: uint8 [count, …]; only read for `standard`.
        max_value: the largest value in the data set, 255 for MNIST.
    """
    if normalization == "unit":
        return Preprocessing(0.0, float(max_value))
    if normalization == "none":
        return Preprocessing(0.0, 1.0)
    values = np.arange(256, dtype=np.float64)
    counts = _count_values(train_images).astype(np.float64)
    total = counts.sum()
    mean = float((counts * values).sum() / total)
    deviation = math.sqrt(float((counts * (values - mean) ** 2).sum() / total))
    return Preprocessing(float(np.float32(mean)), float(np.float32(deviation or 1.0)))


def guess_normalization(
    architecture: Architecture, weights: Sequence[NDArray[np.float32]], max_value: int
) -> Normalization:
    """Guess the scaling of a network that does not record it.

    Args:
        architecture: the network.
        weights: its arrays in `Architecture.iter_layers` order.
        max_value: the largest value in the data set, 255 for MNIST.

    Returns:
        `none` where layers before the first one with a kernel bring raw pixels to a small range;
        `unit` otherwise.
    """
    arrays = iter(weights)
    for node in architecture.iter_layers():
        own = [next(arrays) for _ in node.weights]
        match node.layer:
            case Rescaling(scale=scale):
                return "none" if np.abs(scale).max() * max_value <= MAX_SCALED else "unit"
            case BatchNormalization():
                # Pixels from 0 to 1 have a mean in this range and a variance of at most 1/4.
                mean, variance = own[-2:]
                is_unit = mean.min() >= 0 and mean.max() <= 1 and variance.max() <= 0.25
                return "unit" if is_unit else "none"
        if any(weight.name.endswith("kernel") for weight in node.weights):
            break
    return "unit"


def _count_values(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    chunk = 1 << 20  # bytes at a time, since bincount converts them to integers of eight bytes
    counts = np.zeros(256, np.int64)
    for part in iter_chunks(images):
        for start in range(0, part.size, chunk):
            counts += np.bincount(part[start : start + chunk], minlength=256)
    return counts
