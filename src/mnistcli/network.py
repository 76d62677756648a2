"""Layer plan -> keras.Sequential."""

from __future__ import annotations

import keras

from mnistcli.architecture import Architecture
from mnistcli.layers import (
    ActivationLayer,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalPooling2D,
    Layer,
    Pooling2D,
    Rescaling,
    Reshape,
)

CHANNELS_LAST = "channels_last"  # said everywhere: a user's keras.json may say otherwise


def _build_layer(layer: Layer) -> keras.layers.Layer:
    """Return the Keras layer that a line of the plan describes."""
    layers, name = keras.layers, layer.name
    match layer:
        case Dense(units=units, activation=activation, use_bias=use_bias):
            return layers.Dense(units, activation, use_bias, name=name)
        case Flatten():
            return layers.Flatten(CHANNELS_LAST, name=name)
        case Dropout(rate=rate):
            return layers.Dropout(rate, name=name)
        case ActivationLayer(activation=activation):
            return layers.Activation(activation, name=name)
        case Reshape(target_shape=target_shape):
            return layers.Reshape(target_shape, name=name)
        case Rescaling(scale=scale, offset=offset):
            return layers.Rescaling(scale, offset, name=name)
        case BatchNormalization(epsilon=epsilon, center=center, scale=scale):
            return layers.BatchNormalization(epsilon=epsilon, center=center, scale=scale, name=name)
    return _build_image_layer(layer)


def _build_image_layer(layer: Layer) -> keras.layers.Layer:
    """Return the Keras layer for those that slide a window over an image."""
    match layer:
        case Conv2D():
            return keras.layers.Conv2D(
                layer.filters,
                layer.kernel_size,
                layer.strides,
                layer.padding,
                CHANNELS_LAST,
                layer.dilation_rate,
                activation=layer.activation,
                use_bias=layer.use_bias,
                name=layer.name,
            )
        case Pooling2D():
            pooling = getattr(keras.layers, layer.type)
            return pooling(
                layer.pool_size, layer.strides, layer.padding, CHANNELS_LAST, name=layer.name
            )
        case GlobalPooling2D():
            pooling = getattr(keras.layers, layer.type)
            return pooling(data_format=CHANNELS_LAST, name=layer.name)
    raise NotImplementedError(layer.type)


def build_network(architecture: Architecture) -> keras.Sequential:
    """Return the plan as an uncompiled Sequential with Keras' default initial weights."""
    return keras.Sequential(
        [keras.Input(architecture.input_shape), *map(_build_layer, architecture.layers)]
    )
