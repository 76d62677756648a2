"""The types of layers that a network may have: their settings, output shapes and weights' shapes.

Names of classes, arguments and weights are Keras'. Shapes are without the batch axis. Images have
their channels last, but for layers whose `data_format` says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from mnistcli.config.schema import Activation

Shape = tuple[int, ...]
Padding = Literal["valid", "same"]
DataFormat = Literal["channels_last", "channels_first"]
DtypePolicy = Literal[
    "float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"
]


@dataclass(frozen=True)
class Weight:
    """An array of a layer: its Keras name, its shape, and whether training changes it."""

    name: str
    shape: Shape
    trainable: bool = True


ACTIVITY = "activity"


@dataclass(frozen=True)
class Regularizer:
    """A penalty that Keras adds to the loss: l1 · Σ|x| + l2 · Σx².

    Attributes:
        target: the layer's array that it is computed of, `kernel`, `bias` …, or `activity`, its
            outputs.
        unknown: the name of a regularizer that is not of this form; its penalty is not known.
    """

    target: str
    l1: float = 0.0
    l2: float = 0.0
    unknown: str | None = None


@dataclass(frozen=True)
class Layer:
    """Base of all layers; by default the output has the input's shape, and there are no weights.

    Attributes:
        name: Keras' name of the layer.
        dtype: Keras' dtype policy, in which Keras computes the layer.
        regularizers: what Keras adds to the loss.
    """

    name: str
    dtype: DtypePolicy = field(default="float32", kw_only=True)
    regularizers: tuple[Regularizer, ...] = field(default=(), kw_only=True)

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
    """A fully connected layer: activation(inputs · kernel + bias) over the last axis."""

    units: int
    activation: Activation = "linear"
    use_bias: bool = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape with `units` as the last axis."""
        return (*input_shape[:-1], self.units)

    def list_weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        """Return kernel [inputs, units] and bias [units]."""
        kernel = Weight("kernel", (input_shape[-1], self.units))
        return (kernel, Weight("bias", (self.units,))) if self.use_bias else (kernel,)


@dataclass(frozen=True)
class Flatten(Layer):
    """Reshape to one axis; the first axis is moved to the end before if channels are first."""

    data_format: DataFormat = "channels_last"

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
class ReLU(Layer):
    """A ReLU with settings: min(x, max_value) from threshold on, below it a slope."""

    max_value: float | None = None
    negative_slope: float = 0.0
    threshold: float = 0.0


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """A ReLU with a slope for negative inputs."""

    negative_slope: float = 0.3


@dataclass(frozen=True)
class ELU(Layer):
    """x from 0 on, alpha · (exp(x) - 1) below."""

    alpha: float = 1.0


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
    """Compute inputs · scale + offset: two numbers, or one for each channel."""

    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...] = 0.0

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape; ValueError if it has another number of channels."""
        for values in (self.scale, self.offset):
            if isinstance(values, tuple) and len(values) not in (1, input_shape[-1]):
                raise ValueError(f"{len(values)} numbers for {input_shape[-1]} channels")
        return input_shape


@dataclass(frozen=True)
class BatchNormalization(Layer):
    """Normalise one axis with the moving mean and variance from training.

    Attributes:
        axis: which one, counted from the end: -1 is the last.
    """

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    axis: int = -1

    def list_weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        """Return gamma and beta, as far as the layer has them, moving_mean and moving_variance."""
        shape = (input_shape[self.axis],)
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
    groups: int = 1
    data_format: DataFormat = "channels_last"

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return height, width and filters; ValueError if the dilated kernel does not fit."""
        rows, columns = (
            (k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation_rate, strict=True)
        )
        image = move_channels_last(input_shape, self.data_format)
        if image[-1] % self.groups or self.filters % self.groups:
            raise ValueError(
                f"{self.groups} groups of {image[-1]} channels, {self.filters} filters"
            )
        size = _slide(image, (rows, columns), self.strides, self.padding)
        return move_channels_back((*size, self.filters), self.data_format)

    def list_weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        """Return kernel [height, width, channels of a group, filters] and bias [filters]."""
        channels = move_channels_last(input_shape, self.data_format)[-1] // self.groups
        kernel = Weight("kernel", (*self.kernel_size, channels, self.filters))
        return (kernel, Weight("bias", (self.filters,))) if self.use_bias else (kernel,)


@dataclass(frozen=True)
class Pooling2D(Layer):
    """The maximum or the average of each window."""

    operation: Literal["Max", "Average"]
    pool_size: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = (2, 2)
    padding: Padding = "valid"
    data_format: DataFormat = "channels_last"

    @property
    def type(self) -> str:
        """Return Keras' name of the class."""
        return f"{self.operation}Pooling2D"

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return height, width and channels; ValueError if the window does not fit."""
        image = move_channels_last(input_shape, self.data_format)
        size = _slide(image, self.pool_size, self.strides, self.padding)
        return move_channels_back((*size, image[-1]), self.data_format)


@dataclass(frozen=True)
class GlobalPooling2D(Layer):
    """The maximum or the average of each channel."""

    operation: Literal["Max", "Average"]
    keepdims: bool = False
    data_format: DataFormat = "channels_last"

    @property
    def type(self) -> str:
        """Return Keras' name of the class."""
        return f"Global{self.operation}Pooling2D"

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the number of channels; ValueError without an image."""
        channels = move_channels_last(input_shape, self.data_format)[-1]
        kept = (1, 1) * self.keepdims
        return move_channels_back((*kept, channels), self.data_format)


IMAGE_LAYERS = (Conv2D, Pooling2D, GlobalPooling2D)


def move_channels_last(shape: Shape, data_format: DataFormat) -> Shape:
    """Return an image's shape as (height, width, channels); ValueError without an image."""
    _require_image(shape)
    return (*shape[1:], shape[0]) if data_format == "channels_first" else shape


def move_channels_back(shape: Shape, data_format: DataFormat) -> Shape:
    """Return a shape with channels last as one of the data format."""
    return (shape[-1], *shape[:-1]) if data_format == "channels_first" else shape


def _require_image(shape: Shape) -> None:
    if len(shape) != 3:
        raise ValueError(f"expected images of (height, width, channels), received {shape}")


def _slide(
    shape: Shape, window: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    """Return height and width of the output of a sliding window; ValueError if it does not fit."""
    height = _count_windows(shape[0], window[0], strides[0], padding)
    return height, _count_windows(shape[1], window[1], strides[1], padding)


def _count_windows(size: int, window: int, stride: int, padding: Padding) -> int:
    """Return how often a window fits along one axis, as TensorFlow counts."""
    count = -(-size // stride) if padding == "same" else (size - window) // stride + 1
    if count < 1:
        raise ValueError(f"a window of {window} does not fit into {size}")
    return count
