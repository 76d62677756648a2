"""Run a trained network in NumPy, without loading TensorFlow.

`run_network` returns logits, since losses are computed from logits; `classify` in
`mnistcli.metrics.scores` turns them into probabilities. Convolution, pooling and half precision are
not implemented: for networks with such layers the caller passes a forward pass that Keras computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mnistcli.errors import DataError
from mnistcli.models.activations import Floats, apply_activation, apply_elu, apply_relu
from mnistcli.models.architecture import Architecture, LayerNode
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.layers import (
    ACTIVITY,
    ELU,
    IMAGE_LAYERS,
    ActivationLayer,
    BatchNormalization,
    Dense,
    Flatten,
    LeakyReLU,
    Regularizer,
    ReLU,
    Rescaling,
    Reshape,
    Shape,
)

DEFAULT_BATCH_SIZE = 1024
MAX_BATCH_VALUES = 1 << 25  # of the widest layer's output in one batch: 128 MiB of float32

Forward = Callable[[Floats], Floats]
"""A forward pass: float32 [n, *input_shape] -> float32 [n, *output_shape]."""
ForwardBuilder = Callable[[Architecture, Sequence[Floats]], Forward]
"""A function that returns the forward pass of an architecture with its weights."""


def is_supported_by_numpy(architecture: Architecture) -> bool:
    """Return whether `build_numpy_forward` implements all layers of a network."""
    return not any(
        isinstance(layer, IMAGE_LAYERS) or layer.dtype != "float32" for layer in architecture.layers
    )


def build_numpy_forward(architecture: Architecture, weights: Sequence[Floats]) -> Forward:
    """Return the network as a function of one batch of inputs.

    Args:
        architecture: the network.
        weights: its float32 arrays in `Architecture.iter_layers` order (which is Keras').

    Raises:
        ValueError: a layer is not implemented in NumPy, or the weights are not the network's.
    """
    if not is_supported_by_numpy(architecture):
        raise ValueError("convolution, pooling and half precision are not implemented in NumPy")
    pairs = list(_pair_weights(architecture, weights))

    def forward(x: Floats) -> Floats:
        with np.errstate(all="ignore"):  # as in Keras, overflow shows in the logits alone
            for node, arrays in pairs:
                x = _apply_layer(node, arrays, x)
        return x

    return forward


def run_network(
    architecture: Architecture,
    weights: Sequence[Floats],
    images: NDArray[np.uint8] | NDArray[np.float32],
    preprocessing: Preprocessing,
    batch_size: int = DEFAULT_BATCH_SIZE,
    build_forward: ForwardBuilder = build_numpy_forward,
) -> Floats:
    """Return the logits of raw images, which are preprocessed and computed in batches.

    Args:
        architecture: the network.
        weights: its float32 arrays in `Architecture.iter_layers` order (which is Keras').
        images: raw pixels [n, *image_shape]; reshaped to the network's input shape where only
            flattening or axes of 1 differ, and their channels moved where it takes them first.
        preprocessing: as in training.
        batch_size: images per batch; reduced for networks with very wide layers.
        build_forward: returns the forward pass.

    Returns:
        float32 [n, units].

    Raises:
        DataError: images of this shape do not fit the network.
        ValueError: the weights are not the network's.
    """
    shape = architecture.input_shape
    if not takes_images(architecture, images.shape[1:]):
        raise DataError(
            "network",
            f"its input has the shape {shape}, the images have {images.shape[1:]}",
            "use the data set that it was trained on",
        )
    logits = np.empty((len(images), *architecture.output_shape), np.float32)
    rows = _limit_batch_size(architecture, batch_size)
    forward = build_forward(architecture.without_output_activation(), weights)
    for start in range(0, len(images), rows):
        batch = slice(start, start + rows)
        logits[batch] = forward(_prepare_inputs(preprocessing, images[batch], shape))
    return logits


def takes_images(architecture: Architecture, image_shape: Shape) -> bool:
    """Return whether images of a shape, with their channels last, can be a network's input."""
    shapes = (architecture.input_shape, architecture.image_shape)
    return any(is_same_layout(image_shape, shape) for shape in shapes)


def is_same_layout(image_shape: Shape, input_shape: Shape) -> bool:
    """Return whether images of a shape fit a network's input shape.

    Flattening, unflattening and axes of 1 may differ. (3, 32, 32) does not fit (32, 32, 3):
    reshaping would mix pixels and channels.
    """
    image, wanted = (
        tuple(size for size in shape if size != 1) for shape in (image_shape, input_shape)
    )
    is_flat = len(image) <= 1 or len(wanted) <= 1
    return image == wanted or (is_flat and math.prod(image) == math.prod(wanted))


def compute_penalty(architecture: Architecture, weights: Sequence[Floats]) -> float:
    """Return the regularization loss of the weights, which Keras adds to the loss.

    Args:
        architecture: the network.
        weights: its arrays in `Architecture.iter_layers` order.
    """
    penalty = 0.0
    for node, arrays in _pair_weights(architecture, weights):
        named = {weight.name: array for weight, array in zip(node.weights, arrays, strict=True)}
        for regularizer in node.layer.regularizers:
            if regularizer.target in named:
                penalty += _sum_penalty(regularizer, named[regularizer.target])
    return penalty


def compute_activity_penalty(
    architecture: Architecture,
    weights: Sequence[Floats],
    images: NDArray[np.uint8] | NDArray[np.float32],
    preprocessing: Preprocessing,
    build_forward: ForwardBuilder = build_numpy_forward,
) -> float:
    """Return the regularization loss of the layers' outputs, a mean over images as in Keras 3.

    The arguments are those of `run_network`.
    """
    total, used = 0.0, 0
    rows = _limit_batch_size(architecture, DEFAULT_BATCH_SIZE)
    for end, node in enumerate(architecture.iter_layers(), 1):
        used += len(node.weights)
        for regularizer in node.layer.regularizers:
            if regularizer.target != ACTIVITY:
                continue
            part = replace(architecture, layers=architecture.layers[:end])
            forward = build_forward(part, weights[:used])
            for start in range(0, len(images), rows):
                batch = images[start : start + rows]
                inputs = _prepare_inputs(preprocessing, batch, architecture.input_shape)
                total += _sum_penalty(regularizer, forward(inputs))
    return total / len(images)


def _prepare_inputs(
    preprocessing: Preprocessing, images: NDArray[np.uint8] | NDArray[np.float32], shape: Shape
) -> Floats:
    inputs = preprocessing.apply(images)
    if not is_same_layout(inputs.shape[1:], shape):
        inputs = np.moveaxis(inputs, -1, 1)
    return inputs.reshape(-1, *shape)


def _sum_penalty(regularizer: Regularizer, values: Floats) -> float:
    wide = values.astype(np.float64)
    return regularizer.l1 * float(np.abs(wide).sum()) + regularizer.l2 * float(
        np.square(wide).sum()
    )


def _pair_weights(
    architecture: Architecture, weights: Sequence[Floats]
) -> Iterator[tuple[LayerNode, tuple[Floats, ...]]]:
    # Shapes are checked here because NumPy would broadcast wrong ones silently.
    expected = [weight.shape for node in architecture.iter_layers() for weight in node.weights]
    received = [array.shape for array in weights]
    if expected != received:
        raise ValueError(f"expected arrays of shapes {expected}, received {received}")
    arrays = iter(weights)
    for node in architecture.iter_layers():
        yield node, tuple(islice(arrays, len(node.weights)))


def _limit_batch_size(architecture: Architecture, batch_size: int) -> int:
    widest = max(
        math.prod(architecture.input_shape),
        *(math.prod(node.output_shape) for node in architecture.iter_layers()),
    )
    return max(1, min(batch_size, MAX_BATCH_VALUES // widest))


def _apply_layer(node: LayerNode, weights: Sequence[Floats], x: Floats) -> Floats:
    match node.layer:
        case Dense() as layer:
            return _apply_dense(layer, weights, x)
        case BatchNormalization() as layer:
            return _apply_batch_normalization(layer, weights, x)
        case ActivationLayer() as layer:
            return apply_activation(layer.activation, x)
        case ReLU() as layer:
            return apply_relu(x, layer.max_value, layer.negative_slope, layer.threshold)
        case LeakyReLU() as layer:
            return apply_relu(x, negative_slope=layer.negative_slope)
        case ELU() as layer:
            return apply_elu(x, layer.alpha)
        case Flatten(data_format="channels_first"):
            return np.moveaxis(x, 1, -1).reshape(len(x), *node.output_shape)
        case Flatten() | Reshape():
            return x.reshape(len(x), *node.output_shape)
        case Rescaling() as layer:
            return x * np.asarray(layer.scale, np.float32) + np.asarray(layer.offset, np.float32)
    return x  # Dropout does nothing after training


def _apply_dense(layer: Dense, weights: Sequence[Floats], x: Floats) -> Floats:
    y = x @ weights[0]
    if layer.use_bias:
        y += weights[1]
    return apply_activation(layer.activation, y)


def _apply_batch_normalization(
    layer: BatchNormalization, weights: Sequence[Floats], x: Floats
) -> Floats:
    # As in TensorFlow, the four arrays are folded into one factor and one shift.
    *scale_and_center, mean, variance = weights
    factor = 1 / np.sqrt(variance + np.float32(layer.epsilon))
    if layer.scale:
        factor = factor * scale_and_center[0]
    shift = -mean * factor
    if layer.center:
        shift = shift + scale_and_center[-1]
    shape = (-1, *[1] * (-1 - layer.axis))  # along the layer's axis
    y: Floats = x * factor.reshape(shape)
    y += shift.reshape(shape)
    return y
