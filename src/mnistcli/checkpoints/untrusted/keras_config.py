"""Read the network and its loss from the JSON that Keras stores in a whole-model .h5 file.

Nothing is executed and Keras is not imported. The formats of Keras 2 and 3 are read alike:
`batch_input_shape` or `batch_shape`, in an InputLayer or in the first layer, or `build_input_shape`
next to the layers, which early Keras 2 stores as a bare list. Settings that only matter in training
(initializers, regularizers, constraints) are ignored. Every other unknown setting is refused, since
it may change what the network computes.
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
from mnistcli.config.schema import LOSSES, MAX_UNITS, Activation
from mnistcli.errors import CheckpointError
from mnistcli.metrics.losses import LossSpec
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

MAX_LAYERS = 1000
MAX_NAME_CHARACTERS = 200
MAX_WINDOW = 1024  # of kernels, pools, strides and dilations, in pixels
MAX_SIZE = 1_000_000  # values in one image, or in a layer's output for it
MAX_FLOAT32 = 3.4e38

_CHANNELS_LAST = "channels_last"
_INPUT_SHAPE_KEYS = ("batch_shape", "batch_input_shape")
_NETWORK_CLASSES = ("Sequential", "Functional", "Model")
_ACTIVATION_ALIASES = {"swish": "silu"}  # Keras 2's name
_FLOAT_DTYPES = (
    "float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16",
)  # fmt: skip
_INPUT_DTYPES = (
    "float16", "bfloat16", "float32", "float64", "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)  # fmt: skip
_POLICIES = ("DTypePolicy", "FloatDTypePolicy", "Policy")  # Keras 3's, its first ones', Keras 2's
_TRAINING_ONLY = (
    "trainable", "seed", "noise_shape", "momentum", "synchronized", "renorm_momentum",
    "renorm_clipping",
    *(f"{array}_initializer" for array in ("kernel", "bias", "beta", "gamma")),
    *(f"moving_{array}_initializer" for array in ("mean", "variance")),
    *(f"{array}_regularizer" for array in ("kernel", "bias", "beta", "gamma", "activity")),
    *(f"{array}_constraint" for array in ("kernel", "bias", "beta", "gamma")),
)  # fmt: skip
_REDUCTIONS_TO_MEAN = (None, "auto", "mean", "mean_with_sample_weight", "sum_over_batch_size")
_LOSSES = {
    name: loss for loss, info in LOSSES.items() for name in (loss, info.keras_class, *info.aliases)
}


@dataclass(frozen=True)
class _LayerEntry:
    """A layer as the file describes it, and the shape of its input."""

    class_name: str
    name: str
    settings: Settings
    input_shape: Shape


def parse_model_config(text: str, where: str) -> Architecture:
    """Return the network that a `model_config` describes.

    Args:
        text: the JSON of the file's attribute.
        where: the file, for messages.

    Raises:
        CheckpointError: the text is not JSON, not a Sequential network of the supported layers, or
            the network is too large. The message names the layer.
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


def parse_training_config(text: str | None, where: str) -> LossSpec | None:
    """Return the loss that a `training_config` names; None if it names none that is supported.

    Args:
        text: the JSON of the file's attribute; None if it has none.
        where: the file, for messages.

    Raises:
        CheckpointError: the text is too long or not JSON.
    """
    if text is None:
        return None
    config = parse_json(text, where, "training_config")
    return _read_loss(_unwrap_single(config.get("loss"))) if isinstance(config, dict) else None


