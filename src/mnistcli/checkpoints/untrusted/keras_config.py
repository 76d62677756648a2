"""One layer of a Keras `model_config` -> a layer of the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from mnistcli.checkpoints.untrusted.protocol import Settings, is_from_keras, show
from mnistcli.config.schema import MAX_UNITS, Activation
from mnistcli.models.layers import (
    ActivationLayer,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalPooling2D,
    Layer,
    Padding,
    Pooling2D,
    Rescaling,
    Reshape,
    Shape,
)

MAX_WINDOW = 1024  # of kernels, pools, strides and dilations, in pixels
MAX_SIZE = 1_000_000  # numbers in one example
MAX_FLOAT32 = 3.4e38
ACTIVATION_ALIASES = {"swish": "silu"}  # Keras 2's name
FLOAT_DTYPES = (
    "float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16",
)  # fmt: skip
_POLICIES = ("DTypePolicy", "FloatDTypePolicy", "Policy")  # Keras 3's, its first ones', Keras 2's
TRAINING_ONLY = (
    "trainable", "seed", "noise_shape", "momentum", "synchronized", "renorm_momentum",
    "renorm_clipping",
    *(f"{array}_initializer" for array in ("kernel", "bias", "beta", "gamma")),
    *(f"moving_{array}_initializer" for array in ("mean", "variance")),
    *(f"{array}_regularizer" for array in ("kernel", "bias", "beta", "gamma", "activity")),
    *(f"{array}_constraint" for array in ("kernel", "bias", "beta", "gamma")),
)  # fmt: skip
CHANNELS_LAST = "channels_last"
INPUT_SHAPE_KEYS = ("batch_shape", "batch_input_shape")


@dataclass(frozen=True)
class LayerEntry:
    """One layer as the file describes it, and the shape of what reaches it."""

    class_name: str
    name: str
    settings: Settings
    input_shape: Shape


def expect_float_dtype(settings: Settings) -> None:
    """Refuse number formats whose weights are not plain floats, quantised ones above all."""
    dtype = settings.take("dtype", "float32")
    policy: Any = {"name": dtype}
    if isinstance(dtype, dict):
        kind, policy = dtype.get("class_name"), dtype.get("config")
        if not is_from_keras(dtype) or type(kind) is not str or kind not in _POLICIES:
            settings.refuse(f"the dtype policy {show(kind)} is not supported")
    name = policy.get("name") if isinstance(policy, dict) else None
    if type(name) is not str or name not in FLOAT_DTYPES:
        settings.refuse(f"the dtype {show(name)} is not supported")


def _take_activation(settings: Settings) -> Activation:
    name = settings.take("activation", "linear")
    if isinstance(name, str):
        name = ACTIVATION_ALIASES.get(name, name)
    if type(name) is not str or name not in get_args(Activation):
        settings.refuse(f"the activation {show(name)} is not supported")
    return cast(Activation, name)


def _expect_last_axis(settings: Settings, input_shape: Shape) -> None:
    """Allow every spelling of the last axis: -1, its index with the batch axis, a list of one."""
    axis = settings.take("axis", -1)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    if type(axis) is not int or axis not in (-1, len(input_shape)):
        settings.refuse(f"axis must be the last one, received {show(axis)}")


def _take_padding(settings: Settings) -> Padding:
    return cast(Padding, settings.take_choice("padding", get_args(Padding), "valid"))


def _take_penalty(settings: Settings) -> tuple[float, float]:
    """Return a kernel's l1 and l2; 0 for other regularizers: they change no output."""
    entry = settings.take("kernel_regularizer")
    if not isinstance(entry, dict) or not is_from_keras(entry):
        return 0.0, 0.0
    values = entry.get("config")
    if entry.get("class_name") not in ("L1", "L2", "L1L2") or not isinstance(values, dict):
        return 0.0, 0.0
    l1, l2 = (values.get(key, 0.0) for key in ("l1", "l2"))
    numbers = (v for v in (l1, l2) if type(v) in (int, float) and 0 <= v <= MAX_FLOAT32)
    return (float(l1), float(l2)) if len(list(numbers)) == 2 else (0.0, 0.0)


def _read_dense(entry: LayerEntry) -> Layer:
    l1, l2 = _take_penalty(entry.settings)
    return Dense(
        entry.name,
        entry.settings.take_integer("units", 1, MAX_UNITS),
        _take_activation(entry.settings),
        entry.settings.take_bool("use_bias", True),
        l1,
        l2,
    )


def _read_flatten(entry: LayerEntry) -> Layer:
    entry.settings.expect("data_format", CHANNELS_LAST)
    return Flatten(entry.name)


