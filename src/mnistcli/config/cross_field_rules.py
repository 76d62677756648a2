"""Rules over several keys of the config: combinations of values that are each valid alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace

from mnistcli.config.schema import (
    CLASS_COUNTS,
    LOSSES,
    Clip,
    Config,
    Cosine,
    FilesConfig,
    MlpModel,
    Piecewise,
    RandomUniform,
    Sgd,
)
from mnistcli.config.validation_errors import ConfigIssue, KeyPath, format_path
from mnistcli.errors import pluralize

_SIZE: KeyPath = ("dataset", "size")
_CLASSES: KeyPath = ("dataset", "classes")
_CLASS_WEIGHT: KeyPath = ("training", "class_weight")
_NAME: KeyPath = ("dataset", "name")
_NORMALIZATION: KeyPath = ("dataset", "normalization")
_VALIDATION: KeyPath = ("dataset", "validation")
_OUTPUT: KeyPath = ("model", "output_activation")
_FLATTEN: KeyPath = ("model", "flatten")
_HIDDEN: KeyPath = ("model", "hidden")
_LOSS: KeyPath = ("training", "loss")
_OPTIMIZER: KeyPath = ("training", "optimizer")
_SCHEDULE: KeyPath = ("training", "schedule")
_PLATEAU: KeyPath = ("training", "reduce_on_plateau")
_STOPPING: KeyPath = ("training", "early_stopping")
_CLIP: KeyPath = ("training", "clip")
_SMOOTHING: KeyPath = ("training", "label_smoothing")

_KERAS_NAME = re.compile(r"(flatten|dense|dropout|input_layer)(_\d+)?")
_RESERVED_GROUP = "top_level_model_weights"  # where Keras' HDF5 format keeps layer-less weights


def check_rules(config: Config) -> list[ConfigIssue]:
    """Return the issues of all rules over several keys."""
    rules = (
        *(_check_xor, _check_head_and_loss, _check_layer_names, _check_nesterov, _check_uniform),
        *(_check_monitors, _check_schedule, _check_clip, _check_smoothing, _check_files),
    )
    issues = [issue for rule in rules for issue in rule(config)]
    count = count_classes(config)
    return issues if count is None else [*issues, *check_class_count(config, count)]


def list_unused_settings(config: Config) -> Iterator[str]:
    """Yield a line for each valid setting that has no effect with the others."""
    is_softmax = not isinstance(config.model, MlpModel)
    if config.training.precision != "float32" and is_softmax:
        why = "a softmax regression has only an output layer, which computes in float32"
        yield f"training.precision {config.training.precision} changes nothing: {why}"


def check_class_count(config: Config, count: int) -> list[ConfigIssue]:
    """Check the rules that depend on the number of classes."""
    return [*_check_class_weight(config, count), *_check_two_classes(config, count)]


def count_classes(config: Config) -> int | None:
    """Return the number of classes, None if it cannot be known without reading the data."""
    if isinstance(config.dataset, FilesConfig):
        return len(config.dataset.classes) if config.dataset.classes is not None else None
    # auto chooses between data sets of the same classes
    return CLASS_COUNTS["mnist" if config.dataset.name == "auto" else config.dataset.name]


def _check_xor(config: Config) -> Iterator[ConfigIssue]:
    if config.dataset.name != "xor":
        return
    if config.dataset.normalization == "unit":
        what = "xor's rows are 0 and 1 already, unit would divide them by 255"
        yield _make_xor_issue(_NORMALIZATION, what, "normalization", "none")
    if config.dataset.validation not in (0.0, "test"):
        what = "xor's four rows leave none to hold out"
        yield _make_xor_issue(_VALIDATION, what, "validation", "0.0")
    if config.model.output_activation == "softmax":
        what = "xor has one output unit, and softmax of one unit is always 1"
        yield _make_xor_issue(_OUTPUT, what, "output_activation", "sigmoid")
    if config.model.flatten:
        yield _make_xor_issue(_FLATTEN, "xor's rows are no images", "flatten", "false")
    if LOSSES[config.training.loss].is_multiclass:
        what = f"xor has one output unit, {config.training.loss} needs one for each class"
        yield _make_xor_issue(_LOSS, what, "loss", "mean_squared_error or binary_crossentropy")


def _check_head_and_loss(config: Config) -> Iterator[ConfigIssue]:
    is_binary = config.training.loss == "binary_crossentropy"
    has_classes = config.dataset.name != "xor"
    if is_binary and has_classes and config.model.output_activation == "softmax":
        what = "binary_crossentropy does not match softmax outputs"
        hint = "set training.loss: categorical_crossentropy, or model.output_activation: sigmoid"
        flag_hint = (
            "write --set training.loss=categorical_crossentropy"
            " or add --set model.output_activation=sigmoid"
        )
        yield ConfigIssue(_LOSS, what, hint, flag_hint, depends_on=(_OUTPUT,))


def _check_layer_names(config: Config) -> Iterator[ConfigIssue]:
    hidden = config.model.hidden if isinstance(config.model, MlpModel) else ()
    first_with: dict[str, int] = {}
    for index, layer in enumerate(hidden):
        path = (*_HIDDEN, index, "name")
        if layer.name is None:
            continue
        if _KERAS_NAME.fullmatch(layer.name) or layer.name == _RESERVED_GROUP:
            what = f"{layer.name} is a name that Keras gives itself"
            yield ConfigIssue(path, what, "choose another, or leave the name out")
        elif layer.name in first_with:
            what = f"{layer.name} is the name of model.hidden.{first_with[layer.name]} too"
            yield ConfigIssue(path, what, "choose another")
        first_with.setdefault(layer.name, index)


def _check_nesterov(config: Config) -> Iterator[ConfigIssue]:
    optimizer = config.training.optimizer
    if isinstance(optimizer, Sgd) and optimizer.nesterov and optimizer.momentum == 0:
        path, momentum = (*_OPTIMIZER, "nesterov"), (*_OPTIMIZER, "momentum")
        yield _make_issue(path, "nesterov needs momentum above 0", "momentum", "0.9", momentum)


def _check_uniform(config: Config) -> Iterator[ConfigIssue]:
    for key in ("kernel_initializer", "bias_initializer"):
        initializer = getattr(config.model, key)
        if isinstance(initializer, RandomUniform) and initializer.minval > initializer.maxval:
            path, maxval = ("model", key, "minval"), ("model", key, "maxval")
            what = f"minval {initializer.minval} is above maxval {initializer.maxval}"
            yield ConfigIssue(path, what, "exchange them", depends_on=(maxval,))


def _make_xor_issue(path: KeyPath, what: str, key: str, choice: str) -> ConfigIssue:
    # `--dataset xor` with a recipe for images breaks several rules; one hint mends all of them.
    issue = _make_issue(path, what, key, choice, _NAME)
    return replace(issue, joint_hint="take its own recipe: mnistcli train xor")


def _check_monitors(config: Config) -> Iterator[ConfigIssue]:
    monitors = (
        (_STOPPING, config.training.early_stopping),
        (_PLATEAU, config.training.reduce_on_plateau),
    )
    for path, callback in monitors:
        if callback is None or not callback.monitor.startswith("val_"):
            continue
        what = ""
        if config.dataset.validation == "test":
            what = "the test set must not decide about training"
        elif config.dataset.validation == 0:
            what = f"it monitors {callback.monitor}, and there is no validation set"
        if what:
            hint, flag_hint = _suggest_monitor(path, config)
            yield ConfigIssue(path, what, hint, flag_hint, depends_on=(_VALIDATION,))


def _suggest_monitor(path: KeyPath, config: Config) -> tuple[str, str]:
    """Return hints for a metric to monitor, one for a file and one for the command line."""
    if config.dataset.name != "xor":
        return "set dataset.validation: 0.1", "add --validation 0.1"
    if path == _STOPPING:
        hint = "leave it out: xor's four rows leave none to hold out"
        return hint, hint
    return "set monitor: loss", f"add --set {format_path(path)}.monitor=loss"


def _check_schedule(config: Config) -> Iterator[ConfigIssue]:
    schedule = config.training.schedule
    if schedule is not None and config.training.reduce_on_plateau is not None:
        what = "a learning rate that follows a schedule cannot be lowered on a plateau too"
        yield ConfigIssue(_PLATEAU, what, "remove one of the two", depends_on=(_SCHEDULE,))
    if isinstance(schedule, Cosine):
        length = config.training.epochs if schedule.epochs is None else schedule.epochs
        if schedule.warmup_epochs >= length:
            path = (*_SCHEDULE, "warmup_epochs")
            what = f"a rise of {schedule.warmup_epochs:g} epochs fills all {length:g}"
            involved = ((*_SCHEDULE, "epochs"), ("training", "epochs"))
            yield ConfigIssue(path, what, "make it shorter", depends_on=involved)
    if isinstance(schedule, Piecewise):
        boundaries, factors = schedule.boundaries, schedule.factors
        if any(a >= b for a, b in itertools.pairwise(boundaries)):
            yield ConfigIssue((*_SCHEDULE, "boundaries"), "they do not rise", "put them in order")
        if len(boundaries) != len(factors):
            what = f"{len(factors)} for {pluralize(len(boundaries), 'boundary')}"
            path, other = (*_SCHEDULE, "factors"), (*_SCHEDULE, "boundaries")
            yield ConfigIssue(path, what, "give one a boundary", depends_on=(other,))


def _check_clip(config: Config) -> Iterator[ConfigIssue]:
    # Keras' optimizers take one of the bounds at a time.
    clip = config.training.clip
    if clip is not None and len(clip.model_dump(exclude_none=True)) != 1:
        kinds = ", ".join(Clip.model_fields)
        involved = tuple((*_CLIP, kind) for kind in Clip.model_fields)
        what, hint = f"expected exactly one of {kinds}", "write clip: {norm: 1.0}"
        yield ConfigIssue(_CLIP, what, hint, "give one of them", depends_on=involved)


def _check_smoothing(config: Config) -> Iterator[ConfigIssue]:
    loss = config.training.loss
    if config.training.label_smoothing > 0 and not LOSSES[loss].has_label_smoothing:
        what = f"{loss} has no label smoothing"
        is_xor = config.dataset.name == "xor"
        choice = "binary_crossentropy" if is_xor else "categorical_crossentropy"
        hint = f"set training.loss: {choice}"
        yield ConfigIssue(
            _SMOOTHING, what, hint, f"add --set training.loss={choice}", depends_on=(_LOSS,)
        )


def _make_issue(path: KeyPath, what: str, key: str, choice: str, involved: KeyPath) -> ConfigIssue:
    """Return an issue whose hint is another value of a key in the same block."""
    block = ".".join(str(part) for part in path[:-1])
    return ConfigIssue(
        path,
        what,
        f"set {key}: {choice}",
        f"add --set {block}.{key}={choice.split(maxsplit=1)[0]}",
        depends_on=(involved,),
    )


def _check_files(config: Config) -> Iterator[ConfigIssue]:
    if not isinstance(config.dataset, FilesConfig):
        return
    size, classes = config.dataset.size or (), config.dataset.classes or ()
    if len(size) == 3 and size[2] != 3:
        what = f"an image has 3 colours, received {size[2]}"
        yield ConfigIssue(
            (*_SIZE, 2), what, "write [height, width, 3], or [height, width] for grey"
        )
    for index, name in enumerate(classes):
        if name in classes[:index]:
            yield ConfigIssue((*_CLASSES, index), f"{name} is there twice", "name each class once")
        if not name.isprintable():
            yield ConfigIssue((*_CLASSES, index), "not a printable text", "choose another name")


def _check_class_weight(config: Config, count: int) -> Iterator[ConfigIssue]:
    weights = config.training.class_weight
    if isinstance(weights, tuple) and len(weights) != count:
        received = pluralize(len(weights), "weight")
        what = f"{config.dataset.name} has {count} classes, received {received}"
        yield ConfigIssue(
            _CLASS_WEIGHT, what, f"give {count}, or balanced", depends_on=(_NAME, _CLASSES)
        )


def _check_two_classes(config: Config, count: int) -> Iterator[ConfigIssue]:
    # Two classes with sigmoid share one output unit. xor has its own rules.
    if count != 2 or config.dataset.name == "xor" or config.model.output_activation == "softmax":
        return
    if LOSSES[config.training.loss].is_multiclass:
        what = f"{config.training.loss} does not match the one sigmoid unit that tells two classes"
        hint = "set training.loss: binary_crossentropy, or model.output_activation: softmax"
        flag_hint = "add --set training.loss=binary_crossentropy"
        yield ConfigIssue(_LOSS, f"{what} apart", hint, flag_hint, depends_on=(_OUTPUT, _CLASSES))
