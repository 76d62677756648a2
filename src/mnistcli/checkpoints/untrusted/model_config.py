"""The `model_config` of a Keras whole-model .h5 -> the layer plan. No Keras; nothing is executed.

Keras 2 and 3 are read alike: `batch_input_shape` or `batch_shape`, in an InputLayer or in the
first layer, or `build_input_shape` beside the layers, which early Keras 2 gave as a bare list.
What decides how a network was trained (initializers, regularizers, constraints) is passed over.
Anything else that is unknown is refused: a network that is computed differently from how its
author's Keras does it is worse than none.
"""

from __future__ import annotations

import math
from typing import Any

from mnistcli.checkpoints.limits import MAX_PARAMETERS
from mnistcli.checkpoints.untrusted.keras_config import (
    INPUT_SHAPE_KEYS,
    LAYER_CLASSES,
    MAX_SIZE,
    LayerEntry,
    read_layer,
)
from mnistcli.checkpoints.untrusted.protocol import Settings, is_from_keras, parse_json, show
from mnistcli.errors import CheckpointError
from mnistcli.models.architecture import Architecture, Stage
from mnistcli.models.layers import Shape

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
    stages: list[Stage] = []
    for index, entry in enumerate(entries):
        if entry["class_name"] == "InputLayer" and index == 0:
            continue
        shape = stages[-1].output_shape if stages else input_shape
        stages.append(_read_stage(entry, index, shape, where))
    _check_network(stages, where)
    return Architecture(input_shape, tuple(stage.layer for stage in stages))


def _find_layers(model: Any, where: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the entries of the layers, each a class name and a config, and what is beside them."""
    if not isinstance(model, dict) or not isinstance(model.get("class_name"), str):
        raise CheckpointError(where, "model_config does not describe a network", HINT)
    if model["class_name"] != "Sequential" or not is_from_keras(model):
        kind = show(model["class_name"])
        raise CheckpointError(where, f"the network is of class {kind}, not Sequential", HINT)
    config = model.get("config")
    settings = config if isinstance(config, dict) else {"layers": config}
    entries = settings.get("layers")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
        what = f"expected a list of 1 to {MAX_LAYERS} layers, received {show(entries)}"
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
        text += f" {show(name)}"
    return f"{text} ({show(class_name)[1:-1]})" if isinstance(class_name, str) else text


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
        shown = ", ".join(map(show, sizes[:8]))
        settings.refuse(f"the input shape ({shown}) is not 1 to {MAX_SIZE:,} known numbers")
    return tuple(sizes)


def _check_input_layer(settings: Settings) -> None:
    """Refuse inputs that are no plain arrays of numbers."""
    settings.take_choice("dtype", INPUT_DTYPES, "float32")
    settings.ignore("name", "trainable", "optional")
    settings.finish()  # sparse and ragged, if they are on


def _read_stage(entry: dict[str, Any], index: int, input_shape: Shape, where: str) -> Stage:
    """Read one layer and put it in its place; bounds what it makes of each example."""
    settings = Settings(entry["config"], where, _describe(entry, index), HINT)
    name = settings.take("name")
    if not isinstance(name, str) or not _is_layer_name(name):
        settings.refuse(f"its name must be a short printable text without /, received {show(name)}")
    layer = read_layer(LayerEntry(entry["class_name"], name, settings, input_shape))
    try:
        output_shape = layer.compute_output_shape(input_shape)
    except ValueError as error:
        settings.refuse(f"it does not fit its input: {error}")
    if math.prod(output_shape) > MAX_SIZE:
        settings.refuse(f"its output {output_shape} has more than {MAX_SIZE:,} numbers")
    return Stage(layer, input_shape, output_shape, layer.list_weights(input_shape))


def _is_layer_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME_CHARACTERS and name.isprintable() and "/" not in name


def _check_network(stages: list[Stage], where: str) -> None:
    """Refuse what no layer alone can be blamed for."""
    names = [stage.layer.name for stage in stages]
    twice = next((name for name in names if names.count(name) > 1), None)
    count = sum(stage.parameter_count for stage in stages)
    what = ""
    if not stages:
        what = "the network has no layers"
    elif twice is not None:
        what = f"two layers have the name {show(twice)}"
    elif count > MAX_PARAMETERS:
        what = f"the network has {count:,} parameters, at most {MAX_PARAMETERS:,} are read"
    elif len(stages[-1].output_shape) != 1:
        what = f"its output {stages[-1].output_shape} is not one number a class"
    if what:
        raise CheckpointError(where, what, HINT)
