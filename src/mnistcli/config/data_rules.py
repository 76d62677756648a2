"""Rules that depend on how many classes the data have, and those about images of one's own."""

from __future__ import annotations

from collections.abc import Iterator

from mnistcli.config.schema import Config, FilesConfig
from mnistcli.config.validation_errors import Fault, KeyPath

_NAME: KeyPath = ("dataset", "name")
_SIZE: KeyPath = ("dataset", "size")
_CLASSES: KeyPath = ("dataset", "classes")
_OUTPUT: KeyPath = ("model", "output_activation")
_LOSS: KeyPath = ("training", "loss")
_CLASS_WEIGHT: KeyPath = ("training", "class_weight")


def check_class_count(config: Config, count: int) -> list[Fault]:
    """Return what is wrong with a config that learns so many classes."""
    return [*_check_class_weight(config, count), *_check_two_classes(config, count)]


def count_classes(config: Config) -> int | None:
    """Count the classes where they can be known without looking at any data."""
    if isinstance(config.dataset, FilesConfig):
        return len(config.dataset.classes) if config.dataset.classes is not None else None
    return 2 if config.dataset.name == "xor" else 10


def _check_class_weight(config: Config, count: int) -> Iterator[Fault]:
    """Every class needs its weight."""
    weights = config.training.class_weight
    if isinstance(weights, tuple) and len(weights) != count:
        what = f"{config.dataset.name} has {count} classes, received {len(weights)} weights"
        yield Fault(_CLASS_WEIGHT, what, f"give {count}, or balanced", involves=(_NAME, _CLASSES))


def _check_two_classes(config: Config, count: int) -> Iterator[Fault]:
    """Sigmoid decides between two classes by one output unit; xor has rules of its own."""
    if count != 2 or config.dataset.name == "xor" or config.model.output_activation == "softmax":
        return
    if config.training.loss in ("categorical_crossentropy", "sparse_categorical_crossentropy"):
        what = f"{config.training.loss} does not match the one sigmoid unit that tells two classes"
        hint = "set training.loss: binary_crossentropy, or model.output_activation: softmax"
        flag_hint = "add --set training.loss=binary_crossentropy"
        yield Fault(_LOSS, f"{what} apart", hint, flag_hint, involves=(_OUTPUT, _CLASSES))


def check_files(config: Config) -> Iterator[Fault]:
    """A size is that of a grey or of a colour image; names tell classes apart."""
    if not isinstance(config.dataset, FilesConfig):
        return
    size, classes = config.dataset.size or (), config.dataset.classes or ()
    if len(size) == 3 and size[2] != 3:
        what = f"an image has 3 colours, received {size[2]}"
        yield Fault((*_SIZE, 2), what, "write [height, width, 3], or [height, width] for grey")
    for index, name in enumerate(classes):
        if name in classes[:index]:
            yield Fault((*_CLASSES, index), f"{name} is there twice", "name each class once")
        if not name.isprintable():
            yield Fault((*_CLASSES, index), "not a printable text", "choose another name")
