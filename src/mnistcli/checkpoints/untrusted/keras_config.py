"""The `training_config` of a Keras whole-model .h5 -> the loss that the network learned with.

One layer of a Keras `model_config` -> a layer of the plan.

The `model_config` of a Keras whole-model .h5 -> the layer plan. No Keras; nothing is executed.
Keras 2 and 3 are read alike: `batch_input_shape` or `batch_shape`, in an InputLayer or in the
first layer, or `build_input_shape` beside the layers, which early Keras 2 gave as a bare list.
What decides how a network was trained (initializers, regularizers, constraints) is passed over.
Anything else that is unknown is refused: a network that is computed differently from how its
author's Keras does it is worse than none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from mnistcli.checkpoints.record import MAX_PARAMETERS
from mnistcli.checkpoints.untrusted.protocol import (
    Settings,
    is_from_keras,
    parse_json,
    quote,
)
from mnistcli.config.schema import MAX_UNITS, Activation, Loss
from mnistcli.errors import CheckpointError
from mnistcli.metrics.scores import LossSpec
from mnistcli.models.architecture import Architecture, LayerNode
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
            settings.refuse(f"the dtype policy {quote(kind)} is not supported")
    name = policy.get("name") if isinstance(policy, dict) else None
    if type(name) is not str or name not in FLOAT_DTYPES:
        settings.refuse(f"the dtype {quote(name)} is not supported")


def _take_activation(settings: Settings) -> Activation:
    name = settings.take("activation", "linear")
    if isinstance(name, str):
        name = ACTIVATION_ALIASES.get(name, name)
    if type(name) is not str or name not in get_args(Activation):
        settings.refuse(f"the activation {quote(name)} is not supported")
    return cast(Activation, name)


def _expect_last_axis(settings: Settings, input_shape: Shape) -> None:
    """Allow every spelling of the last axis: -1, its index with the batch axis, a list of one."""
    axis = settings.take("axis", -1)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    if type(axis) is not int or axis not in (-1, len(input_shape)):
        settings.refuse(f"axis must be the last one, received {quote(axis)}")


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


MAX_LAYERS = 1000
MAX_NAME_CHARACTERS = 200
MODEL_CLASSES = ("Sequential", "Functional", "Model")
INPUT_DTYPES = (
    "float16", "bfloat16", "float32", "float64", "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)  # fmt: skip
HINT = f"supported are Sequential networks of {', '.join(LAYER_CLASSES)}"


def parse_model_config(text: str, where: str) -> Architecture:
    """Return the layer plan that a checkpoint describes.

    Args:
        text: the JSON of the file's `model_config` attribute.
        where: the file, for messages.

    Raises:
        CheckpointError: it is no JSON, no Sequential network of the supported layers, or larger
            than any classifier of small images; the message names the layer.
    """
    entries, model_settings = _find_layers(parse_json(text, where, "model_config"), where)
    input_shape = _find_input_shape(entries, model_settings, where)
    nodes: list[LayerNode] = []
    for index, entry in enumerate(entries):
        if entry["class_name"] == "InputLayer" and index == 0:
            continue
        shape = nodes[-1].output_shape if nodes else input_shape
        nodes.append(_read_node(entry, index, shape, where))
    _check_network(nodes, where)
    return Architecture(input_shape, tuple(node.layer for node in nodes))


def _find_layers(model: Any, where: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the entries of the layers, each a class name and a config, and what is beside them."""
    if not isinstance(model, dict) or not isinstance(model.get("class_name"), str):
        raise CheckpointError(where, "model_config does not describe a network", HINT)
    if model["class_name"] != "Sequential" or not is_from_keras(model):
        kind = quote(model["class_name"])
        raise CheckpointError(where, f"the network is of class {kind}, not Sequential", HINT)
    config = model.get("config")
    settings = config if isinstance(config, dict) else {"layers": config}
    entries = settings.get("layers")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
        what = f"expected a list of 1 to {MAX_LAYERS} layers, received {quote(entries)}"
        raise CheckpointError(where, f"model_config: {what}", HINT)
    for index, entry in enumerate(entries):
        _check_entry(entry, index, where)
    return entries, settings


