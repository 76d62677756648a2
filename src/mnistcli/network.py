"""A layer plan becomes a Keras Sequential, compiled for a config; and its state, out and in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnistcli import layers as plan
from mnistcli.architecture import Architecture
from mnistcli.config.initializers import Initializer
from mnistcli.config.models import Model, TrainingConfig
from mnistcli.fast_layers import MAX_NARROW_UNITS, Dense, Dropout
from mnistcli.optimizer import make_loss, make_optimizer, make_regularizer
from mnistcli.state import Array, LayerState, NamedArray, NetworkState


@dataclass(frozen=True)
class Initialization:
    """How fresh weights are drawn; each layer draws from its own seed."""

    kernel: Initializer
    bias: Initializer
    seed: int


def _make_initializer(config: Initializer, seed: int) -> keras.initializers.Initializer:
    """Turn the config's initializer into Keras', seeded where it draws."""
    arguments = config.model_dump(exclude={"name"})
    if config.name not in ("zeros", "ones"):
        arguments["seed"] = seed
    return keras.initializers.deserialize({"class_name": config.name, "config": arguments})


def _make_layer(
    layer: plan.Layer, seeds: Sequence[int], initialization: Initialization | None
) -> keras.layers.Layer:
    """Build the Keras layer that a planned layer stands for."""
    match layer:
        case plan.Dense():
            drawn = {}
            if initialization is not None:
                drawn = {
                    "kernel_initializer": _make_initializer(initialization.kernel, seeds[0]),
                    "bias_initializer": _make_initializer(initialization.bias, seeds[1]),
                }
            kind = Dense if layer.units <= MAX_NARROW_UNITS else keras.layers.Dense
            return kind(
                layer.units, layer.activation, layer.use_bias, name=layer.name,
                kernel_regularizer=make_regularizer(layer.l1, layer.l2), **drawn,
            )  # fmt: skip
        case plan.Flatten():
            return keras.layers.Flatten(name=layer.name)
        case plan.Dropout():
            return Dropout(layer.rate, seed=seeds[0], name=layer.name)
        case plan.ActivationLayer():
            return keras.layers.Activation(layer.activation, name=layer.name)
        case plan.Reshape():
            return keras.layers.Reshape(layer.target_shape, name=layer.name)
        case plan.Rescaling():
            return keras.layers.Rescaling(layer.scale, layer.offset, name=layer.name)
        case _:
            return _make_image_layer(layer)


def _make_image_layer(layer: plan.Layer) -> keras.layers.Layer:
    """Build the layers that only other people's checkpoints have."""
    match layer:
        case plan.BatchNormalization():
            return keras.layers.BatchNormalization(
                epsilon=layer.epsilon, center=layer.center, scale=layer.scale, name=layer.name
            )
        case plan.Conv2D():
            return keras.layers.Conv2D(
                layer.filters, layer.kernel_size, layer.strides, layer.padding,
                dilation_rate=layer.dilation_rate, activation=layer.activation,
                use_bias=layer.use_bias, name=layer.name,
            )  # fmt: skip
        case plan.Pooling2D():
            kind = getattr(keras.layers, layer.type)
            return kind(layer.pool_size, layer.strides, layer.padding, name=layer.name)
        case plan.GlobalPooling2D():
            return getattr(keras.layers, layer.type)(name=layer.name)
        case _:
            raise AssertionError(layer)


def build_network(
    architecture: Architecture, initialization: Initialization | None = None
) -> keras.Sequential:
    """Return the planned network with fresh weights.

    Args:
        architecture: the plan.
        initialization: how weights are drawn and from which seed; without it they are Keras'
            defaults, to be overwritten by a checkpoint's.
    """
    seed = 0 if initialization is None else initialization.seed
    children = np.random.SeedSequence(seed).spawn(len(architecture.layers))
    network = keras.Sequential([keras.Input(architecture.input_shape)], name="sequential")
    for layer, child in zip(architecture.layers, children, strict=True):
        seeds = [int(number) & 0x7FFFFFFF for number in child.generate_state(2)]
        network.add(_make_layer(layer, seeds, initialization))
    return network


def initialize_network(architecture: Architecture, model: Model, seed: int) -> keras.Sequential:
    """Return the planned network with weights drawn as a config's model block says."""
    return build_network(
        architecture, Initialization(model.kernel_initializer, model.bias_initializer, seed)
    )


