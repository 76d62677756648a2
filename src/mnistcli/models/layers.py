"""The types of layers that a network may have: their settings, output shapes and weights' shapes.

Names of classes, arguments and weights are Keras'. Shapes are without the batch axis; images are
channel-last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mnistcli.config.schema import Activation

Shape = tuple[int, ...]
Padding = Literal["valid", "same"]


@dataclass(frozen=True)
class Weight:
    """An array of a layer: its Keras name, its shape, and whether training changes it."""

    name: str
    shape: Shape
    trainable: bool = True


@dataclass(frozen=True)
class Layer:
    """Base of all layers; by default the output has the input's shape, and there are no weights."""

    name: str

    @property
    def type(self) -> str:
        """The name of the Keras class."""
        return type(self).__name__

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of an output; ValueError if the input does not fit."""
        return input_shape

    def list_weights(self, input_shape: Shape) -> tuple[Weight, ...]:  # noqa: ARG002
        """Return the layer's arrays in Keras' order."""
        return ()


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer: activation(inputs · kernel + bias) over the last axis.

    Attributes:
        l1: factor of the L1 regularization of the kernel.
        l2: factor of the L2 regularization of the kernel.
    """

    units: int
    activation: Activation = "linear"
    use_bias: bool = True
    l1: float = 0.0
    l2: float = 0.0

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape with `units` as the last axis."""
        return (*input_shape[:-1], self.units)

    def list_weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        """Return kernel [inputs, units] and bias [units]."""
        kernel = Weight("kernel", (input_shape[-1], self.units))
        return (kernel, Weight("bias", (self.units,))) if self.use_bias else (kernel,)


@dataclass(frozen=True)
class Flatten(Layer):
    """Reshape to one axis."""

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the product of the axes."""
        return (math.prod(input_shape),)


@dataclass(frozen=True)
class Dropout(Layer):
    """Set a share `rate` of the inputs to zero, in training only."""

    rate: float


@dataclass(frozen=True)
class ActivationLayer(Layer):
    """An activation as a layer of its own."""

    activation: Activation

    @property
    def type(self) -> str:
        """Return Keras' name of the class."""
        return "Activation"


@dataclass(frozen=True)
class Reshape(Layer):
    """Reshape each input; one axis of the target shape may be -1."""

    target_shape: Shape

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the target shape with -1 resolved; ValueError if the sizes differ."""
        size, known = math.prod(input_shape), math.prod(n for n in self.target_shape if n != -1)
        shape = tuple(size // known if n == -1 else n for n in self.target_shape)
        if math.prod(shape) != size:
            raise ValueError(f"{self.name}: {input_shape} cannot become {self.target_shape}")
        return shape


@dataclass(frozen=True)
class Rescaling(Layer):
    """Compute inputs · scale + offset."""

    scale: float
    offset: float = 0.0


@dataclass(frozen=True)
class BatchNormalization(Layer):
    """Normalise the last axis with the moving mean and variance from training."""

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True

    def list_weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        """Return gamma and beta, as far as the layer has them, moving_mean and moving_variance."""
        shape = (input_shape[-1],)
        gamma = (Weight("gamma", shape),) if self.scale else ()
        beta = (Weight("beta", shape),) if self.center else ()
        mean, variance = (
            Weight("moving_mean", shape, False),
            Weight("moving_variance", shape, False),
        )
        return (*gamma, *beta, mean, variance)


@dataclass(frozen=True)
class Conv2D(Layer):
    """Convolution over height and width, then the activation."""

    filters: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "valid"
    dilation_rate: tuple[int, int] = (1, 1)
    activation: Activation = "linear"
    use_bias: bool = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return height, width and filters; ValueError if the dilated kernel does not fit."""
        rows, columns = (
            (k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation_rate, strict=True)
        )
        return (*_slide(input_shape, (rows, columns), self.strides, self.padding), self.filters)

    def list_weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        """Return kernel [height, width, channels, filters] and bias [filters]."""
        kernel = Weight("kernel", (*self.kernel_size, input_shape[-1], self.filters))
        return (kernel, Weight("bias", (self.filters,))) if self.use_bias else (kernel,)


@dataclass(frozen=True)
class Pooling2D(Layer):
    """The maximum or the average of each window."""

    operation: Literal["Max", "Average"]
    pool_size: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = (2, 2)
    padding: Padding = "valid"

    @property
    def type(self) -> str:
        """Return Keras' name of the class."""
        return f"{self.operation}Pooling2D"

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return height, width and channels; ValueError if the window does not fit."""
        size = _slide(input_shape, self.pool_size, self.strides, self.padding)
        return (*size, input_shape[-1])


@dataclass(frozen=True)
class GlobalPooling2D(Layer):
    """The maximum or the average of each channel."""

    operation: Literal["Max", "Average"]

    @property
    def type(self) -> str:
        """Return Keras' name of the class."""
        return f"Global{self.operation}Pooling2D"

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the number of channels; ValueError without an image."""
        _require_image(input_shape)
        return (input_shape[-1],)


def _require_image(shape: Shape) -> None:
    if len(shape) != 3:
        raise ValueError(f"expected images of (height, width, channels), received {shape}")


def _slide(
    shape: Shape, window: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    """Return height and width of the output of a sliding window; ValueError without an image."""
    _require_image(shape)
    height = _count_windows(shape[0], window[0], strides[0], padding)
    return height, _count_windows(shape[1], window[1], strides[1], padding)


def _count_windows(size: int, window: int, stride: int, padding: Padding) -> int:
    """Return how often a window fits along one axis, as TensorFlow counts."""
    count = -(-size // stride) if padding == "same" else (size - window) // stride + 1
    if count < 1:
        raise ValueError(f"a window of {window} does not fit into {size}")
    return count