def _find_layers(model: Any, where: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the layers, each a class name and a config, and the network's other settings."""
    if not isinstance(model, dict) or not isinstance(model.get("class_name"), str):
        raise CheckpointError(where, "model_config does not describe a network", _HINT)
    if model["class_name"] != "Sequential" or not is_from_keras(model):
        kind = quote(model["class_name"])
        raise CheckpointError(where, f"the network is of class {kind}, not Sequential", _HINT)
    config = model.get("config")
    settings = config if isinstance(config, dict) else {"layers": config}
    entries = settings.get("layers")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
        what = f"expected a list of 1 to {MAX_LAYERS} layers, received {quote(entries)}"
        raise CheckpointError(where, f"model_config: {what}", _HINT)
    for index, entry in enumerate(entries):
        _check_entry(entry, index, where)
    return entries, settings


def _check_entry(entry: Any, index: int, where: str) -> None:
    """Refuse a layer of a class that is not supported, and say why; CheckpointError."""
    is_entry = isinstance(entry, dict) and isinstance(entry.get("config"), dict | list)
    class_name = entry.get("class_name") if is_entry else None
    why = ""
    if not isinstance(class_name, str):
        why = "it has no class_name and config"
    elif class_name in _NETWORK_CLASSES:
        why = "a network within the network is not supported"
    elif class_name == "Lambda":
        why = "a Lambda layer is code, and no code from a checkpoint is run"
    elif not is_from_keras(entry):
        why = "it is a custom layer, not one of Keras' own"
    elif class_name not in (*_LAYER_CLASSES, "InputLayer") or not isinstance(entry["config"], dict):
        why = "this kind of layer is not supported"
    elif class_name == "InputLayer" and index > 0:
        why = "only the first layer may be an InputLayer"
    if why:
        owner = _describe_layer(entry if is_entry else {}, index)
        raise CheckpointError(where, f"{owner}: {why}", _HINT)


def _describe_layer(entry: dict[str, Any], index: int) -> str:
    """Return a layer's position, name and class for messages, as far as it has them."""
    config, class_name = entry.get("config"), entry.get("class_name")
    name = config.get("name") if isinstance(config, dict) else None
    text = f"layer {index + 1}"
    if isinstance(name, str):
        text += f" {quote(name)}"
    return f"{text} ({quote(class_name)[1:-1]})" if isinstance(class_name, str) else text


def _find_input_shape(
    entries: list[dict[str, Any]], model_settings: dict[str, Any], where: str
) -> Shape:
    """Return the input shape from one of the settings in which versions of Keras store it."""
    first = entries[0]
    settings = Settings(first["config"], where, _describe_layer(first, 0), _HINT)
    candidates = [settings.take(key) for key in _INPUT_SHAPE_KEYS]
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
    settings.take_choice("dtype", _INPUT_DTYPES, "float32")
    settings.ignore("name", "trainable", "optional")
    settings.finish()  # refuses sparse and ragged inputs


def _read_node(entry: dict[str, Any], index: int, input_shape: Shape, where: str) -> LayerNode:
    """Return the layer with its shapes; CheckpointError if its output is too large."""
    settings = Settings(entry["config"], where, _describe_layer(entry, index), _HINT)
    name = settings.take("name")
    if not isinstance(name, str) or not _is_valid_name(name):
        settings.refuse(
            f"its name must be a short printable text without /, received {quote(name)}"
        )
    layer = _read_layer(_LayerEntry(entry["class_name"], name, settings, input_shape))
    try:
        output_shape = layer.compute_output_shape(input_shape)
    except ValueError as error:
        settings.refuse(f"it does not fit its input: {error}")
    if math.prod(output_shape) > MAX_SIZE:
        settings.refuse(f"its output {output_shape} has more than {MAX_SIZE:,} numbers")
    return LayerNode(layer, input_shape, output_shape, layer.list_weights(input_shape))


def _is_valid_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME_CHARACTERS and name.isprintable() and "/" not in name


def _check_network(nodes: list[LayerNode], where: str) -> None:
    """Refuse a network as a whole; CheckpointError."""
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
        raise CheckpointError(where, what, _HINT)


def _read_layer(entry: _LayerEntry) -> Layer:
    """Return the layer; CheckpointError if a setting is missing or not supported."""
    _check_float_dtype(entry.settings)
    layer = _READERS[entry.class_name](entry)
    entry.settings.ignore(*_INPUT_SHAPE_KEYS, *_TRAINING_ONLY)
    entry.settings.finish()
    return layer


def _read_dense(entry: _LayerEntry) -> Layer:
    l1, l2 = _take_penalty(entry.settings)
    return Dense(
        entry.name,
        entry.settings.take_integer("units", 1, MAX_UNITS),
        _take_activation(entry.settings),
        entry.settings.take_bool("use_bias", True),
        l1,
        l2,
    )


def _read_flatten(entry: _LayerEntry) -> Layer:
    entry.settings.expect("data_format", _CHANNELS_LAST)
    return Flatten(entry.name)


def _read_dropout(entry: _LayerEntry) -> Layer:
    return Dropout(entry.name, entry.settings.take_number("rate", 0.0, 0, 1))


def _read_activation(entry: _LayerEntry) -> Layer:
    return ActivationLayer(entry.name, _take_activation(entry.settings))


def _read_relu(entry: _LayerEntry) -> Layer:
    for key, default in (("max_value", None), ("negative_slope", 0), ("threshold", 0)):
        entry.settings.expect(key, default)
    return ActivationLayer(entry.name, "relu")


def _read_softmax(entry: _LayerEntry) -> Layer:
    _check_last_axis(entry.settings, entry.input_shape)
    return ActivationLayer(entry.name, "softmax")


def _read_reshape(entry: _LayerEntry) -> Layer:
    target_shape = entry.settings.take_integers("target_shape", -1, MAX_SIZE)
    if 0 in target_shape or target_shape.count(-1) > 1:
        entry.settings.refuse("target_shape may hold sizes above 0 and one -1")
    return Reshape(entry.name, target_shape)


def _read_rescaling(entry: _LayerEntry) -> Layer:
    scale, offset = (
        entry.settings.take_number(key, default, -MAX_FLOAT32, MAX_FLOAT32)
        for key, default in (("scale", 1.0), ("offset", 0.0))
    )
    return Rescaling(entry.name, scale, offset)


def _read_batch_normalization(entry: _LayerEntry) -> Layer:
    _check_last_axis(entry.settings, entry.input_shape)
    return BatchNormalization(
        entry.name,
        entry.settings.take_number("epsilon", 1e-3, 0, 1),
        entry.settings.take_bool("center", True),
        entry.settings.take_bool("scale", True),
    )


def _read_conv2d(entry: _LayerEntry) -> Layer:
    entry.settings.expect("data_format", _CHANNELS_LAST)
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


def _read_pooling(entry: _LayerEntry) -> Layer:
    entry.settings.expect("data_format", _CHANNELS_LAST)
    pool_size = entry.settings.take_pair("pool_size", MAX_WINDOW, (2, 2))
    strides = entry.settings.take_pair("strides", MAX_WINDOW, pool_size)
    return Pooling2D(
        entry.name, _get_operation(entry), pool_size, strides, _take_padding(entry.settings)
    )


def _read_global_pooling(entry: _LayerEntry) -> Layer:
    entry.settings.expect("data_format", _CHANNELS_LAST)
    entry.settings.expect("keepdims", False)
    return GlobalPooling2D(entry.name, _get_operation(entry))


def _get_operation(entry: _LayerEntry) -> Literal["Max", "Average"]:
    return "Max" if "Max" in entry.class_name else "Average"


def _check_float_dtype(settings: Settings) -> None:
    """Refuse number formats other than floats, above all quantised ones."""
    dtype = settings.take("dtype", "float32")
    policy: Any = {"name": dtype}
    if isinstance(dtype, dict):
        kind, policy = dtype.get("class_name"), dtype.get("config")
        if not is_from_keras(dtype) or type(kind) is not str or kind not in _POLICIES:
            settings.refuse(f"the dtype policy {quote(kind)} is not supported")
    name = policy.get("name") if isinstance(policy, dict) else None
    if type(name) is not str or name not in _FLOAT_DTYPES:
        settings.refuse(f"the dtype {quote(name)} is not supported")


def _check_last_axis(settings: Settings, input_shape: Shape) -> None:
    """Refuse any axis but the last: -1, its index counting the batch axis, or a list of it."""
    axis = settings.take("axis", -1)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    if type(axis) is not int or axis not in (-1, len(input_shape)):
        settings.refuse(f"axis must be the last one, received {quote(axis)}")


def _take_activation(settings: Settings) -> Activation:
    name = settings.take("activation", "linear")
    if isinstance(name, str):
        name = _ACTIVATION_ALIASES.get(name, name)
    if type(name) is not str or name not in get_args(Activation):
        settings.refuse(f"the activation {quote(name)} is not supported")
    return cast(Activation, name)


def _take_padding(settings: Settings) -> Padding:
    return cast(Padding, settings.take_choice("padding", get_args(Padding), "valid"))


def _take_penalty(settings: Settings) -> tuple[float, float]:
    """Return l1 and l2 of the kernel's regularizer; 0 for others, which affect no output."""
    entry = settings.take("kernel_regularizer")
    if not isinstance(entry, dict) or not is_from_keras(entry):
        return 0.0, 0.0
    values = entry.get("config")
    if entry.get("class_name") not in ("L1", "L2", "L1L2") or not isinstance(values, dict):
        return 0.0, 0.0
    l1, l2 = (values.get(key, 0.0) for key in ("l1", "l2"))
    numbers = (v for v in (l1, l2) if type(v) in (int, float) and 0 <= v <= MAX_FLOAT32)
    return (float(l1), float(l2)) if len(list(numbers)) == 2 else (0.0, 0.0)


def _unwrap_single(loss: Any) -> Any:
    """Return the loss, without the list or mapping that is meant for several outputs."""
    if isinstance(loss, list) and len(loss) == 1:
        return loss[0]
    if isinstance(loss, dict) and len(loss) == 1:
        return next(iter(loss.values()))
    return loss


def _read_loss(loss: Any) -> LossSpec | None:
    if isinstance(loss, dict) and loss.get("class_name") == "function":
        loss = loss.get("config")
    if isinstance(loss, str):
        return LossSpec(_LOSSES[loss]) if loss in _LOSSES else None
    if not isinstance(loss, dict) or not is_from_keras(loss):
        return None
    class_name, settings = loss.get("class_name"), loss.get("config")
    if not isinstance(class_name, str) or not isinstance(settings, dict):
        return None
    return _read_loss_settings(class_name, settings) if class_name in _LOSSES else None


def _read_loss_settings(class_name: str, settings: dict[str, Any]) -> LossSpec | None:
    """Return the loss with its settings; None if one of them is not supported."""
    from_logits = settings.get("from_logits", False)
    label_smoothing = settings.get("label_smoothing", 0.0)
    is_mean = settings.get("reduction") in _REDUCTIONS_TO_MEAN
    is_plain = settings.get("axis", -1) == -1 and settings.get("ignore_class") is None
    is_number = type(label_smoothing) in (int, float) and 0 <= label_smoothing <= 1
    if not (is_mean and is_plain and is_number and type(from_logits) is bool):
        return None
    return LossSpec(_LOSSES[class_name], from_logits, float(label_smoothing))


_READERS: dict[str, Callable[[_LayerEntry], Layer]] = {
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
_LAYER_CLASSES = tuple(_READERS)
_HINT = f"supported are Sequential networks of {', '.join(_LAYER_CLASSES)}"
