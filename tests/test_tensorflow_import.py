"""Importing Keras and TensorFlow: quietly, and without packages they do not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Run

PROGRAM = """
import sys
from mnistcli import tensorflow_import
{begin}
tensorflow_import.load_backend()
import keras
sys.stderr.write("after\\n")
for name in ("torch", "matplotlib", "sklearn", "pandas"):
    assert name not in sys.modules, name
import torch
"""


@pytest.mark.parametrize("begin", ["", "tensorflow_import.start_loading()"])
def test_keras_is_imported_quietly_and_without_needless_libraries(
    run: Run, environment: dict[str, str], tmp_path: Path, begin: str
) -> None:
    for name in ("torch", "matplotlib", "sklearn", "pandas"):
        (tmp_path / f"{name}.py").write_text(f"print('{name} was imported')")
    path = f"{tmp_path}:{environment['PYTHONPATH']}"
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(begin=begin)],
        env={**environment, "PYTHONPATH": path, "KERAS_BACKEND": "torch"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "torch was imported\n"  # by the program itself, once it was free to
    assert ended.stderr == "after\n"


def test_settings_in_a_home_directory_change_nothing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "keras.json").write_text('{"floatx": "float16", "epsilon": 0.1}')
    program = (
        "from mnistcli.tensorflow_import import load_backend; load_backend();"
        "import keras; print(keras.config.floatx(), keras.config.epsilon())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "KERAS_HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == ("float32 1e-07\n", "")


WITHOUT_HOME = ("env", "-u", "HOME", "-u", "KERAS_HOME", "unshare", "--map-user=54321")


def test_a_user_without_a_home_gets_no_folder_named_after_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    if subprocess.run([*WITHOUT_HOME, "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare may not change the user here")
    program = """
import os
from mnistcli.tensorflow_import import load_backend
from mnistcli.user_folders import find_home

assert find_home() is None
load_backend()
print(sorted(os.listdir()))
"""
    ended = subprocess.run(
        [*WITHOUT_HOME, sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
