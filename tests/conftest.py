"""Fixtures of several test files: small data sets, a command runner, trained networks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistcli.checkpoints.record import count_processors
from mnistcli.datasets.base import Split
from mnistcli.datasets.synthetic import draw_digits

SOURCE = Path(__file__).parents[1] / "src"

# Compiling is most of the suite's time, and programs that are optimised less compute the same.
# `make test-all` runs them as users do.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)


@pytest.fixture(scope="session")
def mnist_directory() -> Path:
    """The folder that MNISTCLI_DATA_DIR names, where it holds the real MNIST."""
    directory = Path(os.environ.get("MNISTCLI_DATA_DIR", ""))
    if not (directory / "mnist.npz").is_file():
        pytest.skip("MNISTCLI_DATA_DIR names no folder with mnist.npz")
    return directory


@pytest.fixture(scope="session", autouse=True)
def _start_tensorflow() -> None:
    """Give TensorFlow the commands' number of threads before a test starts it with another.

    And the processor as three devices: how many there are can be said only before it starts.
    """
    if "tensorflow" in sys.modules:
        from mnistcli.training.distributed.strategies import make_strategy, set_thread_count

        set_thread_count(count_processors())
        make_strategy(3)


@pytest.fixture(scope="session", autouse=True)
def _restore_sigint() -> None:
    """Make test processes receive SIGINT although they run in the background of a script."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def make_digits(count: int, seed: int) -> Split:
    """Drawn digits, every class equally often."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % 10).astype(np.uint8)
    return Split(draw_digits(labels, generator), labels)


@pytest.fixture(scope="session")
def digits() -> Split:
    """1,050 drawn digits: ten batches of 100 and a smaller one."""
    return make_digits(1050, seed=1)


@pytest.fixture(scope="session")
def digits_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose mnist.npz holds 1,050 + 200 drawn digits in MNIST's layout."""
    directory = tmp_path_factory.mktemp("data")
    train, test = make_digits(1050, seed=1), make_digits(200, seed=2)
    np.savez_compressed(
        directory / "mnist.npz",
        x_train=train.images,
        y_train=train.labels,
        x_test=test.images,
        y_test=test.labels,
    )
    return directory


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its answer under --json."""
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    digits_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Runs a command line in this process, in an empty directory, with drawn digits as MNIST."""
    from mnistcli.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNISTCLI_DATA_DIR", str(digits_directory))
    monkeypatch.setenv("MNISTCLI_OFFLINE", "1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path.parent / "keras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / "cache"))
    monkeypatch.setenv("MNISTCLI_PROGRAM_CACHE", "0")  # for processes of their own: see below

    def run_words(*words: object) -> Ended:
        capsys.readouterr()
        code = app.run([str(word) for word in words])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run_words


Train = Callable[..., Path]


@pytest.fixture(scope="session")
def _trained_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def train_once(run: Run, _trained_directory: Path) -> Train:
    """Trains on drawn digits, once a session for the same words; returns a copy: model.h5."""

    def train(*words: object, name: str = "model.h5") -> Path:
        kept = _trained_directory / f"{hashlib.sha256(repr(words).encode()).hexdigest()}.h5"
        if not kept.exists():
            ended = run("train", *words, "-q", "-o", kept)
            assert ended.code == 0, ended.err
        return Path(shutil.copy(kept, name))

    return train


def save_with_keras(network: Any, path: Path) -> Path:
    """Save a network as other people do; Keras' words about the format are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.save(path)
    return path


@pytest.fixture
def environment(run: Run) -> dict[str, str]:
    """The environment that `run` sees, for processes of their own, which share their programs."""
    del run
    changed = {"PYTHONPATH": str(SOURCE), "COLUMNS": "100", "MNISTCLI_PROGRAM_CACHE": "1"}
    return {**os.environ, **changed}


@pytest.fixture
def spawn(environment: dict[str, str]) -> Run:
    """Runs a command line in a process of its own, where the process is the subject."""

    def run_process(*words: object, **options: Any) -> Ended:
        command = [sys.executable, "-m", "mnistcli", *map(str, words)]
        merged = {**environment, **options.pop("env", {})}
        ended = subprocess.run(
            command, env=merged, capture_output=True, text=True, timeout=120, check=False, **options
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run_process
