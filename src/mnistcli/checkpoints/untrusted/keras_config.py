"""Read the network and its loss from the JSON that Keras stores in a whole-model .h5 file.

Nothing is executed and Keras is not imported. The formats of Keras 2 and 3 are read alike:
`batch_input_shape` or `batch_shape`, in an InputLayer or in the first layer, or `build_input_shape`
next to the layers, which early Keras 2 stores as a bare list. A Functional network whose layers
form one chain is read as the Sequential network that it is. Settings that only matter in training
(initializers, constraints) are ignored. Every other unknown setting is refused, since it may change
what the network computes; a loss or a regularizer that is not Keras' own leaves the loss unknown.
docs/foreign-checkpoints.md lists what is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard, cast, get_args

from mnistcli.checkpoints.record import MAX_PARAMETERS
from mnistcli.checkpoints.untrusted.protocol import (
    READ_HINT,
    SAVE_HINT,
    Settings,
    WeightShapes,
    is_from_keras,
    parse_json,
    quote,
)
from mnistcli.config.schema import LOSSES, MAX_UNITS, Activation
from mnistcli.errors import CheckpointError
from mnistcli.metrics.losses import AnyLoss, LossSpec, UnknownLoss
from mnistcli.models.architecture import Architecture, LayerNode
from mnistcli.models.layers import (
    ACTIVITY,
    ELU,
    ActivationLayer,
    BatchNormalization,
    Conv2D,
    DataFormat,
    Dense,
    Dropout,
    DtypePolicy,
    Flatten,
    GlobalPooling2D,
    Layer,
    LeakyReLU,
    Padding,
    Pooling2D,
    Regularizer,
    ReLU,
    Rescaling,
    Reshape,
    Shape,
)
from mnistcli.models.numpy_inference import MAX_BATCH_VALUES

MAX_LAYERS = 1000
MAX_NAME_CHARACTERS = 1000
MAX_WINDOW = 1024  # of kernels, pools, strides and dilations, in pixels
MAX_SIZE = MAX_BATCH_VALUES  # values in one image, or in a layer's output for it
MAX_FLOAT32 = 3.4e38
MAX_SQUARE = 256  # pixels, of images whose size only the weights tell

_LAYER_INPUT_SHAPE_KEYS = ("batch_shape", "batch_input_shape")
_FUNCTIONAL_CLASSES = ("Functional", "Model")  # the name of Keras 3, and that of Keras 2
_NETWORK_CLASSES = ("Sequential", *_FUNCTIONAL_CLASSES)
_ACTIVATION_ALIASES = {"swish": "silu", "hard_swish": "hard_silu"}
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
    *(f"{array}_constraint" for array in ("kernel", "bias", "beta", "gamma")),
)  # fmt: skip
_REGULARIZERS = ("kernel", "bias", "beta", "gamma", "activity")
_REGULARIZER_DEFAULTS = {"L1": (0.01, 0.0), "L2": (0.0, 0.01), "L1L2": (0.0, 0.0)}
_REGULARIZER_ALIASES = {"l1": "L1", "l2": "L2", "l1_l2": "L1L2"}
_MEAN_REDUCTIONS = ("auto", "mean", "mean_with_sample_weight", "none", "sum_over_batch_size")
_LOSS_CLASSES = {
    **{name: info.keras_class for name, info in LOSSES.items()},
    "mean_absolute_error": "MeanAbsoluteError",
    "mean_absolute_percentage_error": "MeanAbsolutePercentageError",
    "mean_squared_logarithmic_error": "MeanSquaredLogarithmicError",
    "cosine_similarity": "CosineSimilarity",
    "huber": "Huber",
    "log_cosh": "LogCosh",
    "hinge": "Hinge",
    "squared_hinge": "SquaredHinge",
    "categorical_hinge": "CategoricalHinge",
    "kl_divergence": "KLDivergence",
    "poisson": "Poisson",
    "binary_focal_crossentropy": "BinaryFocalCrossentropy",
    "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
    "dice": "Dice",
    "tversky": "Tversky",
    "circle": "Circle",
    "crossentropy": "crossentropy",  # for Keras, binary or categorical as the outputs are
}
_LOSS_ALIASES = {
    **{alias: name for name, info in LOSSES.items() for alias in info.aliases},
    **{keras_class: name for name, keras_class in _LOSS_CLASSES.items()},
    "mae": "mean_absolute_error", "MAE": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error", "MAPE": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error", "MSLE": "mean_squared_logarithmic_error",
    "kld": "kl_divergence", "KLD": "kl_divergence", "ce": "crossentropy",
    "kullback_leibler_divergence": "kl_divergence", "logcosh": "log_cosh",  # Keras 2's names
}  # fmt: skip
_LOSS_SETTINGS: dict[str, type] = {
    "from_logits": bool, "apply_class_balancing": bool, "remove_diagonal": bool,
    "label_smoothing": float, "delta": float, "alpha": float, "beta": float, "gamma": float,
    "margin": float, "axis": int, "ignore_class": int,
}  # fmt: skip


OpenShape = tuple[int | None, ...]


class _MisfitError(CheckpointError):
    """A layer does not fit an input shape."""


@dataclass(frozen=True)
class _LayerEntry:
    """A layer as the file describes it, and the shape of its input."""

    class_name: str
    name: str
    settings: Settings
    input_shape: Shape


def parse_model_config(text: str, where: str, weight_shapes: WeightShapes = ()) -> Architecture:
    """Return the network that a `model_config` describes.

    Args:
        text: the JSON of the file's attribute.
        where: the file, for messages.
        weight_shapes: those of each layer with weights, by which an input shape is found that the
            text does not say.

    Raises:
        CheckpointError: the text is not JSON, not a chain of the supported layers, or the network
            is too large. The message names the layer.
    """
    entries, model_settings = _find_layers(parse_json(text, where, "model_config"), where)
    stated = _find_input_shape(entries, model_settings, where)
    if stated is None or None in stated:
        return _fit_network(entries, stated, weight_shapes, where)
    input_shape = tuple(size for size in stated if size is not None)
    return Architecture(input_shape, _read_layers(entries, input_shape, where))


def parse_training_config(text: str | None, where: str) -> AnyLoss:
    """Return the loss that a `training_config` names, or why it is not known.

    Args:
        text: the JSON of the file's attribute; None if it has none.
        where: the file, for messages.

    Raises:
        CheckpointError: the text is too long or not JSON.
    """
    config = None if text is None else parse_json(text, where, "training_config")
    if not isinstance(config, dict) or config.get("loss") is None:
        return UnknownLoss("the file names no loss: the network was saved without one")
    loss = _read_loss(_unwrap_single(config["loss"]))
    weight = _unwrap_single(config.get("loss_weights"))
    if weight is None or isinstance(loss, UnknownLoss):
        return loss
    if not _is_number(weight):
        return UnknownLoss(f"its weight {quote(weight)} is not a number", loss.name)
    return replace(loss, weight=float(weight))


def _find_layers(model: Any, where: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the layers, each a class name and a config, and the network's other settings."""
    if not isinstance(model, dict) or not isinstance(model.get("class_name"), str):
        raise CheckpointError(where, "model_config does not describe a network", SAVE_HINT)
    if model["class_name"] not in _NETWORK_CLASSES or not is_from_keras(model):
        what = f"the network is of class {quote(model['class_name'])}, which is not one of Keras'"
        raise CheckpointError(where, what, _CHAIN_HINT)
    config = model.get("config")
    settings = config if isinstance(config, dict) else {"layers": config}
    entries = settings.get("layers")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
        what = f"expected a list of 1 to {MAX_LAYERS} layers, received {quote(entries)}"
        raise CheckpointError(where, f"model_config: {what}", SAVE_HINT)
    if model["class_name"] in _FUNCTIONAL_CLASSES:
        entries = _order_chain(entries, settings, where)
    for index, entry in enumerate(entries):
        _check_entry(entry, index, where)
    return entries, settings