def _check_entry(entry: Any, index: int, where: str) -> None:
    """Refuse a layer whose class is not known, and say why if that can be said."""
    is_entry = isinstance(entry, dict) and isinstance(entry.get("config"), dict | list)
    class_name = entry.get("class_name") if is_entry else None
    why = ""
    if not isinstance(class_name, str):
        why = "it has no class_name and config"
    elif class_name in MODEL_CLASSES:
        why = "a network within the network is not supported"
    elif class_name == "Lambda":
        why = "a Lambda layer is code, and no code from a checkpoint is run"
    elif not is_from_keras(entry):
        why = "it is a custom layer, not one of Keras' own"
    elif class_name not in (*LAYER_CLASSES, "InputLayer") or not isinstance(entry["config"], dict):
        why = "this kind of layer is not supported"
    elif class_name == "InputLayer" and index > 0:
        why = "only the first layer may be an InputLayer"
    if why:
        owner = _describe(entry if is_entry else {}, index)
        raise CheckpointError(where, f"{owner}: {why}", HINT)


def _describe(entry: dict[str, Any], index: int) -> str:
    """Name a layer in a message: its place, its name and its class, as far as there are any."""
    config, class_name = entry.get("config"), entry.get("class_name")
    name = config.get("name") if isinstance(config, dict) else None
    text = f"layer {index + 1}"
    if isinstance(name, str):
        text += f" {quote(name)}"
    return f"{text} ({quote(class_name)[1:-1]})" if isinstance(class_name, str) else text


def _find_input_shape(
    entries: list[dict[str, Any]], model_settings: dict[str, Any], where: str
) -> Shape:
    """Take the shape of one input from the places where Keras versions have put it."""
    first = entries[0]
    settings = Settings(first["config"], where, _describe(first, 0), HINT)
    candidates = [settings.take(key) for key in INPUT_SHAPE_KEYS]
    candidates.append(model_settings.get("build_input_shape"))
    if first["class_name"] == "InputLayer":
        _check_input_layer(settings)
    batch_shape = next((shape for shape in candidates if shape is not None), None)
    if batch_shape is None:
        raise CheckpointError(
            where, "model_config does not say the input shape", "build the network, then save it"
        )
    sizes = batch_shape[1:] if isinstance(batch_shape, list) else []
    is_known = 1 <= len(sizes) <= 8 and all(type(n) is int and 1 <= n <= MAX_SIZE for n in sizes)
    if not is_known or math.prod(sizes) > MAX_SIZE:
        shown = ", ".join(map(quote, sizes[:8]))
        settings.refuse(f"the input shape ({shown}) is not 1 to {MAX_SIZE:,} known numbers")
    return tuple(sizes)


def _check_input_layer(settings: Settings) -> None:
    """Refuse inputs that are no plain arrays of numbers."""
    settings.take_choice("dtype", INPUT_DTYPES, "float32")
    settings.ignore("name", "trainable", "optional")
    settings.finish()  # sparse and ragged, if they are on


def _read_node(entry: dict[str, Any], index: int, input_shape: Shape, where: str) -> LayerNode:
    """Read one layer and put it in its place; bounds what it makes of each example."""
    settings = Settings(entry["config"], where, _describe(entry, index), HINT)
    name = settings.take("name")
    if not isinstance(name, str) or not _is_layer_name(name):
        settings.refuse(
            f"its name must be a short printable text without /, received {quote(name)}"
        )
    layer = read_layer(LayerEntry(entry["class_name"], name, settings, input_shape))
    try:
        output_shape = layer.compute_output_shape(input_shape)
    except ValueError as error:
        settings.refuse(f"it does not fit its input: {error}")
    if math.prod(output_shape) > MAX_SIZE:
        settings.refuse(f"its output {output_shape} has more than {MAX_SIZE:,} numbers")
    return LayerNode(layer, input_shape, output_shape, layer.list_weights(input_shape))