def _read_dropout(entry: LayerEntry) -> Layer:
    return Dropout(entry.name, entry.settings.take_number("rate", 0.0, 0, 1))


def _read_activation(entry: LayerEntry) -> Layer:
    return ActivationLayer(entry.name, _take_activation(entry.settings))


def _read_relu(entry: LayerEntry) -> Layer:
    for key, default in (("max_value", None), ("negative_slope", 0), ("threshold", 0)):
        entry.settings.expect(key, default)
    return ActivationLayer(entry.name, "relu")


def _read_softmax(entry: LayerEntry) -> Layer:
    _expect_last_axis(entry.settings, entry.input_shape)
    return ActivationLayer(entry.name, "softmax")


def _read_reshape(entry: LayerEntry) -> Layer:
    target_shape = entry.settings.take_integers("target_shape", -1, MAX_SIZE)
    if 0 in target_shape or target_shape.count(-1) > 1:
        entry.settings.refuse("target_shape may hold sizes above 0 and one -1")
    return Reshape(entry.name, target_shape)


def _read_rescaling(entry: LayerEntry) -> Layer:
    scale, offset = (
        entry.settings.take_number(key, default, -MAX_FLOAT32, MAX_FLOAT32)
        for key, default in (("scale", 1.0), ("offset", 0.0))
    )
    return Rescaling(entry.name, scale, offset)


def _read_batch_normalization(entry: LayerEntry) -> Layer:
    _expect_last_axis(entry.settings, entry.input_shape)
    return BatchNormalization(
        entry.name,
        entry.settings.take_number("epsilon", 1e-3, 0, 1),
        entry.settings.take_bool("center", True),
        entry.settings.take_bool("scale", True),
    )


def _read_conv2d(entry: LayerEntry) -> Layer:
    entry.settings.expect("data_format", CHANNELS_LAST)
    entry.settings.expect("groups", 1)
    strides = entry.settings.take_pair("strides", MAX_WINDOW, (1, 1))
    dilation_rate = entry.settings.take_pair("dilation_rate", MAX_WINDOW, (1, 1))
    if max(strides) > 1 and max(dilation_rate) > 1:
        entry.settings.refuse("strides and dilation_rate cannot both be above 1")
    return Conv2D(
        entry.name,
        entry.settings.take_integer("filters", 1, MAX_UNITS),
        entry.settings.take_pair("kernel_size", MAX_WINDOW, None),
        strides,
        _take_padding(entry.settings),
        dilation_rate,
        _take_activation(entry.settings),
        entry.settings.take_bool("use_bias", True),
    )


def _read_pooling(entry: LayerEntry) -> Layer:
    entry.settings.expect("data_format", CHANNELS_LAST)
    pool_size = entry.settings.take_pair("pool_size", MAX_WINDOW, (2, 2))
    strides = entry.settings.take_pair("strides", MAX_WINDOW, pool_size)
    return Pooling2D(
        entry.name, _get_operation(entry), pool_size, strides, _take_padding(entry.settings)
    )


def _read_global_pooling(entry: LayerEntry) -> Layer:
    entry.settings.expect("data_format", CHANNELS_LAST)
    entry.settings.expect("keepdims", False)
    return GlobalPooling2D(entry.name, _get_operation(entry))


def _get_operation(entry: LayerEntry) -> Literal["Max", "Average"]:
    return "Max" if "Max" in entry.class_name else "Average"


_READERS: dict[str, Callable[[LayerEntry], Layer]] = {
    "Dense": _read_dense,
    "Flatten": _read_flatten,
    "Dropout": _read_dropout,
    "Activation": _read_activation,
    "ReLU": _read_relu,
    "Softmax": _read_softmax,
    "Reshape": _read_reshape,
    "Rescaling": _read_rescaling,
    "BatchNormalization": _read_batch_normalization,
    "Conv2D": _read_conv2d,
    "MaxPooling2D": _read_pooling,
    "AveragePooling2D": _read_pooling,
    "GlobalMaxPooling2D": _read_global_pooling,
    "GlobalAveragePooling2D": _read_global_pooling,
}
LAYER_CLASSES = tuple(_READERS)


def read_layer(entry: LayerEntry) -> Layer:
    """Return the layer that an entry describes.

    Raises:
        CheckpointError: a setting is missing, out of bounds, or not of the kind that is supported.
    """
    expect_float_dtype(entry.settings)
    layer = _READERS[entry.class_name](entry)
    entry.settings.ignore(*INPUT_SHAPE_KEYS, *TRAINING_ONLY)
    entry.settings.finish()
    return layer
