"""The architecture of a network: its layers, their shapes and parameters, without weights.

An architecture comes from a config (`plan_architecture`) or from the description of the network in
a checkpoint. Shapes are without the batch axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile

from mnistcli.config.schema import Activation, MlpModel, Model, SoftmaxModel
from mnistcli.models.layers import (
    IMAGE_LAYERS,
    ActivationLayer,
    Conv2D,
    Dense,
    Dropout,
    DtypePolicy,
    Flatten,
    GlobalPooling2D,
    Layer,
    Pooling2D,
    Regularizer,
    Reshape,
    Shape,
    Weight,
    move_channels_back,
    move_channels_last,
)

_PROBABILITIES: tuple[Activation, ...] = ("softmax", "sigmoid", "hard_sigmoid")
_KEEPING_RANGE = (Dropout, Flatten, Reshape, Pooling2D, GlobalPooling2D)


@dataclass(frozen=True)
class Head:
    """The end of a network.

    Attributes:
        activation: turns logits into the network's outputs.
        is_after_probabilities: what is called logits are probabilities already: of an activation
            that stands before layers that only reshape or pool.
        dtype: the dtype policy of the outputs.
    """

    activation: Activation
    is_after_probabilities: bool = False
    dtype: DtypePolicy = "float32"

    @property
    def gives_probabilities(self) -> bool:
        """Return whether the outputs are probabilities; otherwise they are scores."""
        return self.activation in _PROBABILITIES or self.is_after_probabilities


@dataclass(frozen=True)
class LayerNode:
    """A layer in a network, with the shapes of its input and output and its weights."""

    layer: Layer
    input_shape: Shape
    output_shape: Shape
    weights: tuple[Weight, ...]

    @property
    def parameter_count(self) -> int:
        """Number of parameters of the layer."""
        return sum(math.prod(weight.shape) for weight in self.weights)


@dataclass(frozen=True)
class Architecture:
    """A Sequential network: the shape of an input, and the layers in order.

    Attributes:
        input_shape: the shape of an input.
        layers: in order.
        is_input_open: whether other input shapes may do; the file that it comes from says none.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]
    is_input_open: bool = False

    def iter_layers(self) -> Iterator[LayerNode]:
        """Yield the layers with their shapes; ValueError if one does not fit its input."""
        shape = self.input_shape
        for layer in self.layers:
            output_shape = layer.compute_output_shape(shape)
            yield LayerNode(layer, shape, output_shape, layer.list_weights(shape))
            shape = output_shape

    @property
    def output_shape(self) -> Shape:
        """The shape of an output; that of the input if there are no layers."""
        shape = self.input_shape
        for node in self.iter_layers():
            shape = node.output_shape
        return shape

    @property
    def parameter_count(self) -> int:
        """Number of parameters of all layers."""
        return sum(node.parameter_count for node in self.iter_layers())

    @property
    def trainable_count(self) -> int:
        """Number of trainable parameters."""
        return sum(math.prod(w.shape) for s in self.iter_layers() for w in s.weights if w.trainable)

    @property
    def image_shape(self) -> Shape:
        """The input's shape with the channels last; the input's own if it has no channels."""
        if len(self.input_shape) != 3:
            return self.input_shape
        ahead = takewhile(lambda layer: not isinstance(layer, Reshape), self.layers)
        formats = (la.data_format for la in ahead if isinstance(la, (*IMAGE_LAYERS, Flatten)))
        return move_channels_last(self.input_shape, next(formats, "channels_last"))

    @property
    def head(self) -> Head:
        """The end of the network, which turns logits into its outputs."""
        last = self._layers_to_head[-1]
        activation = _get_activation(last)
        before = [la for la in self.layers if not isinstance(la, _KEEPING_RANGE)]
        while before and _does_nothing(before[-1]):
            before.pop()
        is_after = bool(before) and _get_activation(before[-1]) in _PROBABILITIES
        return Head(activation, activation == "linear" and is_after, last.dtype)

    @property
    def weight_shapes(self) -> tuple[tuple[Shape, ...], ...]:
        """The shapes of the arrays of each layer that has any."""
        weights = (node.weights for node in self.iter_layers() if node.weights)
        return tuple(tuple(weight.shape for weight in arrays) for arrays in weights)

    def fit_input(self, image_shape: Shape) -> Architecture:
        """Return the network for images of a shape, if its input is open and the weights allow it.

        Otherwise the network itself.
        """
        if not self.is_input_open:
            return self
        channels_first = move_channels_back(image_shape, "channels_first")
        for shape in (image_shape, (*image_shape, 1), (1, *image_shape), channels_first):
            with suppress(ValueError):
                fitted = replace(self, input_shape=shape)
                if (len(shape), fitted.weight_shapes) == (
                    len(self.input_shape),
                    self.weight_shapes,
                ):
                    return fitted
        return self

    def with_precision(self, dtype: DtypePolicy) -> Architecture:
        """Return the network with a dtype policy for all layers but the last.

        The last keeps its own, float32, as Keras' guide to mixed precision advises: a loss of
        rounded logits is coarse.
        """
        *body, last = self.layers
        return replace(self, layers=(*(replace(layer, dtype=dtype) for layer in body), last))

    def without_output_activation(self) -> Architecture:
        """Return the network without its output activation: its outputs are logits."""
        *before, last = self._layers_to_head
        if isinstance(last, ActivationLayer):
            return replace(self, layers=tuple(before))
        if isinstance(last, Dense | Conv2D):
            last = replace(last, activation="linear")
        return replace(self, layers=(*before, last))

    @property
    def _layers_to_head(self) -> tuple[Layer, ...]:
        # Keras looks for the logits behind layers at the end that do nothing.
        end = len(self.layers)
        while end > 1 and _does_nothing(self.layers[end - 1]):
            if self.layers[end - 1].dtype != self.layers[end - 2].dtype:
                break  # it converts its inputs
            end -= 1
        return self.layers[:end]