def _order_chain(entries: list[Any], settings: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Return the layers of a Functional network from its input to its output.

    Raises:
        CheckpointError: they are not one chain.
    """
    followers: dict[str | None, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        source, why = _find_source(entry)
        if why is None and source in followers:
            why = "it is a second input" if source is None else f"{quote(source)} has two outputs"
        if why is not None:
            owner = _describe_layer(entry if isinstance(entry, dict) else {}, index)
            what = f"the Functional network is not one chain of layers: {owner}: {why}"
            raise CheckpointError(where, what, _CHAIN_HINT)
        followers[source] = entry
    chain: list[dict[str, Any]] = []
    name: str | None = None
    while (entry := followers.pop(name, None)) is not None:
        chain.append(entry)
        name = entry["name"]
    if followers or not chain or _find_output(settings) != name:
        what = "the Functional network is not one chain of layers from its input to its output"
        raise CheckpointError(where, what, _CHAIN_HINT)
    return chain


def _find_source(entry: Any) -> tuple[str | None, str | None]:
    """Return the name of the layer whose output a layer takes, or why there is not one.

    An input has neither.
    """
    name, calls = (
        entry.get(k) if isinstance(entry, dict) else None for k in ("name", "inbound_nodes")
    )
    if not isinstance(name, str) or not isinstance(calls, list):
        return None, "it has no name and inbound_nodes"
    if not calls:
        return None, None
    if len(calls) > 1:
        return None, "it is used more than once"
    sources, arguments = _read_call(calls[0])
    if len(sources) != 1:
        return None, f"it takes {len(sources)} inputs"
    active = [k for k, value in arguments.items() if value is not None and value is not False]
    if active:
        return None, f"it is called with {quote(active[0])}"
    return sources[0], None


def _read_call(call: Any) -> tuple[list[str], dict[str, Any]]:
    """Return the names of the layers whose outputs a call takes, and its other arguments.

    Keras 2 writes `[[name, 0, 0, arguments], …]`, Keras 3 `{"args": tensors, "kwargs": arguments}`,
    where a tensor's config has a `keras_history` of `[name, 0, 0]`.
    """
    if isinstance(call, dict):
        tensors, arguments = call.get("args"), call.get("kwargs")
        nested = (t if isinstance(t, list) else [t] for t in _as_list(tensors))
        configs = [t.get("config") for ts in nested for t in ts if isinstance(t, dict)]
        origins = [c.get("keras_history") for c in configs if isinstance(c, dict)]
    else:
        origins = _as_list(call)
        arguments = next((o[3] for o in origins if isinstance(o, list) and len(o) > 3), None)
    names = [o[0] for o in origins if isinstance(o, list) and o and isinstance(o[0], str)]
    return names, arguments if isinstance(arguments, dict) else {}


def _find_output(settings: dict[str, Any]) -> str | None:
    """Return the name of the layer that is a Functional network's one output: `[name, 0, 0]`."""
    outputs = settings.get("output_layers")
    while isinstance(outputs, list | dict) and len(outputs) == 1:
        outputs = _unwrap_single(outputs)
    name = outputs[0] if isinstance(outputs, list) and outputs else None
    return name if isinstance(name, str) else None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _check_entry(entry: Any, index: int, where: str) -> None:
    """Refuse a layer of a class that is not supported, and say why; CheckpointError."""
    is_entry = isinstance(entry, dict) and isinstance(entry.get("config"), dict | list)
    class_name = entry.get("class_name") if is_entry else None
    why, hint = "", _LAYERS_HINT
    if not isinstance(class_name, str):
        why, hint = "it has no class_name and config", SAVE_HINT
    elif class_name in _NETWORK_CLASSES:
        why = "a network within the network is not supported"
    elif class_name == "Lambda":
        why = "a Lambda layer is code, and no code from a checkpoint is run"
    elif not is_from_keras(entry):
        why = "it is a custom layer, not one of Keras' own"
    elif class_name not in (*LAYER_CLASSES, "InputLayer") or not isinstance(entry["config"], dict):
        why = "this kind of layer is not supported"
    elif class_name == "InputLayer" and index > 0:
        why, hint = "only the first layer may be an InputLayer", _CHAIN_HINT
    if why:
        owner = _describe_layer(entry if is_entry else {}, index)
        raise CheckpointError(where, f"{owner}: {why}", hint)


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
) -> OpenShape | None:
    """Return the input shape from one of the settings in which versions of Keras store it.

    Sizes that the file leaves open are None; so is a shape that it does not say at all.
    """
    first = entries[0]
    settings = Settings(first["config"], where, _describe_layer(first, 0))
    candidates = [settings.take(key) for key in _LAYER_INPUT_SHAPE_KEYS]
    candidates.append(model_settings.get("build_input_shape"))
    if first["class_name"] == "InputLayer":
        _check_input_layer(settings)
    batch_shape = next((shape for shape in candidates if shape is not None), None)
    if batch_shape is None:
        return None
    sizes = batch_shape[1:] if isinstance(batch_shape, list) else []
    known = [size for size in sizes if size is not None]
    is_valid = 1 <= len(sizes) <= 8 and all(type(n) is int and 1 <= n <= MAX_SIZE for n in known)
    if not is_valid or math.prod(known) > MAX_SIZE:
        shown = ", ".join(map(quote, sizes[:8]))
        settings.refuse(f"the input shape ({shown}) is not 1 to {MAX_SIZE:,} numbers", SAVE_HINT)
    return tuple(sizes)


