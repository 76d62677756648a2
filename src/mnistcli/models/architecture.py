"""The layer plan: which layers a network has, their shapes and their parameters. Pure arithmetic.

A plan comes from a config (`plan_architecture`) or from a checkpoint's own description of its
network; it never holds weights. Shapes leave the batch axis out. Images are channel-last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mnistcli.config.schema import Activation, MlpModel, Model, SoftmaxModel
from mnistcli.models.layers import (
    ActivationLayer,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Shape,
    Weight,
)


@dataclass(frozen=True)
class LayerNode:
    """One layer in its place: what comes in, what goes out, what it holds."""

    layer: Layer
    input_shape: Shape
    output_shape: Shape
    weights: tuple[Weight, ...]

    @property
    def parameter_count(self) -> int:
        """Number of numbers in the layer's arrays."""
        return sum(math.prod(weight.shape) for weight in self.weights)


@dataclass(frozen=True)
class Architecture:
    """A Sequential network: the shape of one input, and the layers in order."""

    input_shape: Shape
    layers: tuple[Layer, ...]

    def iter_layers(self) -> Iterator[LayerNode]:
        """Go through the layers with their shapes; ValueError where one does not fit the next."""
        shape = self.input_shape
        for layer in self.layers:
            output_shape = layer.compute_output_shape(shape)
            yield LayerNode(layer, shape, output_shape, layer.list_weights(shape))
            shape = output_shape

    @property
    def output_shape(self) -> Shape:
        """The shape of one output; the input's where there are no layers."""
        shape = self.input_shape
        for node in self.iter_layers():
            shape = node.output_shape
        return shape

    @property
    def parameter_count(self) -> int:
        """Number of numbers in all arrays."""
        return sum(node.parameter_count for node in self.iter_layers())

    @property
    def trainable_count(self) -> int:
        """Number of numbers that training changes."""
        return sum(math.prod(w.shape) for s in self.iter_layers() for w in s.weights if w.trainable)

    @property
    def output_activation(self) -> Activation:
        """The activation that makes the network's output of its logits."""
        last = self.layers[-1]
        return last.activation if isinstance(last, ActivationLayer | Dense | Conv2D) else "linear"

    def without_output_activation(self) -> Architecture:
        """Return the same network with its logits as output."""
        last = self.layers[-1]
        if isinstance(last, ActivationLayer):
            return Architecture(self.input_shape, self.layers[:-1])
        if isinstance(last, Dense | Conv2D):
            return Architecture(
                self.input_shape, (*self.layers[:-1], replace(last, activation="linear"))
            )
        return self


class _Names:
    """Gives layers the names that Keras gives in a fresh session (dense, dense_1, …)."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def take(self, kind: str) -> str:
        count = self._counts.get(kind, 0)
        self._counts[kind] = count + 1
        return f"{kind}_{count}" if count else kind


def _plan_hidden(model: MlpModel, names: _Names) -> Iterator[Layer]:
    """List the hidden layers, each followed by its dropout where it has one."""
    for hidden in model.hidden:
        name = hidden.name or names.take("dense")
        activation = hidden.activation or model.activation
        yield Dense(name, hidden.units, activation, l1=model.l1, l2=model.l2)
        rate = model.dropout if hidden.dropout is None else hidden.dropout
        if rate > 0:
            yield Dropout(names.take("dropout"), rate)


def plan_architecture(model: Model, image_shape: Shape, class_count: int) -> Architecture:
    """Return the layers that a config's model block means for a data set.

    Args:
        model: the config's model block.
        image_shape: of one example, (28, 28) for MNIST.
        class_count: number of classes; between two a single sigmoid unit decides.
    """
    names = _Names()
    layers: list[Layer] = []
    if model.flatten:
        layers.append(Flatten(names.take("flatten")))
    if not isinstance(model, SoftmaxModel):
        layers.extend(_plan_hidden(model, names))
    is_one_unit = class_count == 2 and model.output_activation == "sigmoid"
    units = 1 if is_one_unit else class_count
    name = names.take("dense")
    layers.append(Dense(name, units, model.output_activation, l1=model.l1, l2=model.l2))
    input_shape = image_shape if model.flatten else (math.prod(image_shape),)
    return Architecture(input_shape, tuple(layers))
