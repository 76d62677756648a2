"""What `mnistcli train` does, also as a function of Python: `mnistcli.train`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mnistcli.config.overrides import Override
    from mnistcli.config.schema import Config
    from mnistcli.output.results import TrainResult
    from mnistcli.output.terminal import ProgressMode
    from mnistcli.training.callbacks import Callback

StrPath = str | os.PathLike[str]


def train(
    config: StrPath | Mapping[str, object] | Config | None = None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    dataset: str | None = None,
    model: Literal["softmax", "mlp"] | None = None,
    hidden: Sequence[int] | None = None,
    activation: str | None = None,
    dropout: float | None = None,
    validation: float | Literal["test"] | None = None,
    seed: int | None = None,
    overrides: Mapping[str, object] | None = None,
    output: StrPath | None = None,
    overwrite: bool = False,
    resume: StrPath | None = None,
    more: int | None = None,
    force: bool = False,
    init_from: StrPath | None = None,
    data_dir: StrPath | None = None,
    data: StrPath | None = None,
    stream: bool = False,
    tensorboard: StrPath | None = None,
    devices: int | None = None,
    callbacks: Sequence[Callback] = (),
    progress: ProgressMode = "none",
) -> TrainResult:
    """Train a network, write its checkpoint, and score it on the test set.

    Nothing is printed but warnings, which are records of the logger `mnistcli`.

    Args:
        config: YAML file, recipe name, mapping or `Config`; None for the default recipe, or with
            `resume`.
        epochs: number of epochs; with `resume` the total.
        batch_size: images per step.
        optimizer: its name, as configs have it.
        learning_rate: of the optimizer.
        dataset: its name.
        model: `softmax` or `mlp`.
        hidden: units of each hidden layer.
        activation: of the hidden layers.
        dropout: after each hidden layer, 0 to 1.
        validation: fraction held out of the training set, or `test`, which is only monitored.
        seed: of initial weights, shuffling, splits and dropout.
        overrides: dotted config keys and their values, as `--set`.
        output: the checkpoint, a .h5 file; None for a name made of the experiment and the time.
        overwrite: whether an existing file may be replaced.
        resume: checkpoint of a run to go on with, in its own file.
        more: epochs to add to it.
        force: resume although the data or the file have changed.
        init_from: checkpoint that gives the initial weights.
        data_dir: folder of the published data sets.
        data: your own images, a folder or an .npz file.
        stream: stream the training set from disk.
        tensorboard: directory of TensorBoard's event files.
        devices: number of devices that share each batch.
        callbacks: called while the run trains, in this order; see `mnistcli.Callback`.
        progress: what is shown on stderr: a bar, a line per epoch, or nothing.

    Returns:
        The result, which `mnistcli train --json` prints.

    Raises:
        MnistcliError: the run cannot begin, diverges, or cannot be written.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved, and can be resumed.
    """
    from mnistcli.commands.train.request import TrainArguments
    from mnistcli.commands.train.run import ProgressDisplay, prepare_and_train
    from mnistcli.signals import SignalReceived, end_by_signal

    source, document = _read_config(config)
    flags = {
        "--epochs": epochs,
        "--batch-size": batch_size,
        "--optimizer": optimizer,
        "--learning-rate": learning_rate,
        "--dataset": dataset,
        "--model": model,
        "--hidden": None if hidden is None else list(hidden),
        "--activation": activation,
        "--dropout": dropout,
        "--validation": validation,
        "--seed": seed,
    }
    arguments = TrainArguments(
        config=source,
        document=document,
        overrides=_make_overrides(flags, overrides or {}),
        output=_to_path(output),
        overwrite=overwrite,
        resume=_to_path(resume),
        more=more,
        force=force,
        init_from=_to_path(init_from),
        data_dir=_to_path(data_dir),
        data=_to_path(data),
        stream=stream,
        tensorboard=_to_path(tensorboard),
        devices=devices,
    )
    try:
        with contextlib.closing(ProgressDisplay(progress)) as display:
            return prepare_and_train(arguments, [display, *callbacks], progress)
    except SignalReceived as received:
        if received.number != signal.SIGINT:
            end_by_signal(received.number)
        raise KeyboardInterrupt(str(received)) from None


def _read_config(
    config: StrPath | Mapping[str, object] | Config | None,
) -> tuple[str | None, str | None]:
    """Return a config's file or recipe, or its YAML where it is given as values."""
    if config is None:
        return None, None
    if isinstance(config, str | os.PathLike):
        return os.fspath(config), None
    if isinstance(config, Mapping):
        import yaml

        return None, yaml.safe_dump(dict(config), sort_keys=False)
    from mnistcli.config.serialization import dump_config

    return None, dump_config(config)


def _make_overrides(
    flags: Mapping[str, object], overrides: Mapping[str, object]
) -> tuple[Override, ...]:
    from mnistcli.config.allowed_values import KEYS_OF_FLAGS
    from mnistcli.config.overrides import Override

    given = [
        Override(KEYS_OF_FLAGS[flag], value, flag)
        for flag, value in flags.items()
        if value is not None
    ]
    return (*given, *(Override(key, value, "--set") for key, value in overrides.items()))


def _to_path(path: StrPath | None) -> Path | None:
    return None if path is None else Path(path)