def _fit_network(
    entries: list[dict[str, Any]], stated: OpenShape | None, weight_shapes: WeightShapes, where: str
) -> Architecture:
    """Return the network for the first usual input shape that its weights fit.

    Raises:
        CheckpointError: they fit none.
    """
    for shape in _list_input_shapes(weight_shapes):
        if stated is not None and not _is_instance(shape, stated):
            continue
        with suppress(_MisfitError):
            network = Architecture(shape, _read_layers(entries, shape, where), True)
            if network.weight_shapes == weight_shapes:
                return network
    shown = "" if stated is None else f" but for ({', '.join(map(quote, stated))})"
    what = f"model_config does not say the input shape{shown}, and the weights fit no usual one"
    raise CheckpointError(where, what, "give the network an input shape, then save it again")


def _list_input_shapes(weight_shapes: WeightShapes) -> Iterator[Shape]:
    """Yield usual input shapes: the data sets' ones, vectors and squares for the first kernel."""
    yield from ((28, 28), (28, 28, 1), (32, 32, 3), (8, 8), (8, 8, 1))
    kernel = weight_shapes[0][0] if weight_shapes else ()
    if len(kernel) == 2:
        yield kernel[:1]
    if len(kernel) == 4:
        for size in range(1, MAX_SQUARE + 1):
            yield (size, size, kernel[2])
            yield (kernel[2], size, size)


