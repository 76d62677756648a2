"""The values that flags accept and their help texts, read from the schema's models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import BaseModel

from mnistcli.config.schema import AnyDatasetName
from mnistcli.config.suggestions import find_nearest
from mnistcli.errors import UsageError, quote_words
from mnistcli.file_kinds import is_existing_path

AUTO = "auto"
SPLITS = ("train", "validation", "test")
DATASET_SPLITS = ("train", "test")  # as data sets are published, without validation
MATRICES = ("raw", "normalized")  # of the numbers of an image
BaselineName = Literal["logistic-regression", "random-forest"]
BASELINES: tuple[str, ...] = get_args(BaselineName)
BASELINE_FLAG = "--baseline"
KEYS_OF_FLAGS = {  # of `train`, and of the arguments of `mnistcli.train`
    "--epochs": "training.epochs",
    "--batch-size": "training.batch_size",
    "--optimizer": "training.optimizer.name",
    "--learning-rate": "training.optimizer.learning_rate",
    "--dataset": "dataset.name",
    "--model": "model.type",
    "--hidden": "model.hidden",
    "--activation": "model.activation",
    "--dropout": "model.dropout",
    "--validation": "dataset.validation",
    "--seed": "training.seed",
}


def get_choices(model: type[BaseModel], field: str) -> tuple[str, ...]:
    """Return the names that a field of a model accepts."""
    return get_args(model.model_fields[field].annotation)


def get_tags(union: object, tag: str) -> tuple[str, ...]:
    """Return the values of the field that tells a union's models apart."""
    while get_args(union) and not isinstance(get_args(union)[0], type):
        union = get_args(union)[0]
    members = get_args(get_args(union)[0]) or get_args(union)
    return tuple(name for m in members for name in get_args(m.model_fields[tag].annotation))


def get_description(model: type[BaseModel], field: str) -> str:
    """Return the description of a field of a model."""
    return model.model_fields[field].description or ""


def list_dataset_names() -> tuple[str, ...]:
    """Return the names of all data sets, without `auto`, which chooses between them."""
    return tuple(name for name in get_args(AnyDatasetName) if name != AUTO)


def check_dataset_name(name: str, flag: str, *command: str) -> None:
    """Check that a flag names a data set; UsageError, which says how to give your own images.

    Args:
        name: the flag's value.
        flag: for the message.
        *command: what stands before `--data` where the flag is an argument.
    """
    names = list_dataset_names()
    if name not in names and is_existing_path(name):
        hint = f"give it as your own images: {quote_words(*command, '--data', name)}"
        raise UsageError(flag, f"{name} is a path, not the name of a data set", hint)
    check_choice(name, names, flag)


def check_choice(value: str, choices: Sequence[str], flag: str) -> None:
    """Check that a flag's value is one of its choices.

    Raises:
        UsageError: it is not; names the nearest choice, or all.
    """
    if value in choices:
        return
    near = find_nearest(value, choices)
    hint = f"did you mean {near}?" if near else f"choose one of {', '.join(choices)}"
    raise UsageError(flag, f"unknown name {value!r}", hint)
