"""The kinds of layers that a network here may have: their shapes and their arrays. No weights.

Names of classes, arguments and arrays are Keras'. Shapes leave the batch axis out; images are
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
    """One array of a layer: its Keras name, its shape, and whether training changes it."""

    name: str
    shape: Shape
    trainable: bool = True


@dataclass(frozen=True)
class Layer:
    """A layer that keeps its input's shape and has no weights, unless it says otherwise."""

    name: str

    @property
    def type(self) -> str:
        """The name of the Keras class."""
        return type(self).__name__

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output; ValueError where the input does not fit."""
        return input_shape

    def list_weights(self, input_shape: Shape) -> tuple[Weight, ...]:  # noqa: ARG002
        """Return the layer's arrays in Keras' order."""
        return ()


@dataclass(frozen=True)
class Dense(Layer):
    """units outputs, each a weighted sum of the last axis, then the activation.

    Attributes:
        l1: times the sum of the kernel's absolute values, added to the loss.
        l2: times the sum of the kernel's squares, added to the loss.
    """

    units: int
    activation: Activation = "linear"
    use_bias: bool = True
    l1: float = 0.0
    l2: float = 0.0

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Replace the last axis by the units."""
        return (*input_shape[:-1], self.units)

    def list_weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        """Return kernel [inputs, units] and bias [units]."""
        kernel = Weight("kernel", (input_shape[-1], self.units))
        return (kernel, Weight("bias", (self.units,))) if self.use_bias else (kernel,)


@dataclass(frozen=True)
class Flatten(Layer):
    """All axes become one."""

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Multiply the axes."""
        return (math.prod(input_shape),)


@dataclass(frozen=True)
class Dropout(Layer):
    """Drops a share `rate` of its inputs in training; does nothing afterwards."""

    rate: float


@dataclass(frozen=True)
class ActivationLayer(Layer):
    """An activation that stands alone."""

    activation: Activation

    @property
    def type(self) -> str:
        """Return Keras' name of the class."""
        return "Activation"


@dataclass(frozen=True)
class Reshape(Layer):
    """Gives each example another shape; one axis of the target may be -1."""

    target_shape: Shape

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Resolve the -1; ValueError where the sizes differ."""
        size, known = math.prod(input_shape), math.prod(n for n in self.target_shape if n != -1)
        shape = tuple(size // known if n == -1 else n for n in self.target_shape)
        if math.prod(shape) != size:
            raise ValueError(f"{self.name}: {input_shape} cannot become {self.target_shape}")
        return shape


@dataclass(frozen=True)
class Rescaling(Layer):
    """inputs x scale + offset."""

    scale: float
    offset: float = 0.0


@dataclass(frozen=True)
class BatchNormalization(Layer):
    """Normalises the last axis with the moving mean and variance that training left."""

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True

    def list_weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        """Return gamma, beta, moving_mean, moving_variance: those that the layer has."""
        shape = (input_shape[-1],)
        gamma = (Weight("gamma", shape),) if self.scale else ()
        beta = (Weight("beta", shape),) if self.center else ()
        mean, variance = (
            Weight("moving_mean", shape, False),
            Weight("moving_variance", shape, False),
        )
        return (*gamma, *beta, mean, variance)


def _count_windows(size: int, window: int, stride: int, padding: Padding) -> int:
    """Say how often a window fits along one axis, as TensorFlow counts."""
    count = -(-size // stride) if padding == "same" else (size - window) // stride + 1
    if count < 1:
        raise ValueError(f"a window of {window} does not fit into {size}")
    return count


def _require_image(shape: Shape) -> None:
    """Stop where a layer for images meets something else."""
    if len(shape) != 3:
        raise ValueError(f"expected images of (height, width, channels), received {shape}")


def _slide(
    shape: Shape, window: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    """Give height and width after a window was slid over an image; ValueError if it is none."""
    _require_image(shape)
    height = _count_windows(shape[0], window[0], strides[0], padding)
    return height, _count_windows(shape[1], window[1], strides[1], padding)


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
        """Slide the dilated kernel; ValueError where it does not fit."""
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
    """The largest value or the mean of each window."""

    operation: Literal["Max", "Average"]
    pool_size: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = (2, 2)
    padding: Padding = "valid"

    @property
    def type(self) -> str:
        """Return Keras' name of the class."""
        return f"{self.operation}Pooling2D"

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Slide the window; ValueError where it does not fit."""
        size = _slide(input_shape, self.pool_size, self.strides, self.padding)
        return (*size, input_shape[-1])


@dataclass(frozen=True)
class GlobalPooling2D(Layer):
    """The largest value or the mean of each channel."""

    operation: Literal["Max", "Average"]

    @property
    def type(self) -> str:
        """Return Keras' name of the class."""
        return f"Global{self.operation}Pooling2D"

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Keep the channels; ValueError where there are none."""
        _require_image(input_shape)
        return (input_shape[-1],)
