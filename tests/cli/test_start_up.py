"""What commands import when they start, which is most of their time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import Run


def test_cold_commands_never_import_tensorflow_matplotlib_or_optuna(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    assert run("train", "--epochs", 1, "-o", "model.h5", "-q").code == 0
    space = "search: {training.batch_size: [32, 64]}"
    Path("sweep.yaml").write_text(
        f"config: mnist-mlp\nset: {{dataset.validation: 0.1}}\n{space}\nsampler: grid\n"
    )
    for command in (
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["summary", "model.h5"],
        ["summary", "mnist-mlp"],
        ["ls"],
        ["evaluate", "model.h5"],
        ["compare", "model.h5", "model.h5"],
        ["predict", "model.h5", "--split", "test", "--first", "2"],
        ["plot", "weights", "model.h5", "--show"],
        ["data", "mnist", "--index", "0"],
        ["report", "model.h5"],
        ["sweep", "sweep.yaml", "--dry-run"],
    ):
        program = (
            "import sys; from mnistcli.cli import app; code = app.run(sys.argv[1:]);"
            "loaded = {'keras', 'tensorflow', 'matplotlib', 'optuna'} & set(sys.modules);"
            "sys.exit(f'{loaded} were imported' if loaded else code)"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program, *command],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, (command, ended.stderr)


def test_help_imports_neither_numpy_nor_h5py(environment: dict[str, str]) -> None:
    program = (
        "import sys; from mnistcli.cli import app; app.run(['--help']);"
        "loaded = {'numpy', 'h5py', 'PIL'} & set(sys.modules);"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