def plan_architecture(model: Model, image_shape: Shape, class_count: int) -> Architecture:
    """Return the network of a config's model block for a data set.

    Args:
        model: the model block.
        image_shape: of one image, (28, 28) for MNIST.
        class_count: number of classes; for two with a sigmoid, the network has one output unit.
    """
    names = _LayerNames()
    layers: list[Layer] = []
    if model.flatten:
        layers.append(Flatten(names.make("flatten")))
    if not isinstance(model, SoftmaxModel):
        layers.extend(_plan_hidden(model, names))
    is_one_unit = class_count == 2 and model.output_activation == "sigmoid"
    units = 1 if is_one_unit else class_count
    name = names.make("dense")
    layers.append(
        Dense(name, units, model.output_activation, regularizers=_plan_regularizers(model))
    )
    input_shape = image_shape if model.flatten else (math.prod(image_shape),)
    return Architecture(input_shape, tuple(layers))


def _get_activation(layer: Layer) -> Activation:
    return layer.activation if isinstance(layer, ActivationLayer | Dense | Conv2D) else "linear"


def _does_nothing(layer: Layer) -> bool:
    is_linear = isinstance(layer, ActivationLayer) and layer.activation == "linear"
    return is_linear or isinstance(layer, Dropout)


def _plan_regularizers(model: Model) -> tuple[Regularizer, ...]:
    return (Regularizer("kernel", model.l1, model.l2),) if model.l1 or model.l2 else ()


class _LayerNames:
    """The names that Keras gives to layers in a new session (dense, dense_1, …)."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def make(self, kind: str) -> str:
        count = self._counts.get(kind, 0)
        self._counts[kind] = count + 1
        return f"{kind}_{count}" if count else kind


def _plan_hidden(model: MlpModel, names: _LayerNames) -> Iterator[Layer]:
    for hidden in model.hidden:
        name = hidden.name or names.make("dense")
        activation = hidden.activation or model.activation
        yield Dense(name, hidden.units, activation, regularizers=_plan_regularizers(model))
        rate = model.dropout if hidden.dropout is None else hidden.dropout
        if rate > 0:
            yield Dropout(names.make("dropout"), rate)
