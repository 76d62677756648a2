"""Checkpoints for tests, made without Keras: small runs, and Keras' .h5 layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mnistcli.checkpoints.checksum import format_checksum_line
from mnistcli.checkpoints.record import Environment, ProgressRecord, Record, RunningState
from mnistcli.checkpoints.run_state import (
    CallbackStates,
    LayerState,
    NamedArray,
    NetworkState,
    Progress,
    RunState,
)
from mnistcli.config.schema import Config
from mnistcli.datasets.base import Identity
from mnistcli.models.architecture import Architecture
from mnistcli.models.input_scaling import Preprocessing
from mnistcli.models.layers import Dense, Dropout

Arrays = Mapping[str, NDArray[Any]]


def describe_dense(inputs: int, units: int, **settings: object) -> dict[str, Any]:
    """Keras 3's model_config of one Dense layer."""
    shape = {"batch_shape": [None, inputs], "dtype": "float32", "name": "input"}
    dense = {"name": "dense", "units": units, "activation": "softmax", **settings}
    layers = [
        {"class_name": "InputLayer", "config": shape},
        {"class_name": "Dense", "config": dense},
    ]
    return {"class_name": "Sequential", "config": {"name": "sequential", "layers": layers}}


def describe_network(architecture: Architecture) -> dict[str, Any]:
    """Keras 3's model_config of a network without penalties."""
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, *architecture.input_shape]}}
    ]
    for layer in architecture.layers:
        config: dict[str, Any] = {"name": layer.name}
        if isinstance(layer, Dense):
            config |= {"units": layer.units, "activation": layer.activation}
        if isinstance(layer, Dropout):
            config |= {"rate": layer.rate}
        layers.append({"class_name": layer.type, "config": config})
    return {"class_name": "Sequential", "config": {"name": "sequential", "layers": layers}}


def draw_dense(inputs: int, units: int) -> dict[str, Arrays]:
    """Weights of that layer as Keras 3 names them."""
    kernel = np.random.default_rng(0).normal(0, 0.1, (inputs, units)).astype(np.float32)
    return {"dense": {"dense/kernel": kernel, "dense/bias": np.arange(units, dtype=np.float32)}}


def write_names(group: h5py.Group, attribute: str, names: Sequence[str]) -> None:
    """A list of names as Keras writes it: fixed-length bytes."""
    group.attrs[attribute] = np.array([name.encode() for name in names], dtype="S")


def write_arrays(group: h5py.Group, arrays: Arrays) -> None:
    """Arrays under their names, and the names in order."""
    write_names(group, "weight_names", list(arrays))
    for name, values in arrays.items():
        group.create_dataset(name, data=values)


def write_model(path: Path, model_config: Any, layers: Mapping[str, Arrays]) -> Path:
    """A whole-model .h5 as Keras saves it, not compiled."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model_config)
        file.attrs["keras_version"] = "3.15.1"
        file.attrs["backend"] = "tensorflow"
        weights = file.create_group("model_weights")
        write_names(weights, "layer_names", list(layers))
        for name, arrays in layers.items():
            write_arrays(weights.create_group(name), arrays)
    return path


def write_dense(path: Path, inputs: int = 4, units: int = 3) -> Path:
    """The smallest network that is read: one Dense layer."""
    return write_model(path, describe_dense(inputs, units), draw_dense(inputs, units))


def edit_training_config(path: Path, **values: object) -> None:
    """Change what a file says that it was compiled with."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["training_config"])
        file.attrs["training_config"] = json.dumps({**config, **values})


def seal(path: Path) -> None:
    """Seal a file as if mnistcli had written it."""
    data = path.read_bytes()
    path.write_bytes(data + format_checksum_line(data))


def make_run(epoch: int = 2, inputs: int = 784) -> tuple[RunState, Record]:
    """A run of softmax regression after some epochs; each of its numbers tells the epoch."""
    kernel = np.full((inputs, 10), epoch, np.float32)
    bias = np.full(10, epoch, np.float32)
    dense = (
        NamedArray("sequential/dense/kernel", kernel),
        NamedArray("sequential/dense/bias", bias),
    )
    network = NetworkState(
        layers=(LayerState("dense", dense),),
        optimizer=(
            NamedArray("sgd/iteration", np.array(epoch, np.int64)),
            NamedArray("sgd/learning_rate", np.array(0.01, np.float32)),
        ),
        generators=(),
        metrics=(NamedArray("loss/total", np.array(epoch / 3, np.float32)),),
        model_config=json.dumps(describe_dense(inputs, 10)),
        training_config=json.dumps({"loss": "categorical_crossentropy"}),
    )
    history = {"loss": (1 / 3,) * epoch, "accuracy": (0.1,) * epoch}
    progress = Progress(epoch, 0, history, (0.5,) * epoch)
    config = Config()
    if inputs != 784:
        own = {"name": "files", "path": "/gone.npz", "size": (1, inputs)}
        config = Config.model_validate({"dataset": own | {"classes": (*"0123456789",)}})
    return RunState(network, progress), make_record(network, progress, config=config)


def make_record(
    network: NetworkState,
    progress: Progress,
    callbacks: CallbackStates | None = None,
    config: Config | None = None,
) -> Record:
    """What stands beside such a run."""
    config = config or Config()
    return Record(
        config=config,
        dataset=Identity(config.dataset.name, "0" * 64, {"x_train": "1" * 64}, None, "mnist.npz"),
        class_names=tuple("0123456789"),
        preprocessing=Preprocessing(0.0, 255.0),
        progress=ProgressRecord(
            epoch=progress.epoch,
            step=progress.step,
            best_epoch=progress.best_epoch,
            elapsed_s=1.5,
        ),
        running=RunningState(
            generators={a.name: tuple(a.values.tolist()) for a in network.generators},
            metrics={a.name: float(a.values) for a in network.metrics},
        ),
        early_stopping=callbacks.early_stopping if callbacks else None,
        reduce_on_plateau=callbacks.reduce_on_plateau if callbacks else None,
        environment=Environment(
            versions={"keras": "3.15.1"},
            processor="x86_64",
            processor_features=("avx2",),
            threads=2,
            onednn=True,
        ),
    )