def _is_instance(shape: Shape, stated: OpenShape) -> bool:
    return len(shape) == len(stated) and all(
        size in (None, n) for n, size in zip(shape, stated, strict=True)
    )


def _check_input_layer(settings: Settings) -> None:
    settings.take_choice("dtype", _INPUT_DTYPES, "float32")
    settings.ignore("name", "trainable", "optional")
    settings.finish()  # refuses sparse and ragged inputs


def _read_layers(
    entries: list[dict[str, Any]], input_shape: Shape, where: str
) -> tuple[Layer, ...]:
    nodes: list[LayerNode] = []
    for index, entry in enumerate(entries):
        if entry["class_name"] == "InputLayer" and index == 0:
            continue
        shape = nodes[-1].output_shape if nodes else input_shape
        nodes.append(_read_node(entry, index, shape, where))
    _check_network(nodes, where)
    return tuple(node.layer for node in nodes)


def _read_node(entry: dict[str, Any], index: int, input_shape: Shape, where: str) -> LayerNode:
    """Return the layer with its shapes.

    Raises:
        CheckpointError: a setting is not supported.
        _MisfitError: the layer does not fit its input, or its output is too large.
    """
    owner = _describe_layer(entry, index)
    settings = Settings(entry["config"], where, owner)
    name = _take_name(settings)
    try:
        layer = _read_layer(_LayerEntry(entry["class_name"], name, settings, input_shape))
        output_shape = layer.compute_output_shape(input_shape)
    except ValueError as error:
        what = f"{owner}: it does not fit its input {input_shape}: {error}"
        raise _MisfitError(where, what, SAVE_HINT) from None
    if math.prod(output_shape) > MAX_SIZE:
        what = f"{owner}: its output {output_shape} has more than {MAX_SIZE:,} numbers"
        raise _MisfitError(where, what, READ_HINT)
    return LayerNode(layer, input_shape, output_shape, layer.list_weights(input_shape))


