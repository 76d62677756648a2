"""Captures everything that training changes in a network as arrays, and restores it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnistcli.checkpoints.run_state import Array, LayerState, NamedArray, NetworkState
from mnistcli.models.activations import Floats
from mnistcli.models.architecture import Architecture
from mnistcli.models.numpy_inference import Forward
from mnistcli.training.compile_model import build_network


def capture_state(network: keras.Sequential) -> NetworkState:
    """Copy weights, optimizer, generators and metric sums of a compiled network."""
    return NetworkState(
        layers=copy_layers(network),
        optimizer=_name_arrays(network.optimizer.variables),
        generators=_name_arrays(_list_generators(network)),
        metrics=_name_arrays(network.metrics_variables),
        model_config=_describe_network(network),
        training_config=_describe_training(network),
    )


def restore_state(network: keras.Sequential, state: NetworkState) -> None:
    """Restore a captured state into a compiled network; ValueError where shapes differ."""
    assign_weights(network, state.weights)
    _assign(network.optimizer.variables, [array.values for array in state.optimizer])
    _assign(_list_generators(network), [array.values for array in state.generators])
    _assign_sums(network, [array.values for array in state.metrics])


def assign_weights(network: keras.Sequential, weights: Sequence[Array]) -> None:
    """Assign weights in `Architecture.iter_layers` order; ValueError if shapes differ."""
    _assign(network_weights(network), weights)


def copy_layers(network: keras.Sequential) -> tuple[LayerState, ...]:
    """Copy a network's weights off the device."""
    return tuple(LayerState(la.name, _name_arrays(la.weights)) for la in network.layers)


def network_weights(network: keras.Sequential) -> list[keras.Variable]:
    """List a network's weights layer by layer, without the dropout generators' states."""
    return [weight for layer in network.layers for weight in layer.weights]


def build_keras_forward(architecture: Architecture, weights: Sequence[Floats]) -> Forward:
    """Return the network as a function of one batch of inputs, computed by Keras.

    Args:
        architecture: the network, of any of the layers that checkpoints may have.
        weights: its float32 arrays in `Architecture.iter_layers` order.

    Raises:
        ValueError: the weights are not the network's.
    """
    # TensorFlow does not allow for every name that a file may have.
    layers = (replace(layer, name=f"layer_{i}") for i, layer in enumerate(architecture.layers))
    network = build_network(replace(architecture, layers=tuple(layers)))
    assign_weights(network, weights)

    def forward(x: Floats) -> Floats:
        with warnings.catch_warnings():  # Keras on a softmax of one, which is what the file says
            warnings.simplefilter("ignore")
            logits: Floats = keras.ops.convert_to_numpy(network(x, training=False))
        return logits

    return forward


def _name_arrays(variables: Sequence[keras.Variable]) -> tuple[NamedArray, ...]:
    """Copy variables off the device, named by their Keras paths."""
    return tuple(NamedArray(v.path, np.array(v.numpy())) for v in variables)


def _list_generators(network: keras.Sequential) -> list[keras.Variable]:
    """List the dropout generators' states, which no Keras format keeps."""
    return [layer.seed_generator.state for layer in network.layers if _has_generator(layer)]


def _has_generator(layer: keras.layers.Layer) -> bool:
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


def _assign(variables: Sequence[keras.Variable], arrays: Sequence[Array]) -> None:
    """Write arrays into variables; ValueError where number or shapes differ."""
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape:
            raise ValueError(f"{variable.path}: expected {variable.shape}, received {array.shape}")
        variable.assign(array)


def _assign_sums(network: keras.Sequential, arrays: Sequence[Array]) -> None:
    """Assign metric sums: of several replicas the first gets all, the others zeros."""

    def assign() -> None:
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        _assign(network.metrics_variables, [np.where(number == 0, a, 0 * a) for a in arrays])

    network.distribute_strategy.run(assign)
