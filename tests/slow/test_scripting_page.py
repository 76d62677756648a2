"""docs/scripting.md: every snippet does what the page says in a shell."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import make_digits

PAGE = (Path(__file__).parents[2] / "docs" / "scripting.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"(<!-- runs until it is stopped -->\n)?```sh\n(.*?)```", PAGE, re.DOTALL)
TOOLS = ("bash", "jq", "make", "script", "timeout", "watch", "xargs")
STOPPED = 124

pytestmark = pytest.mark.slow  # more than a dozen trainings


@pytest.fixture
def shell(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has installed mnistcli and has 6,000 digits as MNIST."""
    data, commands = tmp_path / "data", tmp_path / "bin"
    data.mkdir()
    commands.mkdir()
    train, test = make_digits(6000, seed=1), make_digits(500, seed=2)
    np.savez(
        data / "mnist.npz",
        x_train=train.images,
        y_train=train.labels,
        x_test=test.images,
        y_test=test.labels,
    )
    for name, words in (("mnistcli", "-m mnistcli"), ("python", "")):
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        command.chmod(0o755)
    path = f"{commands}:{environment['PATH']}"
    return {**environment, "PATH": path, "MNISTCLI_DATA_DIR": str(data), "TERM": "xterm"}


@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"
)
def test_every_snippet_runs_from_top_to_bottom(shell: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    outputs = {}
    for endless, text in SNIPPETS:
        command = ["bash", "-o", "pipefail", "-c", text]
        if endless:
            command = ["timeout", "-s", "TERM", "12", "script", "-qec", text, "/dev/null"]
        ended = subprocess.run(
            command, cwd=folder, env=shell, capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == (STOPPED if endless else 0), (text, ended.stderr)
        outputs[text.splitlines()[0]] = ended.stdout
    _check(outputs, folder)


def _check(outputs: dict[str, str], folder: Path) -> None:
    """Hold what the snippets printed against what the page promises."""
    assert outputs["set -e"] == "rate-0.01.h5\nrate-0.001.h5\n"
    listed = outputs["mnistcli ls rate-*.h5 --sort test.accuracy"]
    assert listed.count("rate-0.") == 2
    (best,) = (text for line, text in outputs.items() if line.startswith("best="))
    assert re.fullmatch(r"rate-0\.0+1\.h5\n", best)
    (mean,) = (text for line, text in outputs.items() if line.startswith("printf '%s\\n' 0 1 2"))
    assert '"n": 3' in mean
    assert (folder / "small.json").stat().st_size > 0
    assert outputs["code=0"].startswith("not a usable checkpoint: ")
    (pictures,) = (text for line, text in outputs.items() if line.startswith("python"))
    assert pictures == "2\n"
    (epochs,) = (text for line, text in outputs.items() if "live.h5" in line)
    assert [line.split()[0] for line in epochs.splitlines()] == ["1", "2"]