def _take_name(settings: Settings) -> str:
    """Return a layer's name with escapes in place of characters that cannot be printed."""
    name = settings.take("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS:
        expected = f"a text of 1 to {MAX_NAME_CHARACTERS:,} characters"
        settings.refuse(f"its name must be {expected}, received {quote(name)}", SAVE_HINT)
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return "".join(escaped)


def _check_network(nodes: list[LayerNode], where: str) -> None:
    """Refuse a network as a whole; _MisfitError."""
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
        raise _MisfitError(where, what, READ_HINT)


def _read_layer(entry: _LayerEntry) -> Layer:
    """Return the layer; CheckpointError if a setting is missing or not supported."""
    dtype = _take_dtype(entry.settings)
    regularizers = tuple(_take_regularizers(entry.settings))
    layer = _READERS[entry.class_name](entry)
    entry.settings.ignore(*_LAYER_INPUT_SHAPE_KEYS, *_TRAINING_ONLY)
    entry.settings.finish()
    return replace(layer, dtype=dtype, regularizers=regularizers)


def _read_dense(entry: _LayerEntry) -> Layer:
    return Dense(
        entry.name,
        entry.settings.take_integer("units", 1, MAX_UNITS),
        _take_activation(entry.settings),
        entry.settings.take_bool("use_bias", True),
    )


def _read_flatten(entry: _LayerEntry) -> Layer:
    return Flatten(entry.name, _take_data_format(entry.settings))


def _read_dropout(entry: _LayerEntry) -> Layer:
    return Dropout(entry.name, entry.settings.take_number("rate", 0.0, 0, 1))


def _read_activation(entry: _LayerEntry) -> Layer:
    return ActivationLayer(entry.name, _take_activation(entry.settings))


def _read_relu(entry: _LayerEntry) -> Layer:
    max_value, negative_slope, threshold = (
        entry.settings.take_number(key, default, 0, MAX_FLOAT32)
        for key, default in (("max_value", math.inf), ("negative_slope", 0.0), ("threshold", 0.0))
    )
    bound = None if max_value == math.inf else max_value
    return ReLU(entry.name, bound, negative_slope, threshold)


def _read_leaky_relu(entry: _LayerEntry) -> Layer:
    alpha = entry.settings.take_number("alpha", 0.3, 0, MAX_FLOAT32)  # Keras 2's name
    slope = entry.settings.take_number("negative_slope", alpha, 0, MAX_FLOAT32)
    return LeakyReLU(entry.name, slope)


def _read_elu(entry: _LayerEntry) -> Layer:
    return ELU(entry.name, entry.settings.take_number("alpha", 1.0, -MAX_FLOAT32, MAX_FLOAT32))


def _read_softmax(entry: _LayerEntry) -> Layer:
    if _take_axis(entry) != -1:
        entry.settings.refuse("axis must be the last one")
    return ActivationLayer(entry.name, "softmax")


def _read_reshape(entry: _LayerEntry) -> Layer:
    target_shape = entry.settings.take_integers("target_shape", -1, MAX_SIZE)
    if 0 in target_shape or target_shape.count(-1) > 1:
        entry.settings.refuse("target_shape may hold sizes above 0 and one -1")
    return Reshape(entry.name, target_shape)


def _read_rescaling(entry: _LayerEntry) -> Layer:
    scale, offset = (
        entry.settings.take_numbers(key, default, -MAX_FLOAT32, MAX_FLOAT32)
        for key, default in (("scale", 1.0), ("offset", 0.0))
    )
    return Rescaling(entry.name, scale, offset)


def _read_batch_normalization(entry: _LayerEntry) -> Layer:
    return BatchNormalization(
        entry.name,
        entry.settings.take_number("epsilon", 1e-3, 0, 1),
        entry.settings.take_bool("center", True),
        entry.settings.take_bool("scale", True),
        _take_axis(entry),
    )


def _read_conv2d(entry: _LayerEntry) -> Layer:
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
        entry.settings.take_integer("groups", 1, MAX_UNITS, 1),
        _take_data_format(entry.settings),
    )


