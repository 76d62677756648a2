"""docs/python.md: its examples run in order, and mypy knows the types."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", PAGE, re.DOTALL)

TYPED = """
import mnistcli
import numpy as np
from numpy.typing import NDArray

trained: float = mnistcli.train("xor", epochs=2, output="xor.h5").test.accuracy
model = mnistcli.load("mlp.h5", dataset="mnist", data_dir="data")
predicted = model.predict(np.zeros((1, 28, 28), np.uint8))
classes: NDArray[np.int64] = predicted.classes
labels: tuple[str, ...] = predicted.labels
probabilities: NDArray[np.float32] = predicted.probabilities
loss: float | None = model.evaluate("test").loss
accuracy: float = mnistcli.evaluate("mlp.h5").results[0].accuracy
total: int = mnistcli.summarize("mnist-mlp").total_parameters
files = mnistcli.predict("mlp.h5", ["a.png"], prepare="resize").labels
reveal_type(model.history)
"""


def test_the_examples_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "docs/python.md", "exec"), names)
            continue
        for line in text.splitlines():
            program, *words = shlex.split(line)
            assert program == "mnistcli"
            assert run(*words).code == 0
    shown = capsys.readouterr().out
    assert "accuracy 0." in shown
    assert "no-such-file.h5 no such checkpoint" in shown


def test_the_types_are_known_to_mypy(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", str(example)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Success" in ended.stdout, ended.stdout
    assert "Mapping[str, tuple[float, ...]]" in ended.stdout.replace("builtins.", "")


def test_importing_takes_nothing_heavy(environment: dict[str, str]) -> None:
    program = (
        "import sys, mnistcli; assert mnistcli.__version__;"
        "loaded = {'numpy', 'pydantic', 'h5py', 'keras', 'tensorflow'} & set(sys.modules);"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