def compile_network(
    network: keras.Sequential, training: TrainingConfig, step_count: int = 1
) -> None:
    """Give a network its optimizer, loss and metrics, all variables built.

    Args:
        network: to be trained.
        training: what it is trained with.
        step_count: steps in an epoch; only schedules ask for it.
    """
    optimizer = make_optimizer(training, step_count)
    network.compile(optimizer=optimizer, loss=make_loss(training), metrics=["accuracy"])
    optimizer.build(network.trainable_variables)
    inputs = tf.zeros((1, *network.input_shape[1:]))
    labels = encode_labels(tf.zeros((1,), tf.int32), training.loss, network.output_shape[-1])
    outputs = network(inputs)
    network.compute_loss(inputs, labels, outputs)
    network.compute_metrics(inputs, labels, outputs)
    network.reset_metrics()


def encode_labels(labels: tf.Tensor, loss: str, units: int) -> tf.Tensor:
    """Return class indices [batch] in the form that a loss wants.

    Sparse cross-entropy takes them as they are; a single unit wants float32 [batch, 1]; the
    other losses want one-hot vectors, float32 [batch, units].
    """
    if units == 1:
        return tf.cast(labels, tf.float32)[:, tf.newaxis]
    if loss == "sparse_categorical_crossentropy":
        return tf.cast(labels, tf.int32)
    return tf.one_hot(tf.cast(labels, tf.int32), units)


def _name_arrays(variables: Sequence[keras.Variable]) -> tuple[NamedArray, ...]:
    """Copy variables out of the device under their Keras paths."""
    return tuple(NamedArray(v.path, np.array(v.numpy())) for v in variables)


def _list_generators(network: keras.Sequential) -> list[keras.Variable]:
    """List the dropout generators' states, which no Keras format keeps."""
    return [layer.seed_generator.state for layer in network.layers if _draws(layer)]


def _draws(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer has a random generator of its own."""
    return isinstance(layer, keras.layers.Dropout) and layer.rate > 0


def _describe_network(network: keras.Sequential) -> str:
    """Return Keras' JSON of the network, in which our layers are the plain ones."""
    config: dict[str, Any] = network.get_config()
    for layer in config["layers"]:
        if layer["class_name"] in ("Dense", "Dropout"):
            layer["module"], layer["registered_name"] = "keras.layers", None
    return json.dumps({"class_name": "Sequential", "config": config})


def _describe_training(network: keras.Sequential) -> str:
    """Return Keras' JSON of the compile arguments, as its .h5 files hold them."""
    optimizer, loss = network.optimizer, network.loss
    return json.dumps(
        {
            "loss": loss if isinstance(loss, str) else keras.losses.serialize(loss),
            "loss_weights": None,
            "metrics": ["accuracy"],
            "weighted_metrics": None,
            "optimizer_config": {
                "class_name": type(optimizer).__name__,
                "config": optimizer.get_config(),
            },
        }
    )


def capture_state(network: keras.Sequential) -> NetworkState:
    """Copy everything that training changes out of a compiled network."""
    return NetworkState(
        layers=copy_layers(network),
        optimizer=_name_arrays(network.optimizer.variables),
        generators=_name_arrays(_list_generators(network)),
        metrics=_name_arrays(network.metrics_variables),
        model_config=_describe_network(network),
        training_config=_describe_training(network),
    )


def copy_layers(network: keras.Sequential) -> tuple[LayerState, ...]:
    """Copy a network's weights out of the device."""
    return tuple(LayerState(la.name, _name_arrays(la.weights)) for la in network.layers)


def _assign(variables: Sequence[keras.Variable], arrays: Sequence[Array]) -> None:
    """Write arrays into variables; ValueError where number or shapes differ."""
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape:
            raise ValueError(f"{variable.path}: expected {variable.shape}, received {array.shape}")
        variable.assign(array)


def assign_weights(network: keras.Sequential, weights: Sequence[Array]) -> None:
    """Give a network its weights, in `Architecture.walk` order; ValueError where they differ."""
    _assign(network_weights(network), weights)


def network_weights(network: keras.Sequential) -> list[keras.Variable]:
    """List a network's weights layer by layer, without the dropout generators' states."""
    return [weight for layer in network.layers for weight in layer.weights]


def restore_state(network: keras.Sequential, state: NetworkState) -> None:
    """Write a captured state into a compiled network; ValueError where anything differs."""
    assign_weights(network, state.weights)
    _assign(network.optimizer.variables, [array.values for array in state.optimizer])
    _assign(_list_generators(network), [array.values for array in state.generators])
    _assign(network.metrics_variables, [array.values for array in state.metrics])