def _read_pooling(entry: _LayerEntry) -> Layer:
    pool_size = entry.settings.take_pair("pool_size", MAX_WINDOW, (2, 2))
    strides = entry.settings.take_pair("strides", MAX_WINDOW, pool_size)
    return Pooling2D(
        entry.name,
        _get_operation(entry),
        pool_size,
        strides,
        _take_padding(entry.settings),
        _take_data_format(entry.settings),
    )


def _read_global_pooling(entry: _LayerEntry) -> Layer:
    keepdims = entry.settings.take_bool("keepdims", False)
    data_format = _take_data_format(entry.settings)
    return GlobalPooling2D(entry.name, _get_operation(entry), keepdims, data_format)


def _get_operation(entry: _LayerEntry) -> Literal["Max", "Average"]:
    return "Max" if "Max" in entry.class_name else "Average"


def _take_dtype(settings: Settings) -> DtypePolicy:
    """Return the dtype policy; other number formats than floats are refused, as quantised ones."""
    dtype = settings.take("dtype", "float32")
    policy: Any = {"name": dtype}
    if isinstance(dtype, dict):
        kind, policy = dtype.get("class_name"), dtype.get("config")
        if not is_from_keras(dtype) or type(kind) is not str or kind not in _POLICIES:
            settings.refuse(f"the dtype policy {quote(kind)} is not supported")
    name = policy.get("name") if isinstance(policy, dict) else None
    if type(name) is not str or name not in get_args(DtypePolicy):
        settings.refuse(f"the dtype {quote(name)} is not supported")
    return cast(DtypePolicy, name)


def _take_axis(entry: _LayerEntry) -> int:
    """Return the axis as counted from the end, -1 for the last; ValueError if there is none."""
    axis, rank = entry.settings.take("axis", -1), len(entry.input_shape)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    if type(axis) is not int:
        entry.settings.refuse(f"axis must be one number, received {quote(axis)}")
    if not (-rank <= axis < 0 or 0 < axis <= rank):
        raise ValueError(f"it has no axis {axis}")
    return axis if axis < 0 else axis - rank - 1  # axis 0 is the batch


def _take_data_format(settings: Settings) -> DataFormat:
    return cast(
        DataFormat, settings.take_choice("data_format", get_args(DataFormat), "channels_last")
    )


def _take_activation(settings: Settings) -> Activation:
    """Return the activation, which may stand in the form of a serialised function of Keras'."""
    name = settings.take("activation", "linear")
    if isinstance(name, dict) and is_from_keras(name) and name.get("class_name") == "function":
        name = name.get("config", name)
    if isinstance(name, str):
        name = _ACTIVATION_ALIASES.get(name, name)
    if type(name) is not str or name not in get_args(Activation):
        settings.refuse(f"the activation {quote(name)} is not supported")
    return cast(Activation, name)


def _take_padding(settings: Settings) -> Padding:
    return cast(Padding, settings.take_choice("padding", get_args(Padding), "valid"))


def _take_regularizers(settings: Settings) -> Iterator[Regularizer]:
    """Yield the regularizers that Keras counts: those of frozen weights it does not."""
    is_frozen = settings.take("trainable", True) is False
    for target in _REGULARIZERS:
        entry = settings.take(f"{target}_regularizer")
        if entry is not None and not (is_frozen and target != ACTIVITY):
            yield _read_regularizer(target, entry)


