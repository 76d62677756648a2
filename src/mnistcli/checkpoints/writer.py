"""Write a run as a .h5 file: composed in memory, followed by its checksum, written atomically."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from mnistcli.atomic_files import create_file, explain_write_error, replace_file
from mnistcli.checkpoints.checksum import format_checksum_line
from mnistcli.checkpoints.record import Record, check_checkpoint_size
from mnistcli.checkpoints.run_state import NamedArray, RunState
from mnistcli.checkpoints.untrusted.protocol import (
    CALLBACK_WEIGHTS_PATH,
    DURATIONS,
    RECORD_GROUP,
)


def replace_checkpoint(path: Path, state: RunState, record: Record) -> None:
    """Write a checkpoint, and replace the one that is there, if any.

    A symbolic link is followed: the file that it leads to is replaced.

    Raises:
        ResourceError: the checkpoint could not be written; the earlier one is untouched.
    """
    target = Path(os.path.realpath(path))
    chunks = _compose_with_checksum(state, record)
    with _translate_os_errors(target):
        check_checkpoint_size(sum(map(len, chunks)), str(target))
        replace_file(target, chunks)


def create_checkpoint(path: Path, state: RunState, record: Record) -> None:
    """Write a checkpoint to a path where no file exists.

    Raises:
        FileExistsError: there is a file, perhaps of another process since the path was chosen.
        ResourceError: the checkpoint could not be written.
    """
    chunks = _compose_with_checksum(state, record)
    with _translate_os_errors(path):
        check_checkpoint_size(sum(map(len, chunks)), str(path))
        create_file(path, chunks)


def compose_checkpoint(state: RunState, record: Record) -> bytes:
    """Return the HDF5 data of a checkpoint: Keras' whole-model layout and the group `/mnistcli`."""
    with h5py.File("checkpoint", "w", driver="core", backing_store=False) as file:
        file.attrs["keras_version"] = record.environment.versions["keras"]
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = state.network.model_config
        file.attrs["training_config"] = state.network.training_config
        model = file.create_group("model_weights")
        _write_names(model, "layer_names", [layer.name for layer in state.network.layers])
        model.attrs["backend"] = file.attrs["backend"]
        model.attrs["keras_version"] = file.attrs["keras_version"]
        for layer in state.network.layers:
            _write_arrays(model.create_group(layer.name), layer.weights)
        _write_arrays(model.create_group("top_level_model_weights"), ())
        _write_arrays(file.create_group("optimizer_weights"), state.network.optimizer)
        _write_record(file.create_group(RECORD_GROUP), state, record)
        if state.callbacks.weights:
            _write_arrays(file.create_group(CALLBACK_WEIGHTS_PATH), state.callbacks.weights)
        file.flush()
        return bytes(file.id.get_file_image())


def _compose_with_checksum(state: RunState, record: Record) -> tuple[bytes, bytes]:
    data = compose_checkpoint(state, record)
    return data, format_checksum_line(data)


def _write_names(group: h5py.Group, name: str, names: Sequence[str]) -> None:
    group.attrs.create(name, list(names), (len(names),), h5py.string_dtype())


def _write_arrays(group: h5py.Group, arrays: Sequence[NamedArray]) -> None:
    _write_names(group, "weight_names", [array.name for array in arrays])
    for array in arrays:
        group.create_dataset(array.name, data=array.values)


def _write_record(group: h5py.Group, state: RunState, record: Record) -> None:
    for name, value in record.model_dump(mode="json").items():
        group.attrs[name] = json.dumps(value)
    history = group.create_group("history")
    for name, values in sorted(state.progress.history.items()):
        history.create_dataset(name, data=np.array(values, np.float64))
    durations = np.array(state.progress.epoch_durations_s, np.float64)
    history.create_dataset(DURATIONS, data=durations)


@contextlib.contextmanager
def _translate_os_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise explain_write_error(target, "the checkpoint", error) from error
