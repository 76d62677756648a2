"""Rules that join several keys: combinations that each key alone cannot know to be wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from mnistcli.config.faults import Fault, KeyPath
from mnistcli.config.models import Config, MlpModel, RandomUniform, Sgd

_NAME: KeyPath = ("dataset", "name")
_NORMALIZATION: KeyPath = ("dataset", "normalization")
_VALIDATION: KeyPath = ("dataset", "validation")
_OUTPUT: KeyPath = ("model", "output_activation")
_FLATTEN: KeyPath = ("model", "flatten")
_HIDDEN: KeyPath = ("model", "hidden")
_LOSS: KeyPath = ("training", "loss")
_OPTIMIZER: KeyPath = ("training", "optimizer")

_AUTOMATIC_NAME = re.compile(r"(flatten|dense|dropout|input_layer)(_\d+)?")
_RESERVED_GROUP = "top_level_model_weights"  # where Keras' HDF5 format keeps layer-less weights


def check_rules(config: Config) -> list[Fault]:
    """Return what is wrong with keys that are each legal alone; nothing where all fit."""
    rules = (_check_xor, _check_head_and_loss, _check_layer_names, _check_nesterov, _check_uniform)
    return [fault for rule in rules for fault in rule(config)]


def _check_xor(config: Config) -> Iterator[Fault]:
    """Four rows of two bits and one output unit leave little choice."""
    if config.dataset.name != "xor":
        return
    if config.dataset.normalization == "unit":
        what = "xor's rows are 0 and 1 already, unit would divide them by 255"
        yield _fault_of_xor(_NORMALIZATION, what, "normalization", "none")
    if config.dataset.validation not in (0.0, "test"):
        what = "xor's four rows leave none to hold out"
        yield _fault_of_xor(_VALIDATION, what, "validation", "0.0")
    if config.model.output_activation == "softmax":
        what = "xor has one output unit, and softmax of one unit is always 1"
        yield _fault_of_xor(_OUTPUT, what, "output_activation", "sigmoid")
    if config.model.flatten:
        yield _fault_of_xor(_FLATTEN, "xor's rows are no images", "flatten", "false")
    if config.training.loss in ("categorical_crossentropy", "sparse_categorical_crossentropy"):
        what = f"xor has one output unit, {config.training.loss} needs one for each class"
        yield _fault_of_xor(_LOSS, what, "loss", "mean_squared_error or binary_crossentropy")


def _check_head_and_loss(config: Config) -> Iterator[Fault]:
    """binary_crossentropy judges every output by itself; softmax outputs depend on each other."""
    is_binary = config.training.loss == "binary_crossentropy"
    has_classes = config.dataset.name != "xor"
    if is_binary and has_classes and config.model.output_activation == "softmax":
        what = "binary_crossentropy does not match softmax outputs"
        hint = "set training.loss: categorical_crossentropy, or model.output_activation: sigmoid"
        yield Fault(_LOSS, what, hint, hint.replace(": ", "="), involves=(_OUTPUT,))


def _check_layer_names(config: Config) -> Iterator[Fault]:
    """Keras wants every layer's name once, and gives some names itself."""
    hidden = config.model.hidden if isinstance(config.model, MlpModel) else ()
    first_with: dict[str, int] = {}
    for index, layer in enumerate(hidden):
        path = (*_HIDDEN, index, "name")
        if layer.name is None:
            continue
        if _AUTOMATIC_NAME.fullmatch(layer.name) or layer.name == _RESERVED_GROUP:
            what = f"{layer.name} is a name that Keras gives itself"
            yield Fault(path, what, "choose another, or leave the name out")
        elif layer.name in first_with:
            what = f"{layer.name} is the name of model.hidden.{first_with[layer.name]} too"
            yield Fault(path, what, "choose another")
        first_with.setdefault(layer.name, index)


def _check_nesterov(config: Config) -> Iterator[Fault]:
    """Without momentum there is nothing to look ahead with."""
    optimizer = config.training.optimizer
    if isinstance(optimizer, Sgd) and optimizer.nesterov and optimizer.momentum == 0:
        path, momentum = (*_OPTIMIZER, "nesterov"), (*_OPTIMIZER, "momentum")
        yield _fault(path, "nesterov needs momentum above 0", "momentum", "0.9", momentum)


def _check_uniform(config: Config) -> Iterator[Fault]:
    """An interval has its lower end first."""
    for key in ("kernel_initializer", "bias_initializer"):
        initializer = getattr(config.model, key)
        if isinstance(initializer, RandomUniform) and initializer.minval > initializer.maxval:
            path, maxval = ("model", key, "minval"), ("model", key, "maxval")
            what = f"minval {initializer.minval} is above maxval {initializer.maxval}"
            yield Fault(path, what, "exchange them", involves=(maxval,))


def _fault_of_xor(path: KeyPath, what: str, key: str, choice: str) -> Fault:
    """Whoever asks an image's recipe for xor wants the other recipe."""
    fault = _fault(path, what, key, choice, _NAME)
    return replace(fault, remedy="take its own recipe: mnistcli train xor")


def _fault(path: KeyPath, what: str, key: str, choice: str, involved: KeyPath) -> Fault:
    """Most ways out are one key's other value."""
    block = ".".join(str(part) for part in path[:-1])
    return Fault(
        path,
        what,
        f"set {key}: {choice}",
        f"add --set {block}.{key}={choice.split(maxsplit=1)[0]}",
        involves=(involved,),
    )