def _read_regularizer(target: str, entry: Any) -> Regularizer:
    name, values = _split_entry(entry)
    kind = _REGULARIZER_ALIASES.get(name, name) if isinstance(name, str) else None
    if kind in _REGULARIZER_DEFAULTS and isinstance(values, dict):
        l1, l2 = _REGULARIZER_DEFAULTS[kind]
        factors = (values.get("l1", l1), values.get("l2", l2))
        if all(map(_is_number, factors)):
            return Regularizer(target, float(factors[0]), float(factors[1]))
    return Regularizer(target, unknown=quote(name))


def _split_entry(entry: Any) -> tuple[Any, Any]:
    """Return the class name and the config of a serialised object; a name alone has no config."""
    if not isinstance(entry, dict):
        return entry, {}
    return entry.get("class_name"), entry.get("config") if is_from_keras(entry) else None


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and -MAX_FLOAT32 <= value <= MAX_FLOAT32


def _unwrap_single(loss: Any) -> Any:
    """Return the loss, without the list or mapping that is meant for several outputs."""
    if isinstance(loss, list) and len(loss) == 1:
        return loss[0]
    if isinstance(loss, dict) and len(loss) == 1:
        return next(iter(loss.values()))
    return loss


def _read_loss(loss: Any) -> AnyLoss:
    if isinstance(loss, dict) and loss.get("class_name") == "function":
        loss = loss.get("config")
    name, settings = _split_entry(loss)
    if not isinstance(name, str):
        return UnknownLoss(f"its loss is {quote(name)}, not one for one output")
    known = _LOSS_ALIASES.get(name, name)
    if known not in _LOSS_CLASSES or not isinstance(settings, dict):
        shown = quote(name)[1:-1]
        return UnknownLoss(f"its loss {shown} is not one of Keras' own", shown)
    return _read_loss_settings(known, settings)


def _read_loss_settings(name: str, settings: dict[str, Any]) -> AnyLoss:
    """Return the loss with its settings; Keras computes what no formula here covers."""
    ignored = ("name", "fn", "dtype", "reduction")
    values = {k: v for k, v in settings.items() if v is not None and k not in ignored}
    if values.get("axis") == -1:
        del values["axis"]
    for key, value in values.items():
        kind = _LOSS_SETTINGS.get(key)
        if type(value) is not kind and not (kind is float and _is_number(value)):
            return UnknownLoss(f"the setting {quote(key)} of its loss is not supported", name)
    reduction = settings.get("reduction") or "mean"
    if reduction == "sum":
        values["reduction"] = reduction
    elif type(reduction) is not str or reduction not in _MEAN_REDUCTIONS:
        return UnknownLoss(f"the reduction {quote(reduction)} of its loss is not supported", name)
    from_logits, smoothing = values.get("from_logits", False), values.get("label_smoothing", 0.0)
    if not 0 <= smoothing <= 1:
        return UnknownLoss(f"the label smoothing {smoothing:g} of its loss is not 0 to 1", name)
    keras_config = ""
    if name not in LOSSES or not {"reduction", "axis", "ignore_class"}.isdisjoint(values):
        made = {"class_name": _LOSS_CLASSES[name], "config": values}
        keras_config = json.dumps(name if name == "crossentropy" else made)
    return LossSpec(name, from_logits, float(smoothing), keras_config=keras_config)


_READERS: dict[str, Callable[[_LayerEntry], Layer]] = {
    "Dense": _read_dense,
    "Flatten": _read_flatten,
    "Dropout": _read_dropout,
    "Activation": _read_activation,
    "ReLU": _read_relu,
    "LeakyReLU": _read_leaky_relu,
    "ELU": _read_elu,
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
_LAYERS_HINT = f"supported are {', '.join(LAYER_CLASSES)}"
_CHAIN_HINT = (
    "supported are Sequential networks, and Functional ones in which every layer has one input and"
    " one output"
)