def _is_layer_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME_CHARACTERS and name.isprintable() and "/" not in name


def _check_network(nodes: list[LayerNode], where: str) -> None:
    """Refuse what no layer alone can be blamed for."""
    names = [node.layer.name for node in nodes]
    twice = next((name for name in names if names.count(name) > 1), None)
    count = sum(node.parameter_count for node in nodes)
    what = ""
    if not nodes:
        what = "the network has no layers"
    elif twice is not None:
        what = f"two layers have the name {quote(twice)}"
    elif count > MAX_PARAMETERS:
        what = f"the network has {count:,} parameters, at most {MAX_PARAMETERS:,} are read"
    elif len(nodes[-1].output_shape) != 1:
        what = f"its output {nodes[-1].output_shape} is not one number a class"
    if what:
        raise CheckpointError(where, what, HINT)


LOSS_NAMES: dict[str, Loss] = {
    "categorical_crossentropy": "categorical_crossentropy",
    "CategoricalCrossentropy": "categorical_crossentropy",
    "sparse_categorical_crossentropy": "sparse_categorical_crossentropy",
    "SparseCategoricalCrossentropy": "sparse_categorical_crossentropy",
    "mean_squared_error": "mean_squared_error",
    "MeanSquaredError": "mean_squared_error",
    "mse": "mean_squared_error",
    "MSE": "mean_squared_error",
    "binary_crossentropy": "binary_crossentropy",
    "BinaryCrossentropy": "binary_crossentropy",
    "bce": "binary_crossentropy",
    "BCE": "binary_crossentropy",
}
MEANS = (None, "auto", "mean", "mean_with_sample_weight", "sum_over_batch_size")


def parse_training_config(text: str | None, where: str) -> LossSpec | None:
    """Return the loss, or None where there is none or not one that is known here.

    Args:
        text: the JSON of the file's `training_config` attribute; None where it has none.
        where: the file, for messages.

    Raises:
        CheckpointError: the text is too long or no JSON.
    """
    if text is None:
        return None
    config = parse_json(text, where, "training_config")
    return _read_loss(_unwrap(config.get("loss"))) if isinstance(config, dict) else None


def _unwrap(loss: Any) -> Any:
    """Take the loss out of the list or mapping that networks with several outputs need."""
    if isinstance(loss, list) and len(loss) == 1:
        return loss[0]
    if isinstance(loss, dict) and len(loss) == 1:
        return next(iter(loss.values()))
    return loss


def _read_loss(loss: Any) -> LossSpec | None:
    """Read a name, a function, or an object with settings."""
    if isinstance(loss, dict) and loss.get("class_name") == "function":
        loss = loss.get("config")
    if isinstance(loss, str):
        return LossSpec(LOSS_NAMES[loss]) if loss in LOSS_NAMES else None
    if not isinstance(loss, dict) or not is_from_keras(loss):
        return None
    class_name, settings = loss.get("class_name"), loss.get("config")
    if not isinstance(class_name, str) or not isinstance(settings, dict):
        return None
    return _read_settings(class_name, settings) if class_name in LOSS_NAMES else None


def _read_settings(class_name: str, settings: dict[str, Any]) -> LossSpec | None:
    """Keep the two settings that matter; None where another one changes what the loss is."""
    from_logits = settings.get("from_logits", False)
    label_smoothing = settings.get("label_smoothing", 0.0)
    is_mean = settings.get("reduction") in MEANS
    is_plain = settings.get("axis", -1) == -1 and settings.get("ignore_class") is None
    is_number = type(label_smoothing) in (int, float) and 0 <= label_smoothing <= 1
    if not (is_mean and is_plain and is_number and type(from_logits) is bool):
        return None
    return LossSpec(LOSS_NAMES[class_name], from_logits, float(label_smoothing))
