"""How a batch is made of raw rows, inside the compiled program."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mnistcli.config.optimization import ClassWeight
from mnistcli.config.schema import TrainingConfig
from mnistcli.datasets.base import Split
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.training.compile_model import encode_labels


class BatchMaker:
    """Turns raw rows into what a network's train_step and test_step take.

    Args:
        network: built; its inputs' shape and its number of output units count.
        preprocessing: raw pixels to network input.
        loss: decides the form of the labels.
        class_weights: float32 [classes], what an example of each class counts; null: all alike.
    """

    def __init__(
        self,
        network: keras.Sequential,
        preprocessing: Preprocessing,
        loss: str,
        class_weights: NDArray[np.float32] | None = None,
    ) -> None:
        self._preprocessing = preprocessing
        self._loss = loss
        self._units = int(network.output_shape[-1])
        self._class_weights = None if class_weights is None else tf.constant(class_weights)

    def cut(
        self, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, size: int | tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Return `size` rows from `start` on: network input, encoded labels, weights if any."""
        rest = [0] * (len(images.shape) - 1)
        rows = tf.slice(images, [start, *rest], [size, *images.shape[1:]])
        inputs = tf.cast(rows, tf.float32)
        if self._preprocessing.offset != 0:
            inputs -= np.float32(self._preprocessing.offset)
        if self._preprocessing.scale != 1:
            inputs /= np.float32(self._preprocessing.scale)
        classes = tf.slice(labels, [start], [size])
        encoded = encode_labels(classes, self._loss, self._units)
        if self._class_weights is None:
            return inputs, encoded
        return inputs, encoded, tf.gather(self._class_weights, tf.cast(classes, tf.int32))


def make_batches(
    network: keras.Sequential, split: Split, preprocessing: Preprocessing, training: TrainingConfig
) -> BatchMaker:
    """Return what makes batches of a training set, its classes weighed as the config says."""
    weights = weigh_classes(training.class_weight, split, int(network.output_shape[-1]))
    return BatchMaker(network, preprocessing, training.loss, weights)


def weigh_classes(weights: ClassWeight, split: Split, units: int) -> NDArray[np.float32] | None:
    """Return what each class counts in the loss, float32 [classes]; null where all count 1.

    `balanced` gives a class n / (classes · its examples), as scikit-learn does: every class
    then weighs as much as any other, and the mean weight of an example is 1.
    """
    if weights is None:
        return None
    if weights != "balanced":
        return np.array(weights, np.float32)
    counts = np.bincount(split.labels, minlength=max(2, units))
    return (len(split) / (len(counts) * np.maximum(counts, 1))).astype(np.float32)
