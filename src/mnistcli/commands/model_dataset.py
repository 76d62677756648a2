"""Which data a checkpoint is used on: those of its record, or those that flags name."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from mnistcli.checkpoints.reader import Checkpoint
from mnistcli.config.allowed_values import AUTO, check_choice, list_data_sets
from mnistcli.config.schema import AnyDataset, DatasetConfig, DatasetName, FilesConfig
from mnistcli.datasets.base import DatasetInfo
from mnistcli.datasets.registry import get_info
from mnistcli.errors import UsageError
from mnistcli.models.numpy_inference import is_same_layout

_DATASET, _DATA, _FILES = "--dataset", "--data", "files"


def choose_dataset(checkpoint: Checkpoint, name: str | None, own: Path | None) -> AnyDataset | None:
    """Return the data set's config; null for other people's files about which nothing is said.

    Args:
        checkpoint: with its record, where it has one.
        name: from `--dataset`.
        own: from `--data`.

    Raises:
        UsageError: there is no such data set, or it is not for this network.
        DataError: one's own images cannot be looked at, as they have to be for files that do not
            say what they take.
    """
    if name is not None:
        _check_name(name)
    recorded = checkpoint.record.config.dataset if checkpoint.record is not None else None
    if own is not None and name not in (None, _FILES):
        what = f"they are no copy of {name}"
        raise UsageError(f"{_DATA} and {_DATASET}", what, "give one of them")
    if isinstance(recorded, FilesConfig) and name in (None, _FILES):
        return _complete(checkpoint, recorded, own)
    if own is not None:
        return _adapt(checkpoint, recorded, own)
    if name == _FILES:
        raise UsageError(_DATASET, "nothing says where your images are", f"give {_DATA} PATH")
    if name is not None:
        chosen = DatasetConfig(name=cast("DatasetName", name))
        _check_fit(checkpoint, get_info(chosen), _DATASET)
        return chosen
    return recorded


def _check_name(name: str) -> None:
    """Refuse what is no data set; UsageError."""
    if name == AUTO:
        what = "auto chooses what to train on, a trained network has its data"
        raise UsageError(_DATASET, what, f"name them: one of {', '.join(list_data_sets())}")
    check_choice(name, list_data_sets(), _DATASET)


def _complete(checkpoint: Checkpoint, recorded: FilesConfig, own: Path | None) -> FilesConfig:
    """Take the recorded images, perhaps from another place."""
    names = checkpoint.record.class_names if checkpoint.record is not None else ()
    return recorded.model_copy(
        update={
            "path": recorded.path if own is None else str(own),
            "size": recorded.size or checkpoint.architecture.input_shape,
            "classes": recorded.classes or names,
        }
    )


def _adapt(checkpoint: Checkpoint, recorded: AnyDataset | None, own: Path) -> FilesConfig:
    """Bring one's own images to what a network takes that was trained on others."""
    config = FilesConfig(name="files", path=str(own))
    if recorded is not None and checkpoint.record is not None:
        info = get_info(recorded)
        if len(info.image_shape) == 1:
            what = f"{recorded.name} takes {info.image_shape[0]} numbers, not images"
            raise UsageError(_DATA, what, "leave it out")
        changes = {"size": info.image_shape, "classes": checkpoint.record.class_names}
        return config.model_copy(update=changes)
    info = get_info(config)
    _check_fit(checkpoint, info, _DATA)
    return config.model_copy(update={"size": info.image_shape, "classes": info.class_names})


def _check_fit(checkpoint: Checkpoint, info: DatasetInfo, flag: str) -> None:
    """Refuse data that the network was not made for before any are read; UsageError."""
    network = checkpoint.architecture
    hint = "name the data that it was trained on"
    if not is_same_layout(info.image_shape, network.input_shape):
        what = f"{info.title}'s inputs are {info.image_shape}, {checkpoint.path} takes"
        raise UsageError(flag, f"{what} {network.input_shape}", hint)
    units = network.output_shape[-1]
    if len(info.class_names) != max(2, units):
        what = f"{info.title} has {len(info.class_names)} classes, {checkpoint.path} tells"
        raise UsageError(flag, f"{what} {max(2, units)} apart", hint)
