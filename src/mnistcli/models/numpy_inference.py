"""A trained network's forward pass in NumPy, without waiting for TensorFlow.

What NumPy does not do here (convolution, pooling) is handed to Keras. Everything stops at the
logits: what the output layer's activation makes of them is `compute_probabilities`' part, since
losses are computed from logits.

What the kernels' penalties add to a loss: `model.l1` and `model.l2`, or a Keras file's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.run_state import Array
from mnistcli.errors import DataError
from mnistcli.models.activations import Floats, apply_activation
from mnistcli.models.architecture import Architecture, Stage
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.layers import (
    ActivationLayer,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    GlobalPooling2D,
    Pooling2D,
    Rescaling,
    Reshape,
    Shape,
)
from mnistcli.tensorflow_import import load_backend


def compute_penalty(architecture: Architecture, weights: Sequence[Array]) -> float:
    """Return l1 · Σ|w| + l2 · Σw² over the kernels of all Dense layers.

    Keras counts it into the loss that it trains on and that `model.evaluate` reports.

    Args:
        architecture: the network.
        weights: its arrays in `Architecture.walk` order.
    """
    rest, penalty = iter(weights), 0.0
    for stage in architecture.walk():
        arrays = [next(rest) for _ in stage.weights]
        if isinstance(stage.layer, Dense) and (stage.layer.l1 or stage.layer.l2):
            kernel = arrays[0].astype(np.float64)
            penalty += stage.layer.l1 * float(np.abs(kernel).sum())
            penalty += stage.layer.l2 * float(np.square(kernel).sum())
    return penalty


Forward = Callable[[Floats], Floats]

BATCH_SIZE_ROWS = 1024
MAX_BATCH_VALUES = 1 << 25  # of the widest layer's output in one batch: 128 MiB of float32


def is_numpy(architecture: Architecture) -> bool:
    """Say whether the forward pass needs nothing but NumPy."""
    return not any(
        isinstance(layer, Conv2D | Pooling2D | GlobalPooling2D) for layer in architecture.layers
    )


def _apply_dense(layer: Dense, weights: Sequence[Floats], x: Floats) -> Floats:
    y = x @ weights[0]
    if layer.use_bias:
        y += weights[1]
    return apply_activation(layer.activation, y)


def _apply_batch_normalization(
    layer: BatchNormalization, weights: Sequence[Floats], x: Floats
) -> Floats:
    """Fold the four arrays into one product and one sum, as TensorFlow does."""
    *scale_and_center, mean, variance = weights
    factor = 1 / np.sqrt(variance + np.float32(layer.epsilon))
    if layer.scale:
        factor = factor * scale_and_center[0]
    shift = -mean * factor
    if layer.center:
        shift = shift + scale_and_center[-1]
    y: Floats = x * factor
    y += shift
    return y


def _apply_layer(stage: Stage, weights: Sequence[Floats], x: Floats) -> Floats:
    """Send one batch through one layer; Dropout lets it through untouched."""
    match stage.layer:
        case Dense() as layer:
            return _apply_dense(layer, weights, x)
        case BatchNormalization() as layer:
            return _apply_batch_normalization(layer, weights, x)
        case ActivationLayer() as layer:
            return apply_activation(layer.activation, x)
        case Flatten() | Reshape():
            return x.reshape(len(x), *stage.output_shape)
        case Rescaling() as layer:
            return x * np.float32(layer.scale) + np.float32(layer.offset)
    return x


def _pair_weights(
    architecture: Architecture, weights: Sequence[Floats]
) -> Iterator[tuple[Stage, tuple[Floats, ...]]]:
    """Give each layer its arrays; a wrong one would be broadcast without a word."""
    expected = [weight.shape for stage in architecture.walk() for weight in stage.weights]
    received = [array.shape for array in weights]
    if expected != received:
        raise ValueError(f"expected arrays of shapes {expected}, received {received}")
    arrays = iter(weights)
    for stage in architecture.walk():
        yield stage, tuple(islice(arrays, len(stage.weights)))


def _build_numpy_forward(architecture: Architecture, weights: Sequence[Floats]) -> Forward:
    """Return the network as a function of one batch of inputs."""
    pairs = list(_pair_weights(architecture, weights))

    def forward(x: Floats) -> Floats:
        with np.errstate(all="ignore"):  # as silent as Keras: not-finite logits say it all
            for stage, arrays in pairs:
                x = _apply_layer(stage, arrays, x)
        return x

    return forward


def _build_keras_forward(architecture: Architecture, weights: Sequence[Floats]) -> Forward:
    """Return the network as a function of one batch, for the layers that NumPy does not do."""
    load_backend()
    import keras

    from mnistcli.training.compile_model import build_network
    from mnistcli.training.network_state import assign_weights

    network = build_network(architecture)
    assign_weights(network, weights)

    def forward(x: Floats) -> Floats:
        logits: Floats = keras.ops.convert_to_numpy(network(x, training=False))
        return logits

    return forward


def _count_batch_rows(architecture: Architecture, batch_size_rows: int) -> int:
    """Keep the widest layer's output within bounds, whatever a checkpoint holds."""
    widest = max(
        math.prod(architecture.input_shape),
        *(math.prod(stage.output_shape) for stage in architecture.walk()),
    )
    return max(1, min(batch_size_rows, MAX_BATCH_VALUES // widest))


def _run_batches(
    architecture: Architecture,
    weights: Sequence[Floats],
    count: int,
    batch_size_rows: int,
    make_inputs: Callable[[slice], Floats],
) -> Floats:
    """Collect the logits of `count` examples, whose inputs are made a batch at a time."""
    build = _build_numpy_forward if is_numpy(architecture) else _build_keras_forward
    logits = np.empty((count, *architecture.output_shape), np.float32)
    rows = _count_batch_rows(architecture, batch_size_rows)
    forward = build(architecture.without_head(), weights)
    for start in range(0, count, rows):
        batch = slice(start, start + rows)
        logits[batch] = forward(make_inputs(batch))
    return logits


def compute_logits(architecture: Architecture, weights: Sequence[Floats], inputs: Floats) -> Floats:
    """Return what the network's output activation is applied to.

    Args:
        architecture: the layer plan.
        weights: all arrays of all layers, float32, in the plan's order (which is Keras').
        inputs: float32 [n, *input_shape], preprocessed.

    Returns:
        float32 [n, units].

    Raises:
        ValueError: the weights are not those of the plan.
    """
    return _run_batches(
        architecture, weights, len(inputs), BATCH_SIZE_ROWS, lambda batch: inputs[batch]
    )


def run_network(
    architecture: Architecture,
    weights: Sequence[Floats],
    images: NDArray[np.uint8],
    preprocessing: Preprocessing,
    batch_size_rows: int = BATCH_SIZE_ROWS,
) -> Floats:
    """Return the logits of raw images, which are preprocessed a batch at a time.

    Args:
        architecture: the layer plan.
        weights: all arrays of all layers, float32, in the plan's order.
        images: uint8 [n, *image_shape]; flattened or not, with a channel axis of 1 or without
            one, they are given the network's input shape.
        preprocessing: what the network was trained with.
        batch_size_rows: images at a time; fewer for networks with huge layers.

    Returns:
        float32 [n, units].

    Raises:
        DataError: images of this shape do not fit the network.
        ValueError: the weights are not those of the plan.
    """
    shape = architecture.input_shape
    if not is_same_layout(images.shape[1:], shape):
        raise DataError(
            "network",
            f"its input has the shape {shape}, the images have {images.shape[1:]}",
            "use the data set that it was trained on",
        )
    return _run_batches(
        architecture,
        weights,
        len(images),
        batch_size_rows,
        lambda batch: preprocessing.apply(images[batch]).reshape(-1, *shape),
    )


def is_same_layout(image_shape: Shape, input_shape: Shape) -> bool:
    """Tell whether images of a shape fit a network's input.

    Flattening, unflattening and axes of 1 are allowed; (3, 32, 32) for (32, 32, 3) would be noise.
    """
    image, wanted = (
        tuple(size for size in shape if size != 1) for shape in (image_shape, input_shape)
    )
    is_flat = len(image) <= 1 or len(wanted) <= 1
    return image == wanted or (is_flat and math.prod(image) == math.prod(wanted))


def compute_probabilities(architecture: Architecture, logits: Floats) -> Floats:
    """Return the network's output: its last activation, applied to its logits.

    Args:
        architecture: the layer plan.
        logits: float32 [n, units].

    Returns:
        float32 [n, units]; for a network with one sigmoid unit [n, 1], the raw sigmoid.
    """
    return apply_activation(architecture.head, logits)
