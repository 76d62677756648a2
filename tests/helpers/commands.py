"""Arguments of `mnistcli train`, processes that run it, and the files that they leave."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest

from mnistcli.checkpoints.untrusted.protocol import DURATIONS

ADAM = ("--optimizer", "adam", "--learning-rate", 0.001)
SMALL = ("--batch-size", 100)  # compiles fastest
MLP = (*SMALL, *ADAM, "--model", "mlp", "--hidden", 16)
HARD = (*MLP, "--dropout", 0.2, "--validation", 0.2, "--seed", 5)  # whatever a state can hold
LONG = ("--batch-size", 20, *ADAM, "--model", "mlp", "--hidden", 32,
        "--dropout", 0.2, "--seed", 5)  # fmt: skip
STOPPED_EARLY = (  # after a few of its epochs, with the weights of an earlier one
    *SMALL, "--epochs", 30, "--model", "mlp", "--hidden", 16, "--dropout", 0.1,
    "--optimizer", "adam", "--learning-rate", 0.1, "--validation", 0.2,
    "--set", "training.early_stopping.patience=2",
    "--set", "training.reduce_on_plateau.patience=1",
)  # fmt: skip
NOT_CANONICAL = "is not canonical MNIST"


def read_arrays(path: Path) -> dict[str, bytes]:
    """Every data set of a checkpoint but the epochs' durations, as bytes.

    Keras counts the optimizers of a process: adam, adam_1, …
    """
    arrays: dict[str, bytes] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.endswith(DURATIONS):
            arrays[re.sub(r"/(adam|sgd)_\d+/", r"/\1/", name)] = item[()].tobytes()

    with h5py.File(path) as file:
        file.visititems(visit)
    assert len(arrays) > 4
    return arrays


def list_files() -> list[str]:
    """Everything in the working directory, hidden files too."""
    return sorted(path.name for path in Path().iterdir())


def drop_data_warning(text: str) -> str:
    return "".join(x for x in text.splitlines(keepends=True) if NOT_CANONICAL not in x)


@contextlib.contextmanager
def start(
    command: list[str], environment: dict[str, str], **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process group with its streams on pipes; none of it outlives the test."""
    process = subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, **options,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run_python_command(command: str) -> None:
    """Do what a shell does with `python -c …`, without the start of another Python."""
    python, flag, program = shlex.split(command)
    assert (python, flag) == ("python", "-c")
    exec(program, {})


def write_command(*words: object) -> list[str]:
    return [sys.executable, "-m", "mnistcli", *map(str, words)]


def wait_for_epoch(process: subprocess.Popen[str]) -> None:
    """Read stderr until the first epoch is through."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch "):
            return
    pytest.fail("the run ended before its first epoch")
